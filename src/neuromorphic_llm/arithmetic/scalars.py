"""Scalar fixed-point arithmetic, compiled: shifts, saturation, roots and the table functions (docs/reference/numerics.md)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.kernel_cache import kernel
from neuromorphic_llm.reference.fixed_point import TANH

Integer = Any  # int64 once compiled; Python's and numpy's integers have no common static type

INT32_MAX = np.int64(2**31 - 1)
INT32_MIN = np.int64(-(2**31))
_TANH = np.ascontiguousarray(TANH, dtype=np.int64)


@kernel(inline="always")
def bit_length(value: int) -> Integer:
    """Number of bits of a non-negative int64."""
    bits = 0
    while value > 0:
        value >>= 1
        bits += 1
    return bits


@kernel(inline="always")
def rounding_shift(value: int, places: int) -> Integer:
    """rsh of numerics.md: round half up; a negative number of places shifts left."""
    if places > 62:
        return np.int64(0)
    if places > 0:
        return (value + (np.int64(1) << (places - 1))) >> places
    return value << -places


@kernel(inline="always")
def saturate_32(value: int) -> Integer:
    """Saturation to 32 bits, two's complement."""
    return min(max(value, INT32_MIN), INT32_MAX)


@kernel(inline="always")
def rounding_shift_saturated(value: int, places: int) -> Integer:
    """sat_32(rsh(value, places)) as if rsh had unlimited width: a left shift beyond 64 bits saturates."""
    if places < 0:
        return saturate_32(saturate_32(value) << min(-places, 32))
    return saturate_32(rounding_shift(value, places))


@kernel
def integer_square_root(value: int) -> Integer:
    """Floor of the square root for 0 <= value < 2^62; the float estimate is off by at most one."""
    root = np.int64(math.sqrt(float(value)))
    while root * root > value:
        root -= 1
    while (root + 1) * (root + 1) <= value:
        root += 1
    return root


@kernel(inline="always")
def output_stage(accumulator: int, multiplier: int, places: int, bias: int) -> Integer:
    """sat32(rsh(accumulator * multiplier, places) + bias), places = S - k_min."""
    product = np.int64(accumulator) * multiplier
    if places < 0:
        product = saturate_32(product << min(-places, 16))
    else:
        product = rounding_shift(product, places)
    return saturate_32(product + bias)


@kernel(inline="always")
def passing(value: int, fraction: int, share: NDArray[Any]) -> Integer:
    """The value times the share of it that passes an activation, at 15 more fractional bits; share [257], a table of SHARES."""
    t = min(rounding_shift(abs(value), fraction - 12), 65535)
    index, rest = t >> 8, t & 255
    low = share[index]
    s = low + (((share[index + 1] - low) * rest + 128) >> 8)
    if value < 0:
        s = 32768 - s
    return value * s


@kernel(inline="always")
def gated(value: int, up: int, fraction: int, places: int, share: NDArray[Any]) -> Integer:
    """sat32(rsh(activation(value) * up, places)), value at this fraction."""
    return rounding_shift_saturated(((passing(value, fraction, share) + 16384) >> 15) * up, places)


@kernel(inline="always")
def soft_capped(value: int, limit: int, multiplier: int, shift: int) -> Integer:
    """c tanh(value / c); limit, multiplier and shift of reference.soft_cap.SoftCap."""
    t = min(rounding_shift(abs(value) * multiplier, shift), (1 << 23) - 1)
    index, rest = t >> 15, t & 32767
    tanh = (_TANH[index] << 15) + (_TANH[index + 1] - _TANH[index]) * rest
    y = (limit * tanh + (np.int64(1) << 29)) >> 30
    return -y if value < 0 else y


@kernel(inline="always")
def reciprocal(total: int) -> tuple[Integer, Integer]:
    """(floor(2^(b + 15) / total), b) with b the bits of a positive total: the factor of a softmax's sum."""
    b = bit_length(total)
    return (np.int64(1) << (b + 15)) // total, b
