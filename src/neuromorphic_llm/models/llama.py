"""The Llama family: configuration, tensor names and shapes, and the way GGUF spells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.reference.weights import DecoderConfig

ARCHITECTURE = "LlamaForCausalLM"
GGUF_ARCHITECTURE = "llama"

_GGUF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GGUF_TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}


def decoder_config(config: Mapping[str, Any], where: str) -> DecoderConfig:
    """Shape of the decoder that a Hugging Face Llama configuration describes.

    Raises CheckpointError naming the entry that is missing, not valid, or asks for something the network does not do.
    """
    _refuse_variants(config, where)
    try:
        heads, hidden = _integer(config, "num_attention_heads"), _integer(config, "hidden_size")
        rope = config.get("rope_parameters") or {}
        return DecoderConfig(
            vocab_size=_integer(config, "vocab_size"),
            hidden_size=hidden,
            intermediate_size=_integer(config, "intermediate_size"),
            layers=_integer(config, "num_hidden_layers"),
            heads=heads,
            kv_heads=_integer(config, "num_key_value_heads", heads),
            head_dim=_integer(config, "head_dim", hidden // heads),
            max_positions=_integer(config, "max_position_embeddings", 2048),
            rms_norm_eps=_number(config, "rms_norm_eps", 1e-6),
            rope_theta=_number(rope if rope.get("rope_theta") is not None else config, "rope_theta", 10000.0),
            tie_embeddings=_flag(config, "tie_word_embeddings"),
            bos_token_id=config.get("bos_token_id"),
            eos_token_ids=_eos_tokens(config),
        )
    except KeyError as error:
        raise CheckpointError(f"{where}: the configuration lacks {error.args[0]!r}; fetch the checkpoint again") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        advice = "correct its config.json or fetch the checkpoint again"
        raise CheckpointError(f"{where}: the configuration is not valid ({error}); {advice}") from error


def _integer(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A size; null counts as left out. KeyError if it is and has no default, ValueError for anything but a positive integer."""
    value = config[name] if default is None else config.get(name)
    if value is None and default is not None:
        return default
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return value


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def _flag(config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name)
    if value is not None and type(value) is not bool:
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return bool(value)


def _eos_tokens(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """Ids that end a text, one or a list in the file; DecoderConfig checks them."""
    eos = config.get("eos_token_id")
    return () if eos is None else tuple(eos) if isinstance(eos, list) else (eos,)


def _refuse_variants(config: Mapping[str, Any], where: str) -> None:
    for name in ("rope_scaling", "rope_parameters"):
        if not isinstance(config.get(name) or {}, dict):
            raise CheckpointError(f"{where}: {name} must be an object, got {config[name]!r}; correct its config.json")
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    variants = {
        f"rope scaling {rope_type!r}": rope_type != "default",
        "a partial rotary embedding": config.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0)) != 1.0,
        f"activation {config.get('hidden_act')!r}": config.get("hidden_act", "silu") not in ("silu", "swish"),
        "biases in the attention": bool(config.get("attention_bias")),
        "biases in the feed-forward layers": bool(config.get("mlp_bias")),
        "a sliding window": config.get("sliding_window") is not None,
        "quantised weights": config.get("quantization_config") is not None,
    }
    for variant, present in variants.items():
        if present:
            raise CheckpointError(f"{where}: {variant} is not supported; choose a Llama checkpoint without it")


def hugging_face_config(config: DecoderConfig) -> dict[str, Any]:
    """Content of the `config.json` that decoder_config reads back."""
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids) or None,
    }


def tensor_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Hugging Face name -> shape of every tensor; linear weights are [outputs, inputs]. `lm_head.weight` is always there."""
    hidden, query, key = config.hidden_size, config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": (hidden,),
            prefix + "self_attn.q_proj.weight": (query, hidden),
            prefix + "self_attn.k_proj.weight": (key, hidden),
            prefix + "self_attn.v_proj.weight": (key, hidden),
            prefix + "self_attn.o_proj.weight": (hidden, query),
            prefix + "post_attention_layernorm.weight": (hidden,),
            prefix + "mlp.gate_proj.weight": (config.intermediate_size, hidden),
            prefix + "mlp.up_proj.weight": (config.intermediate_size, hidden),
            prefix + "mlp.down_proj.weight": (hidden, config.intermediate_size),
        }
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (config.vocab_size, hidden)}


def from_gguf_name(name: str) -> str:
    """Hugging Face name of a GGUF tensor; a name that the family does not know comes back unchanged."""
    if name in _GGUF_TOP:
        return _GGUF_TOP[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _GGUF_LAYER:
        return f"model.layers.{parts[1]}.{_GGUF_LAYER[parts[2]]}.{parts[3]}"
    return name


def from_gguf_rows(name: str, weight: NDArray[np.float32], heads: int, kv_heads: int) -> NDArray[np.float32]:
    """Undo GGUF's row order of the query and key projections.

    GGUF interleaves the two halves of a head for its rotary embedding (row 2 j + s holds half s, index j); Hugging Face keeps the
    halves apart, as docs/reference/numerics.md does.
    """
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return weight
    count = heads if name.endswith("q_proj.weight") else kv_heads
    rows, inputs = weight.shape
    return weight.reshape(count, rows // count // 2, 2, inputs).swapaxes(1, 2).reshape(rows, inputs)


def config_from_gguf(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Hugging Face configuration of a GGUF file's metadata; `tie_word_embeddings` is left to the tensors.

    Raises CheckpointError for a missing entry and for variants that are not supported.
    """
    scaling = fields.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise CheckpointError(f"{where}: rope scaling {scaling!r} is not supported; choose a Llama checkpoint without it")
    if fields.get("llama.expert_count", 0):
        raise CheckpointError(f"{where}: a mixture of experts is not supported; choose a dense Llama checkpoint")
    try:
        hidden, heads = int(fields["llama.embedding_length"]), int(fields["llama.attention.head_count"])
        head_dim = int(fields.get("llama.attention.key_length", hidden // heads))
        if int(fields.get("llama.rope.dimension_count", head_dim)) != head_dim:
            raise CheckpointError(f"{where}: a partial rotary embedding is not supported; choose a Llama checkpoint without it")
        return {
            "architectures": [ARCHITECTURE],
            "model_type": "llama",
            "hidden_size": hidden,
            "intermediate_size": int(fields["llama.feed_forward_length"]),
            "num_hidden_layers": int(fields["llama.block_count"]),
            "num_attention_heads": heads,
            "num_key_value_heads": int(fields.get("llama.attention.head_count_kv", heads)),
            "head_dim": head_dim,
            "max_position_embeddings": int(fields["llama.context_length"]),
            "rms_norm_eps": float(fields["llama.attention.layer_norm_rms_epsilon"]),
            "rope_theta": float(fields.get("llama.rope.freq_base", 10000.0)),
            "hidden_act": "silu",
            "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
        }
    except KeyError as error:
        raise CheckpointError(f"{where}: the metadata lacks {error.args[0]!r}; fetch the file again") from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{where}: the metadata is not valid ({error}); fetch the file again") from error
