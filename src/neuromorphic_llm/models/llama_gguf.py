"""Llama decoders in GGUF files: their names, metadata and order of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.llama import ARCHITECTURE

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


def from_gguf_name(name: str) -> str:
    """Hugging Face name of a GGUF tensor; a name that the family does not know comes back unchanged."""
    if name in _GGUF_TOP:
        return _GGUF_TOP[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _GGUF_LAYER:
        return f"model.layers.{parts[1]}.{_GGUF_LAYER[parts[2]]}.{parts[3]}"
    return name


def read_llama(
    fields: Mapping[str, Any], stored: Mapping[str, NDArray[np.float32]], where: str
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Hugging Face configuration and tensors of a GGUF file's metadata and dequantised tensors, both by their GGUF names."""
    config = config_from_gguf(fields, where)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    named = {from_gguf_name(name): weight for name, weight in stored.items()}
    if "model.embed_tokens.weight" not in named:
        raise CheckpointError(f"{where} holds no tensor 'token_embd.weight'; fetch the file again")
    config["vocab_size"] = int(named["model.embed_tokens.weight"].shape[0])
    config["tie_word_embeddings"] = "lm_head.weight" not in named
    for entry, projection in (("attention_bias", "self_attn.q_proj"), ("mlp_bias", "mlp.gate_proj")):
        if f"model.layers.0.{projection}.bias" in named:
            config[entry] = True
    return config, {name: from_gguf_rows(name, weight, heads, kv_heads) for name, weight in named.items()}


def from_gguf_rows(name: str, weight: NDArray[np.float32], heads: int, kv_heads: int) -> NDArray[np.float32]:
    """Undo GGUF's row order of the query and key projections.

    GGUF interleaves the two halves of a head for its rotary embedding (row 2 j + s holds half s, index j); Hugging Face keeps the
    halves apart, as docs/reference/numerics.md does.
    """
    if ".q_proj." not in name and ".k_proj." not in name:
        return weight
    count = heads if ".q_proj." in name else kv_heads
    return weight.reshape(count, len(weight) // count // 2, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


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
