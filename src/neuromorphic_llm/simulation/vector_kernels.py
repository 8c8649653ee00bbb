"""Soma operations of the vector tiles and the gate, compiled (docs/reference/numerics.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.kernel_cache import kernel
from neuromorphic_llm.simulation.fixed_point import bit_length, integer_square_root, rounding_shift, rounding_shift_saturated, saturate_32


@kernel
def add(residual: NDArray[np.int32], values: NDArray[np.int32]) -> None:
    """residual = sat32(residual + values), in place."""
    for i in range(len(residual)):
        residual[i] = saturate_32(np.int64(residual[i]) + np.int64(values[i]))


@kernel
def rms_norm(residual: NDArray[np.int32], gain: NDArray[np.int32], epsilon: int, shift: int, values: NDArray[np.int32]) -> None:
    """RMSNorm of one vector; `epsilon` is E of numerics.md, `shift` is 24 + gain fraction - norm fraction."""
    m = np.int64(0)
    for i in range(len(residual)):
        m = max(m, abs(np.int64(residual[i])))
    e = max(bit_length(m) - 15, 0)
    squares = np.int64(0)
    for i in range(len(residual)):
        value = rounding_shift(np.int64(residual[i]), e)
        squares += value * value
    squares = max(squares + (epsilon >> 2 * e), np.int64(1))
    h = (62 - bit_length(squares)) >> 1
    inverse = (np.int64(1) << 46) // integer_square_root(squares << 2 * h)
    for i in range(len(residual)):
        normalised = rounding_shift(np.int64(residual[i]) * inverse, 22 + e - h)
        values[i] = rounding_shift_saturated(normalised * np.int64(gain[i]), shift)


@kernel
def rotate(vectors: NDArray[np.int32], cosine: NDArray[np.int16], sine: NDArray[np.int16]) -> None:
    """Rotary embedding of vectors [heads, head_dim], in place, halves layout; cosine, sine [head_dim / 2]."""
    half = len(cosine)
    for head in range(len(vectors)):
        for j in range(half):
            first = np.int64(vectors[head, j])
            second = np.int64(vectors[head, j + half])
            vectors[head, j] = saturate_32(rounding_shift(first * cosine[j] - second * sine[j], 14))
            vectors[head, j + half] = saturate_32(rounding_shift(second * cosine[j] + first * sine[j], 14))


@kernel
def gate(gate_up: NDArray[np.int32], sigmoid: NDArray[np.int32], fraction: int, hidden_fraction: int, values: NDArray[np.int32]) -> None:
    """values = silu(gate) * up for gate_up [2 * n] (gate, then up); `sigmoid` is the table SIG, 257 entries."""
    size = len(values)
    for i in range(size):
        g = np.int64(gate_up[i])
        t = min(rounding_shift(abs(g), fraction - 12), 65535)
        index = t >> 8
        low = np.int64(sigmoid[index])
        s = low + rounding_shift((np.int64(sigmoid[index + 1]) - low) * (t & 255), 8)
        if g < 0:
            s = (1 << 15) - s
        values[i] = rounding_shift_saturated(rounding_shift(g * s, 15) * np.int64(gate_up[i + size]), 2 * fraction - hidden_fraction)
