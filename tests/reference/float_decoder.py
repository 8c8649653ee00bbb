"""A decoder of any family in float64, from the real values that the integer weights stand for."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.weights import DecoderWeights, LayerWeights, LinearWeights

Floats = NDArray[np.float64]


def linear(x: Floats, site: LinearWeights, input_fraction: int, output_fraction: int) -> Floats:
    """The layer with scale M * 2^(f_in - f_out - S)."""
    scale = site.multiplier * 2.0 ** (input_fraction - output_fraction - site.shift)
    y = x @ (site.weight * scale[:, None]).T
    return y if site.bias is None else y + site.bias * 2.0**-output_fraction


def rms_norm(x: Floats, gain: NDArray[np.int32], weights: DecoderWeights) -> Floats:
    """RMSNorm with the gain's real values."""
    factor = gain / (np.sqrt(len(gain)) * 2.0**weights.formats.gain_fraction)
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + weights.config.rms_norm_eps) * factor


def output_norm(x: Floats, gain: NDArray[np.int32] | None, weights: DecoderWeights) -> Floats:
    """RMSNorm where there is one."""
    return x if gain is None else rms_norm(x, gain, weights)


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu-tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: np.maximum(x, 0.0),
}


def rotate(x: Floats, cos: NDArray[np.int16], sin: NDArray[np.int16]) -> Floats:
    """Rotary embedding of [tokens, heads, head_dim] from position 0 on."""
    half = x.shape[-1] // 2
    turned = (x[..., :half] + 1j * x[..., half:]) * ((cos + 1j * sin) * 2.0**-14)[: len(x), None]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def soft_cap(x: Floats, cap: float) -> Floats:
    """cap tanh(x / cap); x itself for a cap of 0."""
    return cap * np.tanh(x / cap) if cap else x


def attention(q: Floats, k: Floats, v: Floats, window: int, cap: float) -> Floats:
    """Causal attention with base-2 softmax; the scale is folded into q, and so into the cap."""
    group = q.shape[1] // k.shape[1]
    z = soft_cap(np.einsum("nhi,mhi->hnm", q, k.repeat(group, axis=1)), cap * math.log2(math.e))
    z[:, *np.triu_indices(len(q), 1)] = -np.inf
    if window:
        z[:, *np.tril_indices(len(q), -window)] = -np.inf
    p = np.exp2(z - z.max(axis=-1, keepdims=True))
    return np.einsum("hnm,mhi->nhi", p / p.sum(axis=-1, keepdims=True), v.repeat(group, axis=1))


def attend(r: Floats, number: int, weights: DecoderWeights) -> Floats:
    """What the attention of a layer adds to the residual stream."""
    config, formats, layer = weights.config, weights.formats, weights.layers[number]
    y = linear(rms_norm(r, layer.attention_gain, weights), layer.qkv, formats.norm, formats.qkv)
    q, k, v = np.split(y.reshape(len(r), -1, config.head_dim), [config.heads, config.heads + config.kv_heads], axis=1)
    q, k = output_norm(q, layer.get("query_gain"), weights), output_norm(k, layer.get("key_gain"), weights)
    tables = weights.rope("local_rope" if config.local_rotary and config.window(number) else "rope")
    o = attention(rotate(q, *tables), rotate(k, *tables), v, config.window(number), config.attention_softcap)
    return output_norm(
        linear(o.reshape(len(r), -1), layer.output, formats.attention, formats.residual), layer.get("attention_output_gain"), weights
    )


def feed_forward(r: Floats, layer: LayerWeights, weights: DecoderWeights) -> Floats:
    """What the feed-forward of a layer adds to the residual stream."""
    config, formats = weights.config, weights.formats
    y = linear(rms_norm(r, layer.feed_forward_gain, weights), layer.gate_up, formats.norm, formats.gate)
    g, u = np.split(y, 2, axis=-1) if config.gated else (y, 1.0)
    d = linear(ACTIVATIONS[config.activation](g) * u, layer.down, layer.hidden_fraction, formats.residual)
    return output_norm(d, layer.get("feed_forward_output_gain"), weights)


def forward(weights: DecoderWeights, tokens: Sequence[int]) -> tuple[Floats, list[Floats]]:
    """Logits [tokens, vocab] and the residual stream after every layer."""
    config, formats = weights.config, weights.formats
    rows = weights.embedding[list(tokens)].astype(np.float64)
    if weights.positions is not None:
        rows += weights.positions[: len(tokens)]
    r = rows * 2.0 ** (formats.embedding_shift - formats.residual)
    hidden = []
    for number, layer in enumerate(weights.layers):
        o = attend(r, number, weights)
        r = r + o + feed_forward(r if config.parallel_residual else r + o, layer, weights)
        hidden.append(r)
    logits = linear(rms_norm(r, weights.final_gain, weights), weights.head, formats.norm, formats.logit)
    return soft_cap(logits, config.logit_softcap), hidden
