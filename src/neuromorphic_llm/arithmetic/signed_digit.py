"""The firing rule of signed digits, compiled (docs/reference/numerics.md): spikes.signed_digit defines it, this is it in a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.arithmetic.scalars import Integer
from neuromorphic_llm.kernel_cache import kernel

PROBABILITY_PHASES = 16
"""Phases k = 15 .. 0 of probabilities; those below the lowest one of a token are left out."""


@kernel(inline="always")
def phase_range(largest: int, phases: int) -> tuple[Integer, Integer]:
    """(k_top, k_min) of a vector with this largest magnitude and at most so many phases."""
    k_top = 0
    while 3 * (np.int64(1) << k_top) < 2 * largest:
        k_top += 1
    return k_top, max(k_top - phases + 1, 0)


@kernel
def fire_phase(rest: NDArray[np.int32], stop: NDArray[np.int32], k: int, digits: NDArray[np.int8] | None) -> Integer:
    """One phase of weight 2^k: takes what fires off `rest`, in place, and writes the digits unless they are None; number of spikes."""
    weight = np.int64(1) << k
    least = np.uint32((3 * weight + 3) >> 2)
    half = np.uint32(weight >> 1)
    odd = np.uint32(weight & 1)
    step = np.uint32(weight)
    fired = np.int32(0)
    for i in range(rest.size):
        value = rest[i]
        negative = value < 0
        magnitude = np.uint32(-value) if negative else np.uint32(value)
        # 2 |v| > 2^k + (R >> k)  <=>  |v| >= ((2^k + (R >> k)) >> 1) + 1
        price = np.uint32(stop[i]) >> np.uint32(k)
        threshold = max(least, np.uint32(half + ((price + odd) >> np.uint32(1)) + np.uint32(1)))
        fire = magnitude >= threshold
        fired += np.int32(fire)
        change = step if fire else np.uint32(0)
        left = np.uint32(magnitude - change)
        rest[i] = np.int32(-np.int32(left)) if negative else np.int32(left)
        if digits is not None:
            digits[i] = np.int8(fire) * (np.int8(1) - np.int8(2) * np.int8(negative))
    return np.int64(fired)


@kernel(inline="always")
def free_digit(rest: int, k: int) -> Integer:
    """Digit of weight 2^k where a spike has no price, as in probabilities: -1, 0 or 1."""
    if 4 * abs(rest) < np.int64(3) << k:
        return np.int64(0)
    return np.int64(1) if rest > 0 else np.int64(-1)


@kernel
def probability_code(u: int, lowest: int) -> tuple[Integer, Integer]:
    """(decoded value in units of 2^lowest, spikes) of u in 0 .. 2^15."""
    rest, spikes = np.int64(u), np.int64(0)
    for k in range(PROBABILITY_PHASES - 1, lowest - 1, -1):
        digit = free_digit(rest, k)
        rest -= digit << k
        spikes += abs(digit)
    return (u - rest) >> lowest, spikes


@kernel
def fill_probability_table(table: NDArray[Any]) -> None:
    """(decoded value, spikes) of every u for every lowest phase, table [15, 2^15 + 1, 2]."""
    for lowest in range(table.shape[0]):
        for u in range(table.shape[1]):
            table[lowest, u, 0], table[lowest, u, 1] = probability_code(u, lowest)
