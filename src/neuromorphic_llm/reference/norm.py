"""RMSNorm with an integer reciprocal square root."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.config import DecoderConfig, Formats
from neuromorphic_llm.reference.fixed_point import Integers, bit_length, isqrt, rsh, rsh_saturate_32

NORMALISED_FRACTION = 24
"""Fraction of a normalised vector in front of its gains."""


def norm_epsilon(epsilon: float, channels: int, fraction: int) -> int:
    """E = round(eps * N * 2^(2f)) of a norm over `channels` values at `fraction`."""
    return round(epsilon * channels * 2.0 ** (2 * fraction))


def epsilon_term(config: DecoderConfig, formats: Formats) -> int:
    """E of the norms of the residual stream."""
    return norm_epsilon(config.rms_norm_eps, config.hidden_size, formats.residual)


def head_epsilon_term(config: DecoderConfig, formats: Formats) -> int:
    """E of the norms of queries and keys, one per head."""
    return norm_epsilon(config.rms_norm_eps, config.head_dim, formats.qkv)


def normalise(r: Integers, epsilon: int) -> Integers:
    """Vectors r [vectors, N] divided by their root mean square and sqrt(N), at fraction 24; epsilon: E at the fraction of r."""
    e = np.maximum(bit_length(np.abs(r).max(axis=1)) - 15, 0)[:, None]
    squares = np.square(rsh(r, e)).sum(axis=1, keepdims=True)
    squares = np.maximum(squares + (np.int64(epsilon) >> (2 * e)), 1)
    h = (62 - bit_length(squares)) >> 1
    inverse = (np.int64(1) << 46) // isqrt(squares << (2 * h))
    return rsh(r * inverse, 22 + e - h)


def apply_gain(u: Integers, gain: NDArray[np.int32], formats: Formats, fraction: int) -> Integers:
    """Normalised vectors u [vectors, N] times their gains [N], at `fraction`."""
    return rsh_saturate_32(u * gain.astype(np.int64), NORMALISED_FRACTION + formats.gain_fraction - fraction)


def rms_norm(r: Integers, gain: NDArray[np.int32], epsilon: int, formats: Formats, fraction: int | None = None) -> Integers:
    """Normalised and scaled vectors [vectors, N] of r [vectors, N], at `fraction`: by default `formats.norm`.

    epsilon: E of N channels at the fraction of r.
    """
    return apply_gain(normalise(r, epsilon), gain, formats, formats.norm if fraction is None else fraction)
