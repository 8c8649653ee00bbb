"""Operations on one vector, compiled (docs/reference/numerics.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.arithmetic.scalars import (
    Integer,
    bit_length,
    gated,
    integer_square_root,
    rounding_shift,
    rounding_shift_saturated,
    saturate_32,
)
from neuromorphic_llm.kernel_cache import kernel

Vector = NDArray[np.int32]


@kernel
def largest_magnitude(values: Vector) -> Integer:
    """Largest absolute value of int32 values, an int64."""
    low, high = np.int32(0), np.int32(0)
    for i in range(values.size):
        low, high = min(low, values[i]), max(high, values[i])
    return max(-np.int64(low), np.int64(high))


@kernel
def add(residual: Vector, values: Vector) -> None:
    """residual = sat32(residual + values), in place."""
    for i in range(residual.size):
        residual[i] = saturate_32(np.int64(residual[i]) + values[i])


@kernel
def rms_norm(residual: Vector, gain: Vector, epsilon: int, shift: int, values: Vector) -> None:
    """RMSNorm; `epsilon` is E of numerics.md, `shift` is 24 + gain fraction - norm fraction."""
    e = max(bit_length(largest_magnitude(residual)) - 15, 0)
    half_unit = (np.int64(1) << e) >> 1
    squares: Integer = np.int64(0)
    for i in range(residual.size):
        value = (np.int64(residual[i]) + half_unit) >> e
        squares += value * value
    squares = max(squares + (epsilon >> min(2 * e, 63)), 1)
    h = (62 - bit_length(squares)) >> 1
    inverse = (np.int64(1) << 46) // integer_square_root(squares << (2 * h))
    places = 22 + e - h
    for i in range(residual.size):
        normalised = rounding_shift(residual[i] * inverse, places)
        values[i] = rounding_shift_saturated(normalised * gain[i], shift)


@kernel
def rotate(vectors: Vector, cosine: NDArray[np.int16], sine: NDArray[np.int16]) -> None:
    """Rotary embedding of vectors [heads, head_dim], in place, halves layout; cosine, sine [head_dim / 2]."""
    half = cosine.size
    for head in range(vectors.shape[0]):
        x = vectors[head]
        for j in range(half):
            c, s = np.int64(cosine[j]), np.int64(sine[j])
            first, second = np.int64(x[j]), np.int64(x[j + half])
            x[j] = saturate_32(rounding_shift(first * c - second * s, 14))
            x[j + half] = saturate_32(rounding_shift(second * c + first * s, 14))


@kernel
def gate(gate_up: Vector, share: NDArray[Any], fraction: int, hidden_fraction: int, values: Vector) -> None:
    """values = activation(gate) * up of gate_up [2 n]: gate, then up; share [257], a table of SHARES."""
    size, places = values.size, 2 * fraction - hidden_fraction
    for i in range(size):
        values[i] = gated(np.int64(gate_up[i]), np.int64(gate_up[size + i]), fraction, places, share)
