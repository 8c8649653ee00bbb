"""Time-to-first-spike code: one spike per neuron, at the phase of the nearest power of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from neuromorphic_llm.spikes.arrays import Array, Library, Quantised, bit_length, power
from neuromorphic_llm.spikes.code import ArrayCode, SpikeTrain, as_vectors
from neuromorphic_llm.spikes.integers import Integers


@dataclass(frozen=True)
class FirstSpike(ArrayCode):
    """x ~ sign(x) * 2^k: the earlier the spike, the larger the value."""

    name: ClassVar[str] = "first-spike"
    summary: ClassVar[str] = "time to first spike: one spike, of the nearest power of two"
    source: ClassVar[str] = "Rueckauer and Liu, ISCAS 2018; logarithmic values: Miyashita et al., arXiv 1603.01025, 2016"
    default_phases: ClassVar[int] = 14
    largest_phases: ClassVar[int] = 14  # a then splits into two signed bytes

    @property
    def largest_value(self) -> int:
        """Bound of |a|: 2^(T-1)."""
        return 1 << (self.phases - 1)

    def _spike_weights(self, x: Array, stop: Array, xp: Library) -> tuple[Array, Array, Array]:
        """log2 of each neuron's spike (-1: silent) [tokens, inputs], k_top and k_min [tokens]."""
        magnitude = xp.abs(x)
        k_top = bit_length(xp.amax(magnitude, axis=1), xp)
        k_min = xp.clip(k_top - self.phases + 1, 0, None)
        k = xp.clip(bit_length(magnitude, xp) - 1, 0, None)
        k = k + xp.where(2 * magnitude >= 3 * power(k, xp), 1, 0)
        silent = (x == 0) | (k < k_min[:, None]) | (x * x <= stop)
        return xp.where(silent, -1, k), k_top, k_min

    def integers(self, x: Array, stop: Array, xp: Library) -> Quantised:
        """a = sign(x) * 2^(k - k_min); at most one spike each."""
        k, k_top, k_min = self._spike_weights(x, stop, xp)
        fires = xp.where(k >= 0, 1, 0)
        a = (fires * xp.sign(x)) << xp.clip(k - k_min[:, None], 0, None)
        return Quantised(a, k_min, fires, k_top - k_min + 1)

    def encode(self, x: ArrayLike, stop: ArrayLike) -> SpikeTrain:
        """The phase of weight 2^k fires the neurons whose nearest power of two is 2^k."""
        vectors = as_vectors(x)
        k, k_top, k_min = self._spike_weights(vectors, np.asarray(stop, np.int64), np)
        used = (k_top - k_min + 1).astype(np.int32)
        to_come = np.arange(int(used.max(initial=1)) - 1, -1, -1)[:, None, None]
        digits = np.where(k == k_min[:, None] + to_come, np.sign(vectors), 0).astype(np.int8)
        return SpikeTrain(digits, self.horner_shift, k_min.astype(np.int32), used)

    def worst_case_error(self, x: ArrayLike, stop: ArrayLike) -> Integers:
        """A third of |x| (reached at 1.5 * 2^k), or all of it where the neuron is silent."""
        vectors = as_vectors(x)
        k, _, _ = self._spike_weights(vectors, np.asarray(stop, np.int64), np)
        return np.where(k >= 0, np.abs(vectors) // 3, np.abs(vectors))
