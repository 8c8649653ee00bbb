"""Random integer decoders with the ranges of real ones, for tests and benchmarks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.reference.config import CodeConfig, DecoderConfig, Formats
from neuromorphic_llm.reference.linear import fold_scale
from neuromorphic_llm.reference.rotary import rotary_tables
from neuromorphic_llm.reference.weights import DecoderWeights, LayerWeights, LinearWeights
from neuromorphic_llm.spikes.registry import get_code

SMALL_CONFIG = DecoderConfig(
    vocab_size=61,
    hidden_size=32,
    intermediate_size=48,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    max_positions=64,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    tie_embeddings=False,  # a tied head mostly repeats the last token
)
"""Default shape: sizes that are no multiples of each other where they need not be."""

SMOLLM2_135M = DecoderConfig(49152, 576, 1536, 30, 9, 3, 64, 8192, rms_norm_eps=1e-5, rope_theta=1e5)
"""Shape of SmolLM2-135M, for tests and benchmarks that need its size and not its weights."""

PRICE = 0.004
"""Mean spike price over the mean square of the inputs: about 1.5 spikes per input in the signed-digit code."""

Floats = NDArray[np.float64]


def _linear(
    rng: np.random.Generator, weight: Floats, input_fraction: int, output_fraction: int, mean_square: float, *, bias: bool, spiking: bool
) -> LinearWeights:
    """Quantise a float matrix [outputs, inputs] and draw prices around PRICE * mean_square (inputs in real units)."""
    scale = np.abs(weight).max(axis=1) / 127
    multiplier, shift = fold_scale(scale, input_fraction, output_fraction)
    price = PRICE * mean_square * 4.0**input_fraction * rng.lognormal(0.0, 0.5, weight.shape[1])
    drawn = rng.normal(0.0, 0.1, len(weight)) * 2.0**output_fraction
    return LinearWeights(
        weight=np.rint(weight / scale[:, None]).astype(np.int8),
        multiplier=multiplier,
        shift=shift,
        stop=np.minimum(price, 2.0**31 - 1).astype(np.int32),
        bias=drawn.astype(np.int32) if bias else None,
        spiking=spiking,
    )


def _gain(rng: np.random.Generator, channels: int, formats: Formats, size: float = 1.0, *, outliers: bool = True) -> NDArray[np.int32]:
    """RMSNorm gains around `size`, a few outlier channels at six times that."""
    gain = rng.uniform(0.5, 1.5, channels)
    if outliers:
        gain[rng.choice(channels, max(channels // 32, 1), replace=False)] *= 6.0
    return np.rint(size * gain * math.sqrt(channels) * 2.0**formats.gain_fraction).astype(np.int32)


def _layer(rng: np.random.Generator, config: DecoderConfig, formats: Formats, *, bias: bool, parts: str) -> LayerWeights:
    """One random layer; scores spread over a few bits, both branches add about a half to the residual stream's square."""
    query, key_value = config.heads * config.head_dim, config.kv_heads * config.head_dim
    attention, feed_forward = parts in ("all", "attention"), parts in ("all", "feed-forward")
    hidden_fraction = 16
    columns = 2 * config.intermediate_size if config.gated else config.intermediate_size
    query_size = 3 * math.log2(math.e) / math.sqrt(config.head_dim)

    def matrix(outputs: int, inputs: int, gain: float) -> Floats:
        return rng.normal(0.0, gain / math.sqrt(inputs), (outputs, inputs))

    qkv = matrix(query + 2 * key_value, config.hidden_size, 0.8)
    if not config.query_key_norm:
        qkv[:query] *= query_size
    query_square = query_size**2 if config.query_key_norm else float(np.square(qkv[:query]).mean()) * config.hidden_size
    price = PRICE * query_square * 4.0**formats.qkv * rng.lognormal(0.0, 0.5, (config.heads, config.head_dim))
    return LayerWeights(
        attention_gain=_gain(rng, config.hidden_size, formats),
        qkv=_linear(rng, qkv, formats.norm, formats.qkv, 1.0, bias=bias, spiking=attention),
        query_stop=np.minimum(price, 2.0**31 - 1).astype(np.int32),
        value_base=rng.integers(formats.qkv - 6, formats.qkv - 4, config.kv_heads).astype(np.int32),
        output=_linear(rng, matrix(config.hidden_size, query, 1.0), formats.attention, formats.residual, 0.3, bias=bias, spiking=attention),
        feed_forward_gain=_gain(rng, config.hidden_size, formats),
        gate_up=_linear(
            rng,
            matrix(columns, config.hidden_size, 0.8),
            formats.norm,
            formats.gate,
            1.0,
            bias=bias,
            spiking=feed_forward,
        ),
        hidden_fraction=hidden_fraction,
        down=_linear(
            rng,
            matrix(config.hidden_size, config.intermediate_size, 1.0),
            hidden_fraction,
            formats.residual,
            0.5,
            bias=bias,
            spiking=feed_forward,
        ),
        attention_spiking=attention,
        query_gain=_gain(rng, config.head_dim, formats, query_size, outliers=False) if config.query_key_norm else None,
        key_gain=_gain(rng, config.head_dim, formats, outliers=False) if config.query_key_norm else None,
        attention_output_gain=_gain(rng, config.hidden_size, formats, 0.5) if config.output_norms else None,
        feed_forward_output_gain=_gain(rng, config.hidden_size, formats, 0.5) if config.output_norms else None,
    )


