"""A Llama-type decoder in float64, from the real values that the integer weights stand for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

Floats = NDArray[np.float64]


def linear(x: Floats, site: LinearWeights, input_fraction: int, output_fraction: int) -> Floats:
    """The layer with scale M * 2^(f_in - f_out - S)."""
    scale = site.multiplier * 2.0 ** (input_fraction - output_fraction - site.shift)
    y = x @ (site.weight * scale[:, None]).T
    return y if site.bias is None else y + site.bias * 2.0**-output_fraction


def rms_norm(x: Floats, gain: NDArray[np.int32], weights: DecoderWeights) -> Floats:
    """RMSNorm with the gain's real values."""
    factor = gain / (np.sqrt(weights.config.hidden_size) * 2.0**weights.formats.gain_fraction)
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + weights.config.rms_norm_eps) * factor


def rotate(x: Floats, theta: float) -> Floats:
    """Rotary embedding of [tokens, heads, head_dim] from position 0 on."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)[:, None]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def attention(q: Floats, k: Floats, v: Floats) -> Floats:
    """Causal attention with base-2 softmax; the scale is folded into q."""
    group = q.shape[1] // k.shape[1]
    z = np.einsum("nhi,mhi->hnm", q, k.repeat(group, axis=1))
    z[:, *np.triu_indices(len(q), 1)] = -np.inf
    p = np.exp2(z - z.max(axis=-1, keepdims=True))
    return np.einsum("hnm,mhi->nhi", p / p.sum(axis=-1, keepdims=True), v.repeat(group, axis=1))


def forward(weights: DecoderWeights, tokens: Sequence[int]) -> tuple[Floats, list[Floats]]:
    """Logits [tokens, vocab] and the residual stream after every layer."""
    config, formats = weights.config, weights.formats
    r = weights.embedding[list(tokens)] * 2.0 ** (formats.embedding_shift - formats.residual)
    hidden = []
    for layer in weights.layers:
        y = linear(rms_norm(r, layer.attention_gain, weights), layer.qkv, formats.norm, formats.qkv)
        q, k, v = np.split(y.reshape(len(r), -1, config.head_dim), [config.heads, config.heads + config.kv_heads], axis=1)
        o = attention(rotate(q, config.rope_theta), rotate(k, config.rope_theta), v)
        r = r + linear(o.reshape(len(r), -1), layer.output, formats.attention, formats.residual)
        y = linear(rms_norm(r, layer.feed_forward_gain, weights), layer.gate_up, formats.norm, formats.gate)
        g, u = np.split(y, 2, axis=-1)
        r = r + linear(g / (1 + np.exp(-g)) * u, layer.down, layer.hidden_fraction, formats.residual)
        hidden.append(r)
    return linear(rms_norm(r, weights.final_gain, weights), weights.head, formats.norm, formats.logit), hidden
