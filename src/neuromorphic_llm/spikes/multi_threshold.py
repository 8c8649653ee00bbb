"""Multi-threshold neurons: thresholds 2^j of both signs side by side, one spike per phase that carries its threshold's weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neuromorphic_llm.spikes.arrays import Array, Library, bit_length, power
from neuromorphic_llm.spikes.integers import Integers
from neuromorphic_llm.spikes.parameters import parameter
from neuromorphic_llm.spikes.scaled import ScaledCode


@dataclass(frozen=True)
class MultiThreshold(ScaledCode):
    """Each phase fires the threshold nearest to the membrane, by the 3/4 rule, and resets softly by it."""

    thresholds: int = parameter(7, "thresholds of each sign", least=1, most=7)
    current: str = parameter("first", "how the charge arrives: all at once, or the whole input every phase", choices=("first", "constant"))

    name: ClassVar[str] = "multi-threshold"
    summary: ClassVar[str] = "n thresholds of each sign, the nearest fires: a spike of weight 2^j per phase"
    source: ClassVar[str] = "Huang et al., Towards High-performance Spiking Transformers from ANN to SNN Conversion, ACM MM 2024"
    default_phases: ClassVar[int] = 3
    largest_phases: ClassVar[int] = 64
    graded: ClassVar[bool] = True

    @property
    def horner_shift(self) -> int:
        """0: the spikes carry their weights."""
        return 0

    @property
    def largest_value(self) -> int:
        """Bound of |a|: the highest threshold in every phase."""
        return self.phases << (self.thresholds - 1)

    def digits(self, x: Array, k: Array, stop: Array, xp: Library, /) -> Iterator[Array]:
        """Weights of the thresholds that fire; with all charge at once a spike must also pay its price, as in signed-digit."""
        constant = self.current == "constant"
        unit = power(k, xp) * (self.phases if constant else 1)
        membrane = xp.zeros_like(x) if constant else x
        for _ in range(self.phases):
            membrane = membrane + x if constant else membrane
            magnitude = xp.abs(membrane)
            # The highest threshold whose 3/4 the membrane reaches; if it does not pay, no lower one does: it would gain less.
            above = bit_length(4 * magnitude // (3 * unit), xp)
            j = xp.clip(above - 1, 0, self.thresholds - 1)
            fires = above > 0 if constant else (above > 0) & (2 * magnitude > (unit << j) + (stop >> (k + j)))
            digit = xp.where(fires, xp.sign(membrane) << j, 0)
            if not self.signed:
                digit = xp.clip(digit, 0, None)
            membrane = membrane - digit * unit
            yield digit

    def _error(self, magnitude: Integers, k: Integers, price: Integers) -> Integers:
        """Largest membrane that T phases can leave, followed phase by phase."""
        constant = self.current == "constant"
        unit = (np.int64(1) << k) * (self.phases if constant else 1)
        top, silent = unit << (self.thresholds - 1), (3 * unit + 3 >> 2) - 1
        if not constant:
            # A spike of the nearest threshold w, 2/3 |v| <= w <= 4/3 |v|, gains at least 8/9 v^2: what does not pay is below 9/8 R.
            unpaid = np.sqrt(1.125 * price).astype(np.int64) + 1
            capped = (top + (price >> (k + self.thresholds - 1))) >> 1  # where v exceeds 3/2 of the highest threshold
            silent = np.maximum(silent, np.maximum(unpaid, np.where(2 * magnitude >= 3 * top, capped, 0)))
        if not self.signed:
            silent = np.maximum(silent, top >> 2)  # an overshoot that no negative spike takes back
        if not constant:
            silent = np.minimum(silent, magnitude)
        bound = np.zeros_like(magnitude) if constant else magnitude
        for _ in range(self.phases):
            bound = bound + magnitude if constant else bound
            fired = np.maximum(bound // 3, np.where(2 * bound > 3 * top, np.maximum(bound - top, top >> 1), 0))
            bound = np.maximum(fired, silent)
        return -(-bound // self.phases) if constant else bound
