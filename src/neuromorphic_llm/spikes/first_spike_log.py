"""Time to first spike with a base of choice: several times per octave, or several octaves per phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.arrays import Array, Library
from neuromorphic_llm.spikes.integers import Integers
from neuromorphic_llm.spikes.parameters import parameter
from neuromorphic_llm.spikes.scaled import ScaledCode

Integers8 = NDArray[np.int8]

WEIGHTS = {1: (1,), 2: (5, 7), 3: (4, 5, 6), 4: (16, 19, 23, 27), 8: (32, 35, 38, 41, 45, 49, 54, 59)}
"""Steps per octave -> integer weights of the times within a phase, latest first, in the ratio of powers of 2^(1/steps)."""


@dataclass(frozen=True)
class FirstSpikeLog(ScaledCode):
    """One spike, whose time says the nearest of the values WEIGHTS[steps] * 2^(octaves * t)."""

    steps: int = parameter(2, f"values per octave: {', '.join(map(str, WEIGHTS))}", least=1, most=8)
    octaves: int = parameter(1, "octaves from phase to phase; more than one with steps 1 only", least=1, most=6)

    name: ClassVar[str] = "first-spike-log"
    summary: ClassVar[str] = "time to first spike with base 2^octaves or 2^(1/steps), in integer weights"
    source: ClassVar[str] = "Miyashita et al., arXiv 1603.01025, 2016; time to first spike: Rueckauer and Liu, ISCAS 2018"
    default_phases: ClassVar[int] = 10
    largest_phases: ClassVar[int] = 14
    graded: ClassVar[bool] = True

    def check(self) -> None:
        """Steps that have integer weights, and one kind of base."""
        if self.steps not in WEIGHTS:
            raise UsageError(f"code 'first-spike-log': steps must be one of {', '.join(map(str, WEIGHTS))}, not {self.steps}")
        if self.steps > 1 and self.octaves > 1:
            raise UsageError("code 'first-spike-log': several steps per octave leave no gap of octaves; use steps=1 or octaves=1")

    @property
    def horner_shift(self) -> int:
        """Octaves per phase."""
        return self.octaves

    @property
    def levels(self) -> tuple[int, ...]:
        """Values of a, ascending."""
        return tuple(weight << (self.octaves * t) for t in range(self.phases) for weight in WEIGHTS[self.steps])

    @property
    def largest_value(self) -> int:
        """Bound of |a|: the earliest time."""
        return WEIGHTS[self.steps][-1] << (self.octaves * (self.phases - 1))

    def slot_pulses(self, digits: Integers8) -> Integers8:
        """Pulses -1, 0, 1 of every time slot, the least level first, [phases * steps, ...], of digits [phases, ...]."""
        weights = np.array(WEIGHTS[self.steps], np.int8).reshape(1, -1, *(1,) * (digits.ndim - 1))
        latest = digits[::-1, None]
        pulses: Integers8 = (np.sign(latest) * (np.abs(latest) == weights)).reshape(-1, *digits.shape[1:])
        return pulses

    def digits_of(self, levels: Integers) -> Integers8:
        """Digits [phases, ...] of signed levels."""
        weights = np.array(self.levels).reshape(self.phases, self.steps, *(1,) * levels.ndim)[::-1]
        found = (np.abs(levels) == weights) * np.array(WEIGHTS[self.steps]).reshape(1, -1, *(1,) * levels.ndim)
        digits: Integers8 = (np.sign(levels) * found.sum(axis=1)).astype(np.int8)
        return digits

    def digits(self, x: Array, k: Array, _: Array, xp: Library, /) -> Iterator[Array]:
        """The weight of the nearest level in its phase (the larger of two equally near ones), silence in the others."""
        a, sign = self._nearest(x, k, xp), xp.sign(x)
        for to_come in range(self.phases - 1, -1, -1):
            digit = xp.zeros_like(x)
            for weight in WEIGHTS[self.steps]:
                digit = xp.where(a == weight << (self.octaves * to_come), weight, digit)
            yield sign * digit

    def total(self, x: Array, k: Array, _: Array, xp: Library, /) -> tuple[Array, Array]:
        """The level, and a spike where it is not 0."""
        a = self._nearest(x, k, xp)
        return xp.sign(x) * a, xp.clip(a, 0, 1)

    def _nearest(self, x: Array, k: Array, xp: Library) -> Array:
        """The level nearest to |x| / 2^k, or 0."""
        levels = [0, *self.levels]
        middles = [below + above for below, above in pairwise(levels)]  # twice the middle: 2 |x| >= middle * 2^k takes the upper level
        if xp is np:
            return np.array(levels)[np.searchsorted(middles, 2 * np.abs(x) >> k, side="right")]
        table, bounds = (xp.tensor(values, device=x.device) for values in (levels, middles))
        return table[xp.searchsorted(bounds, (2 * xp.abs(x) >> k).contiguous(), right=True)]

    def _error(self, magnitude: Integers, k: Integers, price: Integers) -> Integers:
        """Half the gap between two levels, as a share of the value between them; |x| or half of the least level below that."""
        del price
        levels = self.levels
        below, above = max(pairwise(levels), key=lambda pair: pair[1] / pair[0], default=(levels[0], levels[0]))
        between = magnitude * (above - below) // (above + below)
        lowest = np.minimum(magnitude, np.int64(levels[0]) << k >> 1)
        between = np.where(magnitude < np.int64(levels[0]) << k, np.maximum(lowest, (np.int64(levels[0]) << k) - magnitude), between)
        return np.maximum(between, magnitude - (np.int64(self.largest_value) << k))
