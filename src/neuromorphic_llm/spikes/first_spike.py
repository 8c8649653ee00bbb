"""Time-to-first-spike code: one spike per neuron, at the phase of the nearest power of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from neuromorphic_llm.spikes.code import Coded, SpikeCode, SpikeTrain, as_vectors
from neuromorphic_llm.spikes.integers import Integers, bit_length


@dataclass(frozen=True)
class FirstSpike(SpikeCode):
    """x ~ sign(x) * 2^k: the earlier the spike, the larger the value."""

    name: ClassVar[str] = "first-spike"
    default_phases: ClassVar[int] = 14
    largest_phases: ClassVar[int] = 14  # a then splits into two signed bytes

    @property
    def largest_value(self) -> int:
        """Bound of |a|: 2^(T-1)."""
        return 1 << (self.phases - 1)

    def _spike_weights(self, x: Integers, stop: Integers) -> tuple[Integers, Integers, Integers]:
        """log2 of each neuron's spike (-1: silent) [tokens, inputs], k_top and k_min [tokens]."""
        magnitude = np.abs(x)
        k_top = bit_length(magnitude.max(axis=1))
        k_min = np.maximum(k_top - self.phases + 1, 0)
        k = np.maximum(bit_length(magnitude) - 1, 0)
        k += 2 * magnitude >= 3 * (np.int64(1) << k)
        silent = (x == 0) | (k < k_min[:, None]) | (x * x <= stop)
        return np.where(silent, -1, k), k_top, k_min

    def quantise(self, x: ArrayLike, stop: ArrayLike) -> Coded:
        """a = sign(x) * 2^(k - k_min); at most one spike each."""
        vectors = as_vectors(x)
        k, k_top, k_min = self._spike_weights(vectors, np.asarray(stop, np.int64))
        fires = k >= 0
        a = np.where(fires, np.sign(vectors) << np.maximum(k - k_min[:, None], 0), 0).astype(np.int32)
        return Coded(a, k_min.astype(np.int32), fires.astype(np.int32), (k_top - k_min + 1).astype(np.int32))

    def encode(self, x: ArrayLike, stop: ArrayLike) -> SpikeTrain:
        """The phase of weight 2^k fires the neurons whose nearest power of two is 2^k."""
        vectors = as_vectors(x)
        k, k_top, k_min = self._spike_weights(vectors, np.asarray(stop, np.int64))
        used = (k_top - k_min + 1).astype(np.int32)
        to_come = np.arange(int(used.max(initial=1)) - 1, -1, -1)[:, None, None]
        digits = np.where(k == k_min[:, None] + to_come, np.sign(vectors), 0).astype(np.int8)
        return SpikeTrain(digits, self.horner_shift, k_min.astype(np.int32), used)

    def worst_case_error(self, x: ArrayLike, stop: ArrayLike) -> Integers:
        """A third of |x| (reached at 1.5 * 2^k), or all of it where the neuron is silent."""
        vectors = as_vectors(x)
        k, _, _ = self._spike_weights(vectors, np.asarray(stop, np.int64))
        return np.where(k >= 0, np.abs(vectors) // 3, np.abs(vectors))
