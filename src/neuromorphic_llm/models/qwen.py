"""The Qwen family: Qwen2 with biases of q, k and v, Qwen3 with norms of q and k per head."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from neuromorphic_llm.models.entries import Entries
from neuromorphic_llm.models.family import read_windows
from neuromorphic_llm.models.llama import ATTENTION, Llama


class Qwen2(Llama):
    """Llama with biases of q, k and v, and windows in the upper layers if asked for."""

    architecture, model_type, tokenizer_class = "Qwen2ForCausalLM", "qwen2", "Qwen2Tokenizer"
    max_positions = 32_768
    always_biased = ATTENTION[:3]
    biased_by = MappingProxyType({})

    def windows(self, entries: Entries, layers: int) -> tuple[int, ...]:
        size = entries.optional_integer("sliding_window", 4096) if entries.flag("use_sliding_window") else None
        first = entries.natural("max_window_layers", 28)
        return read_windows(entries, layers, size, [size is not None and layer >= first for layer in range(layers)])


class Qwen3(Qwen2):
    """Norms of q and k per head; biases of the attention only if asked for."""

    architecture, model_type = "Qwen3ForCausalLM", "qwen3"
    default_head_dim = 128
    always_biased = ()
    biased_by = MappingProxyType({"attention_bias": ATTENTION})

    def fields(self, entries: Entries) -> dict[str, Any]:
        return {**super().fields(entries), "query_key_norm": True}
