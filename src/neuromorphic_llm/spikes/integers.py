"""Integer operations that codes and reference share, vectorised over int64 arrays (docs/reference/numerics.md, Notation)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.int64]


def bit_length(n: ArrayLike) -> Integers:
    """Number of bits of each non-negative integer; 0 for 0."""
    rest = np.array(n, np.int64)
    bits = np.zeros_like(rest)
    for shift in (32, 16, 8, 4, 2, 1):
        high = rest >> shift
        bits += np.where(high > 0, shift, 0)
        rest = np.where(high > 0, high, rest)
    return np.asarray(bits + rest)  # rest is now 0 or 1


def rsh(x: ArrayLike, n: ArrayLike) -> Integers:
    """Rounding shift, half up: floor(x / 2^n + 1/2), `x << -n` for n <= 0, 0 for n > 62.

    |x| <= 2^62 for right shifts; a left shift must fit 64 bits (see `rsh_saturate_32`).
    """
    values, shift = np.asarray(x, np.int64), np.asarray(n, np.int64)
    right = np.clip(shift, 1, 62)
    rounded = (values + (np.int64(1) << (right - 1))) >> right
    left = values << np.clip(-shift, 0, 62)
    return np.where(shift > 62, 0, np.where(shift > 0, rounded, left))


def saturate(x: ArrayLike, bits: int) -> Integers:
    """sat_b: saturation to b bits, two's complement."""
    return np.clip(np.asarray(x, np.int64), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def rsh_saturate_32(x: ArrayLike, n: ArrayLike) -> Integers:
    """sat_32(rsh(x, n)) as if rsh had unlimited width: left shifts too long for 64 bits saturate."""
    values, shift = np.asarray(x, np.int64), np.asarray(n, np.int64)
    # Beyond 2^31 any left shift saturates, and so does any value but 0 from 31 places on.
    bounded = np.where(shift < 0, np.clip(values, -(1 << 31), 1 << 31), values)
    return saturate(rsh(bounded, np.maximum(shift, -31)), 32)
