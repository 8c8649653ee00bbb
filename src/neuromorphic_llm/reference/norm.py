"""RMSNorm with an integer reciprocal square root."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.fixed_point import Integers, bit_length, isqrt, rsh, rsh_saturate_32
from neuromorphic_llm.reference.weights import DecoderConfig, Formats


def epsilon_term(config: DecoderConfig, formats: Formats) -> int:
    """E = round(eps * N * 2^(2f)), f the fraction of the residual stream."""
    return round(config.rms_norm_eps * config.hidden_size * 2.0 ** (2 * formats.residual))


def rms_norm(r: Integers, gain: NDArray[np.int32], epsilon: int, formats: Formats) -> Integers:
    """Normalised and scaled vectors, [tokens, hidden] at fraction `formats.norm`, of the residual stream r [tokens, hidden]."""
    e = np.maximum(bit_length(np.abs(r).max(axis=1)) - 15, 0)[:, None]
    squares = np.square(rsh(r, e)).sum(axis=1, keepdims=True)
    squares = np.maximum(squares + (np.int64(epsilon) >> (2 * e)), 1)
    h = (62 - bit_length(squares)) >> 1
    inverse = (np.int64(1) << 46) // isqrt(squares << (2 * h))
    u = rsh(r * inverse, 22 + e - h)
    return rsh_saturate_32(u * gain.astype(np.int64), 24 + formats.gain_fraction - formats.norm)
