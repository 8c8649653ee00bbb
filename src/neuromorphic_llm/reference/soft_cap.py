"""Soft caps of scores and logits: c tanh(x / c) from a table (docs/reference/families.md)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from neuromorphic_llm.reference.fixed_point import TANH, Integers, rsh

SCORE_FRACTION = 8
"""Fraction of z, the base-2 logarithms of the attention weights."""


class SoftCap(NamedTuple):
    """A cap in integers: y = sign(x) * rsh(limit * tanh(rsh(|x| * multiplier, shift)), 30)."""

    limit: int  # C, at the fraction of x
    multiplier: int  # M, in [2^15, 2^16)
    shift: int  # S


def soft_cap(cap: float, fraction: int) -> SoftCap | None:
    """Integers of a cap on values at `fraction`; None for a cap of 0, which is none."""
    if cap == 0.0:
        return None
    factor = 2.0 ** (20 - fraction) / cap
    shift = 16 - math.frexp(factor)[1]
    if round(factor * 2.0**shift) >= 1 << 16:
        shift -= 1
    return SoftCap(round(cap * 2.0**fraction), round(factor * 2.0**shift), shift)


def score_cap(cap: float) -> SoftCap | None:
    """Cap of attention scores, which are base-2 logarithms."""
    return soft_cap(cap * math.log2(math.e), SCORE_FRACTION)


def apply_soft_cap(x: Integers, cap: SoftCap) -> Integers:
    """c tanh(x / c) of 32-bit integers, at the same fraction."""
    t = np.minimum(rsh(np.abs(x) * cap.multiplier, cap.shift), (1 << 23) - 1)
    i = t >> 15
    tanh = (TANH[i] << 15) + (TANH[i + 1] - TANH[i]) * (t & 32767)
    return np.sign(x) * rsh(cap.limit * tanh, 30)
