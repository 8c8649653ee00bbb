"""Attention and feed-forward in floating point, and their integers (docs/reference/families.md, conversion.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from neuromorphic_llm.conversion.float_decoder import LOG2_E, LayerRun, rotate
from neuromorphic_llm.conversion.integers import Converter
from neuromorphic_llm.reference.blocks import Attention, FeedForward

_LN_2 = math.log(2.0)

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
}


class FloatAttention:
    """Attention of canonical decoders."""

    def forward(self, run: LayerRun, block: Attention, x: Tensor, before: Tensor) -> Tensor:  # noqa: ARG002 - it is not parallel
        """Residual stream [batch, tokens, hidden] after the block."""
        decoder, observer = run.decoder, run.observer
        config, number, prefix = decoder.config, block.layer, f"model.layers.{block.layer}."
        y = observer.site(config.site(f"{block.prefix}.qkv").index, decoder.norm(prefix + "input_layernorm", x))
        heads = []
        for name, what in (("q", "query"), ("k", "key"), ("v", "value")):
            projected = decoder.linear(f"{prefix}self_attn.{name}_proj", y)
            observer.value(what, number, projected)
            heads.append(projected.view(*y.shape[:2], -1, block.head_dim).transpose(1, 2))
        q, k, v = heads
        if block.query_key_norm:
            q, k = decoder.norm(prefix + "self_attn.q_norm", q), decoder.norm(prefix + "self_attn.k_norm", k)
        q, k = rotate(q, *run.tables) * (LOG2_E * config.query_scale), rotate(k, *run.tables)
        observer.value("key", number, k)
        o = _attended(block, observer.query(number, q), k, v).transpose(1, 2).flatten(2)
        o = decoder.linear(prefix + "self_attn.o_proj", observer.site(config.site(f"{block.prefix}.output").index, o))
        if block.output_norm:
            observer.value("attention_output", number, o)
            o = decoder.norm(prefix + "attention_output_norm", o)
        return x + o

    def integers(self, converter: Converter, block: Attention) -> dict[str, Any]:
        """Parameters and sites by their names in the layer."""
        config, formats, number = converter.config, converter.formats, block.layer
        key, prefix = block.prefix, f"model.layers.{number}."
        query_scale = LOG2_E * config.query_scale
        qkv_scale = np.ones(config.site(f"{key}.qkv").outputs)
        if not block.query_key_norm:  # which has it in its gain
            qkv_scale[: block.queries] = query_scale
        value_bits = np.ceil(np.log2(np.maximum(converter.calibration.value_max[number], 1e-9) * 2.0**formats.qkv)).astype(int)
        found = {
            "attention_gain": converter.gain(f"{prefix}input_layernorm.weight"),
            "qkv": converter.site(f"{key}.qkv", prefix, [f"self_attn.{part}_proj" for part in "qkv"], qkv_scale),
            "query_stop": np.zeros((block.heads, block.head_dim), np.int32),
            "value_base": np.maximum(value_bits - 9, 0).astype(np.int32),
            "output": converter.site(f"{key}.output", prefix, ["self_attn.o_proj"]),
            "attention_spiking": converter.spiking["attention"],
            "key_offset": converter.key_offset(number),
        }
        if block.query_key_norm:
            found["query_gain"] = converter.gain(f"{prefix}self_attn.q_norm.weight", query_scale)
            found["key_gain"] = converter.gain(f"{prefix}self_attn.k_norm.weight")
        if block.output_norm:
            found["attention_output_gain"] = converter.gain(f"{prefix}attention_output_norm.weight")
        return found


def _attended(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention within the block's window; q scaled for base-2 logarithms. All [batch, heads, tokens, head_dim]."""
    tokens, window, cap = q.shape[2], block.window, block.softcap
    if block.kv_heads < block.heads:
        k, v = (part.repeat_interleave(block.heads // block.kv_heads, 1) for part in (k, v))
    if not cap and not 0 < window < tokens:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=_LN_2)
    age = torch.arange(tokens, device=q.device)[:, None] - torch.arange(tokens, device=q.device)
    seen = (age >= 0) & (age < window) if window else age >= 0
    if not cap:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=_LN_2)
    score = cap * torch.tanh(q @ k.transpose(2, 3) * (_LN_2 / cap))
    return score.masked_fill(~seen, -math.inf).softmax(-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype) @ v


class FloatFeedForward:
    """Feed-forward of canonical decoders."""

    def forward(self, run: LayerRun, block: FeedForward, x: Tensor, before: Tensor) -> Tensor:
        """Residual stream [batch, tokens, hidden] after the block."""
        decoder, observer = run.decoder, run.observer
        config, number, prefix = decoder.config, block.layer, f"model.layers.{block.layer}."
        y = decoder.norm(prefix + "post_attention_layernorm", before if block.parallel else x)
        y = observer.site(config.site(f"{block.prefix}.gate_up").index, y)
        gate = decoder.linear(prefix + "mlp.gate_proj", y)
        observer.value("gate", number, gate)
        h = _ACTIVATIONS[block.activation](gate)
        if block.gated:
            up = decoder.linear(prefix + "mlp.up_proj", y)
            observer.value("gate", number, up)
            h = h * up
        d = decoder.linear(prefix + "mlp.down_proj", observer.site(config.site(f"{block.prefix}.down").index, h))
        if block.output_norm:
            observer.value("feed_forward_output", number, d)
            d = decoder.norm(prefix + "feed_forward_output_norm", d)
        return x + d

    def integers(self, converter: Converter, block: FeedForward) -> dict[str, Any]:
        """Parameters and sites by their names in the layer."""
        key, prefix = block.prefix, f"model.layers.{block.layer}."
        hidden = converter.hidden_fraction(block.layer)
        projections = ["mlp.gate_proj", "mlp.up_proj"][: 1 + block.gated]
        found = {
            "feed_forward_gain": converter.gain(f"{prefix}post_attention_layernorm.weight"),
            "gate_up": converter.site(f"{key}.gate_up", prefix, projections),
            "hidden_fraction": hidden,
            "down": converter.site(f"{key}.down", prefix, ["mlp.down_proj"], f_in=hidden),
        }
        if block.output_norm:
            found["feed_forward_output_gain"] = converter.gain(f"{prefix}feed_forward_output_norm.weight")
        return found


ATTENTION, FEED_FORWARD = FloatAttention(), FloatFeedForward()
