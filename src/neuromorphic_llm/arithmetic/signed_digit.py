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


@kernel(inline="always")
def fire_phase(rest: NDArray[np.int64], stop: NDArray[np.int32], k: int, digits: NDArray[np.int8] | None) -> Integer:
    """One phase of weight 2^k: takes what fires off `rest`, in place, and writes the digits unless they are None; number of spikes."""
    weight = np.int64(1) << k
    fired = np.int64(0)
    # In 64 bits throughout: numba widens what is narrower anyway, and widening takes longer than wide loads.
    for i in range(rest.size):
        value = rest[i]
        magnitude = abs(value)
        fires = (4 * magnitude >= 3 * weight) & (2 * magnitude > weight + (stop[i] >> k))
        digit = (-1 if value < 0 else 1) if fires else 0
        fired += fires
        rest[i] = value - digit * weight
        if digits is not None:
            digits[i] = digit
    return fired


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
