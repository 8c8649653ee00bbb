"""Scalar fixed-point arithmetic of docs/reference/numerics.md, compiled."""

from __future__ import annotations

from math import sqrt

from neuromorphic_llm.kernel_cache import kernel

INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)


@kernel
def bit_length(value: int) -> int:
    """Number of bits of a non-negative integer."""
    length = 0
    while value > 0:
        value >>= 1
        length += 1
    return length


@kernel
def rounding_shift(value: int, places: int) -> int:
    """rsh of numerics.md: round half up; a negative number of places shifts left."""
    if places <= 0:
        return value << -places
    if places > 62:
        return 0
    return (value + (1 << (places - 1))) >> places


@kernel
def saturate_32(value: int) -> int:
    """Saturation to 32 bits, two's complement."""
    return min(max(value, INT32_MIN), INT32_MAX)


@kernel
def integer_square_root(value: int) -> int:
    """Floor of the square root for 0 <= value < 2^62; the float estimate is off by at most one."""
    root = int(sqrt(float(value)))
    while root * root > value:
        root -= 1
    while (root + 1) * (root + 1) <= value:
        root += 1
    return root


@kernel
def rounding_shift_saturated(value: int, places: int) -> int:
    """sat_32(rsh(value, places)) as if rsh had unlimited width: a left shift beyond 64 bits saturates."""
    if places < 0:
        value = saturate_32(value)
        places = max(places, -32)
    result: int = saturate_32(rounding_shift(value, places))
    return result
