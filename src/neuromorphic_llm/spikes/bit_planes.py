"""Bit-plane code: the bits of the two's complement, most significant plane first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from neuromorphic_llm.spikes.code import Coded, SpikeCode, SpikeTrain, as_vectors, used_phases
from neuromorphic_llm.spikes.integers import Integers, bit_length, rsh, saturate


@dataclass(frozen=True)
class BitPlanes(SpikeCode):
    """A set bit is a spike; the sign plane counts negatively."""

    name: ClassVar[str] = "bit-planes"
    default_phases: ClassVar[int] = 8
    largest_phases: ClassVar[int] = 14  # a then splits into two signed bytes

    @property
    def largest_value(self) -> int:
        """Bound of |a|: 2^(T-1)."""
        return 1 << (self.phases - 1)

    def _exponent(self, largest: Integers) -> Integers:
        """k_min, [tokens]."""
        return np.maximum(bit_length(largest) - (self.phases - 1), 0)

    def _bits(self, a: Integers) -> Integers:
        """Bits of the two's complement of a, [phases, tokens, inputs], sign plane first."""
        plane = np.arange(self.phases - 1, -1, -1)[:, None, None]
        return (a >> plane) & 1

    def quantise(self, x: ArrayLike, stop: ArrayLike) -> Coded:
        """a = sat_T(rsh(x, k_min)), zero where x^2 <= stop; as many spikes as set bits."""
        vectors = as_vectors(x)
        largest = np.abs(vectors).max(axis=1)
        k_min = self._exponent(largest)
        a = saturate(rsh(vectors, k_min[:, None]), self.phases)
        a = np.where(vectors * vectors <= np.asarray(stop, np.int64), 0, a)
        spikes = self._bits(a).sum(axis=0).astype(np.int32)
        return Coded(a.astype(np.int32), k_min.astype(np.int32), spikes, used_phases(largest, self.phases))

    def encode(self, x: ArrayLike, stop: ArrayLike) -> SpikeTrain:
        """One phase per plane."""
        result = self.quantise(x, stop)
        digits = self._bits(result.a.astype(np.int64)).astype(np.int8)
        digits[0] *= -1
        return SpikeTrain(digits[-int(result.phases.max(initial=1)) :], self.horner_shift, result.exponent, result.phases)

    def worst_case_error(self, x: ArrayLike, stop: ArrayLike) -> Integers:
        """Half a step; just under one step where the largest positive value saturates; all of x inside the dead zone."""
        vectors = as_vectors(x)
        k_min = self._exponent(np.abs(vectors).max(axis=1))[:, None]
        step = np.int64(1) << k_min
        saturated = vectors >= ((1 << (self.phases - 1)) - 1) * step
        error = np.where(saturated, step - 1, step >> 1)
        return np.where(vectors * vectors <= np.asarray(stop, np.int64), np.abs(vectors), error)
