"""Integer operations that numpy arrays and torch tensors share: a code is written once and runs on both, exactly."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any
"""int64 numpy array or torch tensor."""

Library = Any
"""The module `numpy` or `torch`, whichever made the arrays."""


class Quantised(NamedTuple):
    """Coded vectors as arrays of one library: x ~ a * 2^exponent."""

    a: Array  # [tokens, inputs]
    exponent: Array  # [tokens]
    spikes: Array  # [tokens, inputs]
    phases: Array  # [tokens]


def power(k: Array, xp: Library) -> Array:
    """2^k, elementwise, for 0 <= k < 63."""
    return xp.ones_like(k) << k


def bit_length(n: Array, xp: Library) -> Array:
    """Number of bits of each integer in 0 .. 2^53 - 1, which a float64 holds exactly; 0 for 0."""
    if xp is np:
        return np.frexp(n.astype(np.float64))[1].astype(np.int64)
    return xp.frexp(n.double()).exponent.long()


def rounded(x: Array, k: Array, xp: Library) -> Array:
    """rsh(x, k) of numerics.md for 0 <= k < 63: round half up."""
    return (x + (power(k, xp) >> 1)) >> k


def exponent_for(largest: Array, capacity: int, xp: Library) -> Array:
    """Smallest k >= 0 with capacity * 2^k >= largest."""
    return bit_length(xp.clip(-(-largest // capacity) - 1, 0, None), xp)


def largest_but(magnitude: Array, skipped: int, xp: Library) -> Array:
    """The largest of each row of [tokens, inputs] after the `skipped` largest ones, [tokens]."""
    if skipped == 0:
        return xp.amax(magnitude, axis=1)
    if xp is np:
        return np.partition(magnitude, -1 - skipped, axis=1)[:, -1 - skipped]
    return xp.kthvalue(magnitude, magnitude.shape[1] - skipped, dim=1).values


def used_phases(largest: Array, phases: int, xp: Library) -> Array:
    """Phases per token of a code with a fixed number of them: one (empty) for a vector of zeros. Shape [tokens]."""
    return xp.where(largest == 0, 1, phases)
