"""Bit-plane code: the bits of the two's complement, most significant plane first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from neuromorphic_llm.spikes.arrays import Array, Library, Quantised, bit_length, rounded, used_phases
from neuromorphic_llm.spikes.code import ArrayCode, SpikeTrain, as_vectors
from neuromorphic_llm.spikes.integers import Integers


@dataclass(frozen=True)
class BitPlanes(ArrayCode):
    """A set bit is a spike; the sign plane counts negatively."""

    name: ClassVar[str] = "bit-planes"
    summary: ClassVar[str] = "bits of the two's complement, the sign plane first and negative"
    source: ClassVar[str] = "weighted spikes: Kim et al., Neurocomputing 311, 2018"
    default_phases: ClassVar[int] = 8
    largest_phases: ClassVar[int] = 14  # a then splits into two signed bytes

    @property
    def largest_value(self) -> int:
        """Bound of |a|: 2^(T-1)."""
        return 1 << (self.phases - 1)

    def _exponent(self, largest: Array, xp: Library) -> Array:
        """k_min, [tokens]."""
        return xp.clip(bit_length(largest, xp) - (self.phases - 1), 0, None)

    def integers(self, x: Array, stop: Array, xp: Library) -> Quantised:
        """a = sat_T(rsh(x, k_min)), zero where x^2 <= stop; as many spikes as set bits."""
        largest = xp.amax(xp.abs(x), axis=1)
        k_min = self._exponent(largest, xp)
        bound = self.largest_value
        a = xp.clip(rounded(x, k_min[:, None], xp), -bound, bound - 1)
        a = xp.where(x * x <= stop, 0, a)
        spikes = sum((a >> plane) & 1 for plane in range(self.phases))
        return Quantised(a, k_min, spikes, used_phases(largest, self.phases, xp))

    def encode(self, x: ArrayLike, stop: ArrayLike) -> SpikeTrain:
        """One phase per plane."""
        result = self.quantise(x, stop)
        planes = np.arange(self.phases - 1, -1, -1)[:, None, None]
        digits = ((result.a >> planes) & 1).astype(np.int8)
        digits[0] *= -1
        return SpikeTrain(digits[-int(result.phases.max(initial=1)) :], self.horner_shift, result.exponent, result.phases)

    def worst_case_error(self, x: ArrayLike, stop: ArrayLike) -> Integers:
        """Half a step; just under one step where the largest positive value saturates; all of x inside the dead zone."""
        vectors = as_vectors(x)
        k_min = self._exponent(np.abs(vectors).max(axis=1), np)[:, None]
        step = np.int64(1) << k_min
        saturated = vectors >= ((1 << (self.phases - 1)) - 1) * step
        error = np.where(saturated, step - 1, step >> 1)
        return np.where(vectors * vectors <= np.asarray(stop, np.int64), np.abs(vectors), error)
