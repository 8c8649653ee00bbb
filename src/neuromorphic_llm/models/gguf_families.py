"""GGUF files, family by family: metadata, names and layouts as llama.cpp's converter writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.families import FAMILIES
from neuromorphic_llm.models.family import Family
from neuromorphic_llm.models.gguf_rotary import rotary_scaling
from neuromorphic_llm.reference.config import DecoderConfig

Weights = NDArray[np.float32]

ROTARY_FACTORS = "rope_freqs.weight"

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

_OPTIONAL = {
    "attention.head_count_kv",
    "attention.key_length",
    "rope.freq_base",
    "rope.freq_base_swa",
    "attention.sliding_window",
    "attn_logit_softcapping",
    "final_logit_softcapping",
}
"""Keys that may be left out; llama.cpp then takes what the families' classes take, or what `finish` sets."""

_NEUTRAL = {"expert_count": 0, "expert_used_count": 0, "attention.causal": True, "pooling_type": 0}
"""Keys of every architecture that mean another model -> the value with which they mean nothing."""

_GEMMA_27B = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models: the only ones whose score scale is not that of the head size, which GGUF files do not say."""


@dataclass(frozen=True)
class Spelling:
    """Names and layouts of one family in GGUF files."""

    family: Family
    gguf_architecture: str  # member of gguf.MODEL_ARCH
    entries: Mapping[str, str]
    finish: Callable[[dict[str, Any], dict[str, Any]], None] | None = None
    """Adds entries that follow from others; takes what it uses out of `rest` (metadata that `entries` does not name)."""
    layout: Callable[[str, Weights, DecoderConfig], Weights] | None = None
    """(Hugging Face name, weights, configuration) -> weights in the family's own layout."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    biases: Mapping[str, str] = field(default_factory=dict)
    """Entry -> tensor whose presence says it."""
    rotary_factors: bool = False
    """True if the architecture reads `rope_freqs.weight`."""
    tied: bool = True
    """True if the embedding is the head where there is no `output.weight`."""


