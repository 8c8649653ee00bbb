"""Biases of keys and values that attention does not need (docs/reference/families.md, Biases of keys and values)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from neuromorphic_llm.models.canonical import frequencies_name
from neuromorphic_llm.reference.config import DecoderConfig


def without_idle_biases(config: DecoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Canonical tensors that predict the same, with the biases of values in the output projection and idle biases of keys zero.

    Probabilities sum to one, so a bias of the values passes attention as it is. In a pair that is not rotated a bias of the keys adds the
    same to all scores of a query, which the softmax does not see; a soft cap or a norm of the keys would.
    """
    result = dict(tensors)
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}.self_attn."
        value_bias = result.pop(prefix + "v_proj.bias", None)
        if value_bias is not None:
            weight, bias = result[prefix + "o_proj.weight"].double(), result.get(prefix + "o_proj.bias")
            by_head = value_bias.double().view(config.kv_heads, 1, config.head_dim).expand(-1, config.heads // config.kv_heads, -1)
            passed = weight @ by_head.reshape(-1)
            result[prefix + "o_proj.bias"] = (passed if bias is None else bias.double() + passed).float()
        key_bias = result.get(prefix + "k_proj.bias")
        if key_bias is not None and not (config.attention_softcap or config.query_key_norm):
            turns = (result[frequencies_name(config, layer)] != 0).repeat(2)
            kept = torch.where(turns, key_bias.view(config.kv_heads, config.head_dim), 0.0).reshape(-1)
            if kept.any():
                result[prefix + "k_proj.bias"] = kept
            else:
                del result[prefix + "k_proj.bias"]
    return result
