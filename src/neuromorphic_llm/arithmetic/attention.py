"""Attention of one token, compiled, but for its products: exponents of keys and values, scores, softmax (docs/reference/numerics.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.arithmetic.scalars import Integer, bit_length, rounding_shift, saturate_32
from neuromorphic_llm.arithmetic.vectors import largest_magnitude
from neuromorphic_llm.kernel_cache import kernel
from neuromorphic_llm.reference.fixed_point import EXP2

SCORE_MIN, SCORE_MAX = -(2**23), 2**23 - 1
_EXP2 = np.ascontiguousarray(EXP2, dtype=np.int64)


@kernel
def take_off(key: NDArray[np.int32], offset: NDArray[np.int32]) -> None:
    """key = sat32(key - offset), in place."""
    for j in range(key.size):
        key[j] = saturate_32(np.int64(key[j]) - offset[j])


@kernel
def key_exponent(key: NDArray[np.int32]) -> Integer:
    """Places by which a key is shifted into 8 bits."""
    return max(bit_length(largest_magnitude(key)) - 7, 0)


@kernel
def value_exponent(value: NDArray[np.int32], base: int) -> Integer:
    """Places beyond those of its head, 0 .. 3, by which a value is shifted into 8 bits."""
    return min(max(bit_length(largest_magnitude(value)) - 7 - base, 0), 3)


@kernel
def scale_scores(scores: NDArray[Any], exponents: NDArray[np.int32], places: int, z: NDArray[np.int32]) -> Integer:
    """z = scores of all keys at fraction 8, in 24 bits; the largest of them. Scores are integers, as such or as exact floats."""
    largest = np.int32(SCORE_MIN)
    for j in range(z.size):
        n = places - exponents[j]
        s = np.int64(scores[j])
        if n > 0:
            shifted = (s + (np.int64(1) << (n - 1))) >> n
        else:
            shifted = s << min(-n, 24)
        value = np.int32(min(max(shifted, SCORE_MIN), SCORE_MAX))
        z[j] = value
        largest = max(largest, value)
    return largest


@kernel
def exponentials(z: NDArray[np.int32], largest: int) -> Integer:
    """z = 2^(z - largest) at fraction 15, in place; their sum."""
    mass = np.int64(0)
    for j in range(z.size):
        distance = np.int32(largest) - z[j]
        octaves = distance >> 8
        u = np.int64(0)
        if octaves < 17:
            u = _EXP2[distance & 255]
            if octaves > 0:
                u = (u + (np.int64(1) << (octaves - 1))) >> octaves
        z[j] = u
        mass += u
    return mass


@kernel(inline="always")
def lowest_phase(mass: int, bits: int) -> Integer:
    """Lowest phase of the probabilities of a softmax with this sum."""
    return min(max(bit_length(mass) - 1 - bits, 0), 14)


@kernel
def shift_into(values: NDArray[np.int32], places: int, left: int, stored: NDArray[Any]) -> None:
    """stored = values rounded off by `places` into 8 bits, then shifted left: bytes, or exact floats."""
    for j in range(values.size):
        stored[j] = min(max(rounding_shift(np.int64(values[j]), places), -128), 127) << left
