"""Rate code: the number of spikes is the value, evenly spread over the phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from neuromorphic_llm.spikes.code import Coded, SpikeCode, SpikeTrain, as_vectors, used_phases
from neuromorphic_llm.spikes.integers import Integers, bit_length, rsh


@dataclass(frozen=True)
class Rate(SpikeCode):
    """What a soft-reset integrate-and-fire neuron emits for constant input; every spike weighs 2^k."""

    name: ClassVar[str] = "rate"
    default_phases: ClassVar[int] = 32
    largest_phases: ClassVar[int] = 256
    horner_shift: ClassVar[int] = 0

    @property
    def largest_value(self) -> int:
        """Bound of |a|: T."""
        return self.phases

    def _exponent(self, largest: Integers) -> Integers:
        """Smallest k >= 0 with T * 2^k >= m, [tokens]."""
        return bit_length(np.maximum(-(-largest // self.phases) - 1, 0))

    def quantise(self, x: ArrayLike, stop: ArrayLike) -> Coded:
        """a = clip(rsh(x, k), -T, T), zero where x^2 <= stop; |a| spikes each."""
        vectors = as_vectors(x)
        largest = np.abs(vectors).max(axis=1)
        k = self._exponent(largest)
        a = np.clip(rsh(vectors, k[:, None]), -self.phases, self.phases)
        a = np.where(vectors * vectors <= np.asarray(stop, np.int64), 0, a)
        return Coded(a.astype(np.int32), k.astype(np.int32), np.abs(a).astype(np.int32), used_phases(largest, self.phases))

    def encode(self, x: ArrayLike, stop: ArrayLike) -> SpikeTrain:
        """Phase t fires when the running share t * |a| / T passes the next integer."""
        result = self.quantise(x, stop)
        magnitude = np.abs(result.a.astype(np.int64))
        phase = np.arange(int(result.phases.max(initial=1)) + 1, dtype=np.int64)[:, None, None]
        fired = np.diff(phase * magnitude // self.phases, axis=0)
        digits = (fired * np.sign(result.a)).astype(np.int8)
        return SpikeTrain(digits, self.horner_shift, result.exponent, result.phases)

    def worst_case_error(self, x: ArrayLike, stop: ArrayLike) -> Integers:
        """Half a step, or all of x inside the dead zone."""
        vectors = as_vectors(x)
        half = (np.int64(1) << self._exponent(np.abs(vectors).max(axis=1)))[:, None] >> 1
        return np.where(vectors * vectors <= np.asarray(stop, np.int64), np.abs(vectors), half)
