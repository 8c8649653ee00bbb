"""Small random models as GGUF files, in the layouts and with the metadata that llama.cpp's converter writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

# What GGUF files cannot say, or say by the size of the model, is as in the published ones.
CHANGES: dict[str, dict[str, Any]] = {
    "llama": {},  # with biases
    "qwen2": {"use_sliding_window": False},
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 14, "attention_bias": False},
    "gemma3": {
        "query_pre_attn_scalar": 14,
        "layer_types": None,
        "final_logit_softcapping": None,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
        },
    },
    "gpt2": {"scale_attn_by_inverse_layer_idx": False},
    "gptneox": {},
}


def metadata(name: str, config: Any) -> dict[str, Any]:
    """Metadata of a model as llama.cpp's converter names it, without the architecture."""
    entries = {
        "context_length": config.max_position_embeddings,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "attention.head_count": config.num_attention_heads,
        "vocab_size": config.vocab_size,
    }
    if name == "gpt2":
        return {**entries, "feed_forward_length": config.n_inner or 4 * config.n_embd, "attention.layer_norm_epsilon": 1e-5}
    entries["feed_forward_length"] = config.intermediate_size
    if name == "gptneox":
        return {
            **entries,
            "rope.dimension_count": 4,
            "rope.freq_base": 900.0,
            "attention.layer_norm_epsilon": 1e-5,
            "use_parallel_residual": True,
        }
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    entries |= {"attention.head_count_kv": config.num_key_value_heads, "attention.layer_norm_rms_epsilon": config.rms_norm_eps}
    entries |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    if name.startswith("gemma"):
        entries |= {"attention.sliding_window": config.sliding_window}
    if name == "gemma2":
        entries |= {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
    if name == "gemma3":
        return entries | {"rope.freq_base": 1e6, "rope.freq_base_swa": 700.0, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    return {**entries, "rope.freq_base": config.rope_parameters["rope_theta"]}


def stored(name: str, key: str, weight: torch.Tensor, half: int = 7) -> torch.Tensor:
    """A weight in the layout of GGUF files; `half`: half a head of Llama."""
    if name.startswith("gemma") and key.endswith("norm.weight"):
        return weight + 1.0
    if name == "gpt2" and any(part in key for part in ("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return weight.T.contiguous()
    if name == "llama" and (".q_proj." in key or ".k_proj." in key):
        return weight.unflatten(0, (-1, 2, half)).transpose(1, 2).flatten(0, 2)  # halves of a head interleaved
    if name == "gptneox" and "query_key_value" in key:
        heads = weight.unflatten(0, (3, 3, 16))  # heads, then q, k, v
        return torch.cat([heads[:, part].flatten(0, 1) for part in range(3)])
    return weight


def write_gguf(
    name: str,
    model: Any,
    path: Path,
    tensors: Mapping[str, NDArray[np.float32] | None] | None = None,
    general: Mapping[str, Any] | None = None,
    vocabulary: str | None = None,
    endian: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE,
    interleaved: int = 7,
    **changes: Any,
) -> Path:
    """The model as a float32 GGUF file with changed metadata; `...` leaves an entry out, and so does None a tensor.

    `changes` are keys of the architecture with `__` for a dot, `general` whole keys. `vocabulary` is the tokenizer's model, if it has one,
    `interleaved` half the head size of a Llama.
    """
    writer = gguf.GGUFWriter(path, name, endianess=endian)
    own = {**metadata(name, model.config), **{key.replace("__", "."): value for key, value in changes.items()}}
    for key, value in {**{f"{name}.{key}": value for key, value in own.items()}, **(general or {})}.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not ...:
            {int: writer.add_uint32, float: writer.add_float32, bool: writer.add_bool, str: writer.add_string}[type(value)](key, value)
    _add_tokens(writer, model.config.vocab_size, vocabulary)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[name.upper()], model.config.num_hidden_layers)
    own_tensors = {
        names.get_name(key, try_suffixes=(".weight", ".bias")) or "output.weight": stored(name, key, weight, interleaved).numpy()
        for key, weight in model.state_dict().items()
        if key != "lm_head.weight" or not model.config.tie_word_embeddings
    }
    for key, tensor in {**own_tensors, **(tensors or {})}.items():
        if tensor is not None:
            writer.add_tensor(key, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokens(writer: gguf.GGUFWriter, count: int, vocabulary: str | None) -> None:
    if vocabulary is None:
        writer.add_token_list([str(token) for token in range(count)])
        writer.add_eos_token_id(256)
        return
    writer.add_tokenizer_model(vocabulary)
    special: Collection[str] = ["<unk>", "<s>", "</s>"]
    writer.add_token_list([*special, *(f"\u2581w{token}" for token in range(3, count))])
    writer.add_token_scores([0.0] * count)
    writer.add_token_types([2, 3, 3] + [1] * (count - 3))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
