"""Rate code: the number of spikes is the value, evenly spread over the phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from neuromorphic_llm.spikes.arrays import Array, Library, Quantised, exponent_for, rounded, used_phases
from neuromorphic_llm.spikes.code import ArrayCode, SpikeTrain, as_vectors
from neuromorphic_llm.spikes.integers import Integers


@dataclass(frozen=True)
class Rate(ArrayCode):
    """Soft-reset integrate-and-fire neuron with constant input; every spike weighs 2^k."""

    name: ClassVar[str] = "rate"
    summary: ClassVar[str] = "soft-reset integrate-and-fire: as many spikes as the value, evenly spread"
    source: ClassVar[str] = "Rueckauer et al., Frontiers in Neuroscience 11, 2017; half-threshold start: Bu et al., AAAI 2022"
    default_phases: ClassVar[int] = 32
    largest_phases: ClassVar[int] = 256

    @property
    def horner_shift(self) -> int:
        """0: every spike weighs the same."""
        return 0

    @property
    def largest_value(self) -> int:
        """Bound of |a|: T."""
        return self.phases

    def integers(self, x: Array, stop: Array, xp: Library) -> Quantised:
        """a = clip(rsh(x, k), -T, T), zero where x^2 <= stop; |a| spikes each."""
        largest = xp.amax(xp.abs(x), axis=1)
        k = exponent_for(largest, self.phases, xp)
        a = xp.clip(rounded(x, k[:, None], xp), -self.phases, self.phases)
        a = xp.where(x * x <= stop, 0, a)
        return Quantised(a, k, xp.abs(a), used_phases(largest, self.phases, xp))

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
        exponent = exponent_for(np.abs(vectors).max(axis=1), self.phases, np)
        half = (np.int64(1) << exponent)[:, None] >> 1
        return np.where(vectors * vectors <= np.asarray(stop, np.int64), np.abs(vectors), half)