def _table(rows: Floats, formats: Formats) -> NDArray[np.int16]:
    """Rows that enter the residual stream, as 16-bit integers."""
    scaled = np.rint(rows * 2.0 ** (formats.residual - formats.embedding_shift))
    return np.clip(scaled, -(2**15), 2**15 - 1).astype(np.int16)


def _key_offset(seed: int, config: DecoderConfig, formats: Formats) -> NDArray[np.int32]:
    """Offsets of keys, some much larger than the keys, one at each end of the integers; from numbers of their own."""
    offset = np.random.default_rng((seed, 1)).normal(0.0, 1.0, (config.kv_heads, config.head_dim)) ** 3 * 2.0**formats.qkv
    offset[0, :2] = -(2**31), 2**31 - 1
    return np.rint(offset).astype(np.int32)


def random_decoder(
    seed: int,
    *,
    config: DecoderConfig | None = None,
    code: str = "signed-digit",
    phases: int | None = None,
    parts: str = "all",
    bias: bool = False,
    key_offset: bool = False,
) -> DecoderWeights:
    """A random decoder of any family's shape, a code and hybrid (`all`, `feed-forward`, `attention`), with or without biases.

    With `key_offset` the keys of the first layer have offsets. The same seed gives the same weights for every code and hybrid.
    UsageError on an unknown code or part.
    """
    if parts not in ("all", "feed-forward", "attention"):
        raise UsageError(f"parts must be all, feed-forward or attention, not {parts!r}")
    config = config or SMALL_CONFIG
    formats = Formats(embedding_shift=2)
    code_config = CodeConfig(name=code, phases=get_code(code, phases).phases)
    rng = np.random.default_rng(seed)
    embedding = rng.normal(0.0, 1.0, (config.vocab_size, config.hidden_size))
    embedding[:, rng.choice(config.hidden_size, max(config.hidden_size // 32, 1), replace=False)] *= 2.0
    head = embedding if config.tie_embeddings else rng.normal(0.0, 1.0, embedding.shape)
    layers = [_layer(rng, config, formats, bias=bias, parts=parts) for _ in range(config.layers)]
    if key_offset:
        layers[0] = layers[0].replaced(key_offset=_key_offset(seed, config, formats))
    cos, sin = rotary_tables(config.max_positions, config.head_dim, config.rope_theta)
    local = rotary_tables(config.max_positions, config.head_dim, config.rope_theta**0.5) if config.local_rotary else (None, None)
    return DecoderWeights(
        config=config,
        formats=formats,
        code=code_config,
        embedding=_table(embedding, formats),
        layers=tuple(layers),
        final_gain=_gain(rng, config.hidden_size, formats),
        head=_linear(rng, head / math.sqrt(config.hidden_size), formats.norm, formats.logit, 1.0, bias=False, spiking=parts == "all"),
        rope_cos=cos,
        rope_sin=sin,
        positions=_table(rng.normal(0.0, 0.5, (config.max_positions, config.hidden_size)), formats) if config.learned_positions else None,
        local_rope_cos=local[0],
        local_rope_sin=local[1],
    )