def _head_size(settings: dict[str, Any], rest: dict[str, Any]) -> None:
    """Keys that repeat the head size; a ValueError if one differs from it."""
    size = settings.get("head_dim", settings["hidden_size"] // settings["num_attention_heads"])
    settings["head_dim"] = size
    settings.setdefault("num_key_value_heads", settings["num_attention_heads"])
    for key in ("rope.dimension_count", "attention.value_length"):
        if rest.pop(key, size) != size:
            raise ValueError(f"{key} is not the head size {size}")


def _llama(settings: dict[str, Any], rest: dict[str, Any]) -> None:
    _head_size(settings, rest)
    rest.pop("tensor_data_layout", None)  # early files say how rows of q and k lie, which is always the same
    window = rest.get("attention.sliding_window", 0)
    if window == 0 or (isinstance(window, int) and window >= settings["max_position_embeddings"]):
        rest.pop("attention.sliding_window", None)


def _gemma(settings: dict[str, Any], rest: dict[str, Any]) -> None:
    _head_size(settings, rest)
    large = settings["num_hidden_layers"] == _GEMMA_27B["gemma3" if settings["model_type"] == "gemma3_text" else "gemma2"]
    per_head = settings["hidden_size"] // settings["num_attention_heads"]
    settings["query_pre_attn_scalar"] = per_head if large else settings["head_dim"]


def _gemma2(settings: dict[str, Any], rest: dict[str, Any]) -> None:
    _gemma(settings, rest)
    if rest.get("rope.scaling.type") == "none" and {"rope.scaling.factor", "rope.scale_linear"} & rest.keys():
        raise ValueError("a factor beside rope.scaling.type 'none' is not supported: in llama.cpp it scales the layers with a window")


def _gemma3(settings: dict[str, Any], rest: dict[str, Any]) -> None:
    _gemma(settings, rest)
    settings.setdefault("rope_theta", 10000.0)
    if not settings.get("sliding_window"):
        settings.pop("sliding_window", None)
        settings["layer_types"] = ["full_attention"] * settings["num_hidden_layers"]


def _gptneox(settings: dict[str, Any], rest: dict[str, Any]) -> None:
    settings["rotary_pct"] = rest.pop("rope.dimension_count") / (settings["hidden_size"] // settings["num_attention_heads"])


def _halves_apart(name: str, weight: Weights, config: DecoderConfig) -> Weights:
    """Rows of q and k lie in pairs (row 2 j + s of a head: half s, index j); the halves of a head come apart, as in numerics.md."""
    if ".q_proj." not in name and ".k_proj." not in name:
        return weight
    heads = config.heads if ".q_proj." in name else config.kv_heads
    if len(weight) % (2 * heads):
        return weight  # a shape that is refused
    return weight.reshape(heads, -1, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _gains_less_one(name: str, weight: Weights, config: DecoderConfig) -> Weights:
    return weight - np.float32(1.0) if name.endswith("norm.weight") else weight


def _inputs_first(name: str, weight: Weights, config: DecoderConfig) -> Weights:
    return weight.T if ".h." in name and weight.ndim == 2 else weight


def _head_by_head(name: str, weight: Weights, config: DecoderConfig) -> Weights:
    """Rows of q, k, v one after the other become [heads, 3, head_dim]."""
    if ".query_key_value." not in name:
        return weight
    return weight.reshape(3, config.heads, -1, *weight.shape[1:]).swapaxes(0, 1).reshape(weight.shape)


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
_NO_WINDOW = {"use_sliding_window": False}

SPELLINGS = {
    "llama": Spelling(
        FAMILIES["LlamaForCausalLM"],
        "LLAMA",
        _COMMON,
        _llama,
        _halves_apart,
        fixed={"hidden_act": "silu"},
        biases={"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_gate.bias"},
        rotary_factors=True,
    ),
    "qwen2": Spelling(FAMILIES["Qwen2ForCausalLM"], "QWEN2", _COMMON, _head_size, fixed=_NO_WINDOW),
    "qwen3": Spelling(
        FAMILIES["Qwen3ForCausalLM"], "QWEN3", _COMMON, _head_size, fixed=_NO_WINDOW, biases={"attention_bias": "blk.0.attn_q.bias"}
    ),
    "gemma2": Spelling(
        FAMILIES["Gemma2ForCausalLM"], "GEMMA2", {**_GEMMA, "attn_logit_softcapping": "attn_logit_softcapping"}, _gemma2, _gains_less_one
    ),
    "gemma3": Spelling(
        FAMILIES["Gemma3ForCausalLM"], "GEMMA3", {**_GEMMA, "rope.freq_base_swa": "rope_local_base_freq"}, _gemma3, _gains_less_one
    ),
    "gpt2": Spelling(FAMILIES["GPT2LMHeadModel"], "GPT2", _GPT2, layout=_inputs_first),
    "gptneox": Spelling(
        FAMILIES["GPTNeoXForCausalLM"],
        "GPTNEOX",
        _NEOX,
        _gptneox,
        _head_by_head,
        biases={"attention_bias": "blk.0.attn_qkv.bias"},
        tied=False,
    ),
}
"""`general.architecture` -> spelling."""


def read_family(fields: Mapping[str, Any], stored: Mapping[str, Weights], where: str) -> tuple[dict[str, Any], dict[str, Weights]]:
    """Hugging Face configuration and tensors of a GGUF file's metadata and dequantised tensors, both by their GGUF names.

    Tensors that the family does not know keep their names. Raises CheckpointError for metadata that is missing, damaged or not known.
    """
    spelling, rest = SPELLINGS[fields["general.architecture"]], dict(stored)
    factors = rest.pop(ROTARY_FACTORS, None) if spelling.rotary_factors else None
    settings = _settings(spelling, fields, factors, where)
    if "token_embd.weight" not in rest:
        raise CheckpointError(f"{where} holds no tensor 'token_embd.weight'; fetch the file again")
    settings["vocab_size"] = int(rest["token_embd.weight"].shape[0])
    settings["tie_word_embeddings"] = spelling.tied and "output.weight" not in rest
    settings |= {entry: tensor in rest for entry, tensor in spelling.biases.items()}
    config, shapes, _ = spelling.family.read(settings, where)
    names = _gguf_names(spelling, list(shapes), config.layers)
    if foreign := sorted(set(rest) & set(names.values())):
        raise CheckpointError(f"{where}: tensor {foreign[0]!r} has no name of GGUF files; choose another file")
    tensors = {names.get(name, name): weight for name, weight in rest.items()}
    if spelling.layout is not None:
        tensors = {name: spelling.layout(name, weight, config) for name, weight in tensors.items()}
    return settings, tensors


def _settings(spelling: Spelling, fields: Mapping[str, Any], factors: Weights | None, where: str) -> dict[str, Any]:
    prefix = f"{fields['general.architecture']}."
    rest = {key.removeprefix(prefix): _of_all_layers(value) for key, value in fields.items() if key.startswith(prefix)}
    rest.pop("vocab_size", None)  # that of the embedding counts
    for key, neutral in _NEUTRAL.items():
        if key in rest and rest[key] == neutral:
            del rest[key]
    if missing := [key for key in spelling.entries if key not in rest and key not in _OPTIONAL]:
        raise CheckpointError(f"{where}: the metadata lacks {prefix + missing[0]!r}; fetch the file again")
    settings: dict[str, Any] = {"architectures": [spelling.family.architecture], "model_type": spelling.family.model_type, **spelling.fixed}
    settings |= {entry: rest.pop(key) for key, entry in spelling.entries.items() if key in rest}
    for entry in ("bos_token_id", "eos_token_id"):
        settings[entry] = fields.get(f"tokenizer.ggml.{entry}")
    try:
        if spelling.finish is not None:
            spelling.finish(settings, rest)
        context = settings[spelling.entries["context_length"]]
        if scaling := rotary_scaling(rest, context, settings.get("head_dim", 0), factors):
            settings["rope_scaling"] = scaling
    except KeyError as error:
        raise CheckpointError(f"{where}: the metadata lacks {prefix}{error.args[0]}; fetch the file again") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{where}: the metadata is not valid ({error}); choose another file") from error
    if rest:
        key = min(rest)
        raise CheckpointError(f"{where}: metadata {prefix}{key} = {_short(rest[key])} is not supported; choose a checkpoint without it")
    return settings


def _of_all_layers(value: Any) -> Any:
    """A list with a value for each layer, all the same, as that value."""
    return value[0] if isinstance(value, list) and value and all(item == value[0] for item in value) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _gguf_names(spelling: Spelling, names: list[str], layers: int) -> dict[str, str]:
    """GGUF name -> Hugging Face name."""
    import gguf

    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[spelling.gguf_architecture], layers)
    return {table.get_name(name, try_suffixes=(".weight", ".bias")) or "output.weight": name for name in names}
