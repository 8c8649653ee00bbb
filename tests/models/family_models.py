"""A small random model of every family, made by transformers: odd sizes, grouped heads, biases and norms that are not the defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from neuromorphic_llm.models.families import FAMILIES
from neuromorphic_llm.models.tokenizer import byte_tokenizer_files

_COMMON = {
    "vocab_size": 261,
    "hidden_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
    "bos_token_id": None,
    "eos_token_id": 256,
    "pad_token_id": None,
}
_GATED = {**_COMMON, "intermediate_size": 52, "num_key_value_heads": 2}
_LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
_YARN = {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 32, "rope_theta": 5000.0}

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**_GATED, "head_dim": 14, "attention_bias": True, "mlp_bias": True}),
    "llama3": ("LlamaForCausalLM", {**_GATED, "rope_parameters": {**_LLAMA3, "rope_theta": 5000.0}, "hidden_act": "gelu"}),
    "llama-linear": ("LlamaForCausalLM", {**_GATED, "rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 900.0}}),
    "llama-yarn": ("LlamaForCausalLM", {**_GATED, "rope_parameters": _YARN}),
    "mistral": ("MistralForCausalLM", {**_GATED, "head_dim": 14, "sliding_window": 7}),
    "qwen2": ("Qwen2ForCausalLM", {**_GATED, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen3": ("Qwen3ForCausalLM", {**_GATED, "head_dim": 14, "attention_bias": True, "tie_word_embeddings": True}),
    "gemma2": (
        "Gemma2ForCausalLM",
        {
            **_GATED,
            "head_dim": 14,
            "sliding_window": 6,
            "query_pre_attn_scalar": 9,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "attention_bias": True,
        },
    ),
    "gemma3": (
        "Gemma3ForCausalLM",
        {
            **_GATED,
            "head_dim": 14,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 100_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
            },
            "final_logit_softcapping": 5.0,
        },
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        {
            "vocab_size": 261,
            "n_embd": 40,
            "n_layer": 3,
            "n_head": 4,
            "n_inner": 52,
            "n_positions": 96,
            "bos_token_id": None,
            "eos_token_id": 256,
            "scale_attn_by_inverse_layer_idx": True,
        },
    ),
    "opt": ("OPTForCausalLM", {**_COMMON, "ffn_dim": 52, "word_embed_proj_dim": 40}),
    "gptneox": (
        "GPTNeoXForCausalLM",
        {**_COMMON, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 52, "rope_parameters": {"rope_theta": 900.0}},
    ),
    "gptneox-serial": (
        "GPTNeoXForCausalLM",
        {
            **_COMMON,
            "intermediate_size": 52,
            "use_parallel_residual": False,
            "attention_bias": False,
            "rope_parameters": {"rope_theta": 900.0, "partial_rotary_factor": 1.0},
            "tie_word_embeddings": True,
        },
    ),
}
"""Name -> (architecture, configuration)."""


def family_model(name: str, seed: int = 0, **changes: Any) -> Any:
    """The model of SETTINGS with changed entries, float32, in eval mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    architecture, settings = SETTINGS[name]
    config = AutoConfig.for_model(FAMILIES[architecture].model_type, **{**settings, **changes})
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    ones = {id(module.weight) for module in model.modules() if "Norm" in type(module).__name__ and float(module.weight.mean()) == 1.0}
    for parameter in model.parameters():
        size = 0.25 if parameter.dim() == 1 else 1.2 * parameter.shape[-1] ** -0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * size + float(id(parameter) in ones))
    return model


def saved(model: Any, folder: Path, **options: Any) -> Path:
    """The folder that transformers writes, with a byte-level tokenizer."""
    model.save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for name, content in byte_tokenizer_files(261).items():
        (folder / name).write_bytes(content)
    return folder


def change_config(folder: Path, **changes: Any) -> Path:
    """Entries of a folder's config.json set anew; `...` leaves one out."""
    path = folder / "config.json"
    settings = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not ...}))
    return folder
