"""GGUF files of the families other than Llama: metadata, names and layouts as llama.cpp's converter writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.families import FAMILIES
from neuromorphic_llm.models.family import Family

Weights = NDArray[np.float32]

_COMMON = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
}
"""Metadata key without the architecture -> entry of the Hugging Face configuration."""

_SCALING = {"factor": "factor", "original_context_length": "original_max_position_embeddings"}
"""Keys behind `rope.scaling.`; `finetuned` means nothing for inference."""

_GEMMA_27B = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models: the only ones whose score scale is not that of the head size, which GGUF files do not say."""


@dataclass(frozen=True)
class Spelling:
    """How GGUF files spell one family."""

    family: Family
    gguf_architecture: str  # member of gguf.MODEL_ARCH
    entries: Mapping[str, str]
    finish: Callable[[dict[str, Any], dict[str, Any]], None] | None = None
    """Adds entries that follow from others; takes what it uses out of `rest` (metadata that `entries` does not name)."""
    layout: Callable[[str, Weights, int], Weights] | None = None
    """(Hugging Face name, weights, heads) -> weights in the family's own layout."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    optional_bias: str | None = None  # attention projection whose bias says `attention_bias`


def _head_size(settings: dict[str, Any], rest: dict[str, Any]) -> None:
    """Keys that repeat the head size; a ValueError if one differs from it."""
    size = settings.get("head_dim", settings["hidden_size"] // settings["num_attention_heads"])
    settings["head_dim"] = size
    for key in ("rope.dimension_count", "attention.value_length"):
        if rest.pop(key, size) != size:
            raise ValueError(f"{key} is not the head size {size}")


def _gemma(settings: dict[str, Any], rest: dict[str, Any]) -> None:
    _head_size(settings, rest)
    large = settings["num_hidden_layers"] == _GEMMA_27B["gemma3" if settings["model_type"] == "gemma3_text" else "gemma2"]
    per_head = settings["hidden_size"] // settings["num_attention_heads"]
    settings["query_pre_attn_scalar"] = per_head if large else settings["head_dim"]


def _gptneox(settings: dict[str, Any], rest: dict[str, Any]) -> None:
    settings["rotary_pct"] = rest.pop("rope.dimension_count") / (settings["hidden_size"] // settings["num_attention_heads"])


def _gains_less_one(name: str, weight: Weights, heads: int) -> Weights:
    return weight - np.float32(1.0) if name.endswith("norm.weight") else weight


def _inputs_first(name: str, weight: Weights, heads: int) -> Weights:
    return weight.T if ".h." in name and weight.ndim == 2 else weight


def _head_by_head(name: str, weight: Weights, heads: int) -> Weights:
    """Rows of q, k, v one after the other become [heads, 3, head_dim]."""
    if ".query_key_value." not in name:
        return weight
    return weight.reshape(3, heads, -1, *weight.shape[1:]).swapaxes(0, 1).reshape(weight.shape)


_GEMMA = {**_COMMON, "attention.sliding_window": "sliding_window", "final_logit_softcapping": "final_logit_softcapping"}
_GPT2 = {
    "context_length": "n_positions",
    "block_count": "n_layer",
    "feed_forward_length": "n_inner",
    "embedding_length": "n_embd",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
}
_NEOX = {
    key: entry for key, entry in _COMMON.items() if key.split(".")[-1] not in ("head_count_kv", "layer_norm_rms_epsilon", "key_length")
}
_NEOX |= {
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "rope.freq_base": "rotary_emb_base",
    "use_parallel_residual": "use_parallel_residual",
}

SPELLINGS = {
    "qwen2": Spelling(FAMILIES["Qwen2ForCausalLM"], "QWEN2", _COMMON, _head_size, fixed={"use_sliding_window": False}),
    "qwen3": Spelling(
        FAMILIES["Qwen3ForCausalLM"], "QWEN3", _COMMON, _head_size, fixed={"use_sliding_window": False}, optional_bias="blk.0.attn_q.bias"
    ),
    "gemma2": Spelling(
        FAMILIES["Gemma2ForCausalLM"], "GEMMA2", {**_GEMMA, "attn_logit_softcapping": "attn_logit_softcapping"}, _gemma, _gains_less_one
    ),
    "gemma3": Spelling(
        FAMILIES["Gemma3ForCausalLM"], "GEMMA3", {**_GEMMA, "rope.freq_base_swa": "rope_local_base_freq"}, _gemma, _gains_less_one
    ),
    "gpt2": Spelling(FAMILIES["GPT2LMHeadModel"], "GPT2", _GPT2, layout=_inputs_first),
    "gptneox": Spelling(FAMILIES["GPTNeoXForCausalLM"], "GPTNEOX", _NEOX, _gptneox, _head_by_head, optional_bias="blk.0.attn_qkv.bias"),
}
"""`general.architecture` -> spelling."""


def read_family(fields: Mapping[str, Any], stored: Mapping[str, Weights], where: str) -> tuple[dict[str, Any], dict[str, Weights]]:
    """Hugging Face configuration and tensors of a GGUF file's metadata and dequantised tensors, both by their GGUF names.

    Tensors that the family does not know keep their names. Raises CheckpointError for metadata that is missing, damaged or not known.
    """
    spelling = SPELLINGS[fields["general.architecture"]]
    settings = _settings(spelling, fields, where)
    if "token_embd.weight" not in stored:
        raise CheckpointError(f"{where} holds no tensor 'token_embd.weight'; fetch the file again")
    settings["vocab_size"] = int(stored["token_embd.weight"].shape[0])
    settings["tie_word_embeddings"] = "output.weight" not in stored
    if spelling.optional_bias is not None:
        settings["attention_bias"] = spelling.optional_bias in stored
    config, shapes, _ = spelling.family.read(settings, where)
    names = _gguf_names(spelling, list(shapes), config.layers)
    tensors = {names.get(name, name): weight for name, weight in stored.items()}
    if spelling.layout is not None:
        tensors = {name: spelling.layout(name, weight, config.heads) for name, weight in tensors.items()}
    return settings, tensors


def _settings(spelling: Spelling, fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    prefix = f"{fields['general.architecture']}."
    rest = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    rest.pop("vocab_size", None)  # that of the embedding counts
    settings: dict[str, Any] = {"architectures": [spelling.family.architecture], "model_type": spelling.family.model_type, **spelling.fixed}
    settings |= {entry: rest.pop(key) for key, entry in spelling.entries.items() if key in rest}
    for entry in ("bos_token_id", "eos_token_id"):
        settings[entry] = fields.get(f"tokenizer.ggml.{entry}")
    try:
        if scaling := _scaling(rest):
            settings["rope_scaling"] = scaling
        if spelling.finish is not None:
            spelling.finish(settings, rest)
    except KeyError as error:
        raise CheckpointError(f"{where}: the metadata lacks {error.args[0]!r}; fetch the file again") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{where}: the metadata is not valid ({error}); fetch the file again") from error
    if rest:
        raise CheckpointError(f"{where}: metadata {prefix}{min(rest)} is not supported; choose a checkpoint without it")
    return settings


def _scaling(rest: dict[str, Any]) -> dict[str, Any]:
    """Rotary scaling as a Hugging Face entry; empty if there is none."""
    prefix = "rope.scaling."
    kind = rest.pop(prefix + "type", "none")
    rest.pop(prefix + "finetuned", None)
    found = {entry: rest.pop(prefix + key) for key, entry in _SCALING.items() if prefix + key in rest}
    return {} if kind == "none" else {"rope_type": kind, **found}


def _gguf_names(spelling: Spelling, names: list[str], layers: int) -> dict[str, str]:
    """GGUF name -> Hugging Face name."""
    import gguf

    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[spelling.gguf_architecture], layers)
    return {table.get_name(name, try_suffixes=(".weight", ".bias")) or "output.weight": name for name in names}
