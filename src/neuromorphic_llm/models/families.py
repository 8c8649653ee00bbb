"""The families, by the name of their architecture in transformers."""

from __future__ import annotations

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.family import Family
from neuromorphic_llm.models.gemma import Gemma2, Gemma3
from neuromorphic_llm.models.gpt2 import GPT2
from neuromorphic_llm.models.gptneox import GPTNeoX
from neuromorphic_llm.models.llama import Llama, Mistral
from neuromorphic_llm.models.opt import OPT
from neuromorphic_llm.models.qwen import Qwen2, Qwen3
from neuromorphic_llm.registry import Registry

_ALL = (Llama(), Mistral(), Qwen2(), Qwen3(), Gemma2(), Gemma3(), GPT2(), OPT(), GPTNeoX())

FAMILIES: Registry[Family] = Registry("architecture", ((family.architecture, family) for family in _ALL), error=CheckpointError)
"""Architecture -> family."""
