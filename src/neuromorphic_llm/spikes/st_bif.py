"""Signed ternary integrate-and-fire (ST-BIF), simulated step by step: a spike of -1 takes back what was emitted too much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from neuromorphic_llm.spikes.arrays import Array, Library, power, rounded
from neuromorphic_llm.spikes.parameters import parameter
from neuromorphic_llm.spikes.scaled import LevelCode


def st_bif_spikes(currents: Iterable[Array], threshold: Array, most: int, least: int, xp: Library) -> Iterator[Array]:
    """Spikes in -1, 0, 1 of ST-BIF neurons that get one of `currents` (int64 [tokens, inputs]) a step.

    The membrane starts at half the threshold. A neuron fires 1 if its membrane has reached the threshold and it has emitted fewer than
    `most` spikes in sum, and -1 if its membrane is negative and it has emitted more than `least`. Membrane and threshold are counted in
    halves, so that half of an odd threshold is exact.
    """
    total: Array = 0
    membrane: Array = threshold
    for current in currents:
        membrane = membrane + 2 * current
        up = (membrane >= 2 * threshold) & (xp.zeros_like(current) + total < most)
        down = (membrane < 0) & (xp.zeros_like(current) + total > least)
        spike = xp.where(up, 1, 0) - xp.where(down, 1, 0)
        membrane = membrane - 2 * threshold * spike
        total = total + spike
        yield spike


@dataclass(frozen=True)
class SignedTernary(LevelCode):
    """ST-BIF neurons with constant current, or with all charge at the first step."""

    current: str = parameter("constant", "how the charge arrives", choices=("constant", "first"))

    name: ClassVar[str] = "st-bif"
    summary: ClassVar[str] = "signed ternary integrate-and-fire, step by step; -1 takes back an overshoot"
    source: ClassVar[str] = "You et al., SpikeZIP-TF, ICML 2024"
    default_phases: ClassVar[int] = 32
    largest_phases: ClassVar[int] = 256

    def digits(self, x: Array, k: Array, _: Array, xp: Library, /) -> Iterator[Array]:
        """Currents of x in every step against thresholds of T 2^k, or of x in the first step against 2^k."""
        constant = self.current == "constant"
        silent = xp.zeros_like(x)
        currents = [x] * self.phases if constant else [x, *[silent] * (self.phases - 1)]
        threshold = power(k, xp) * (self.phases if constant else 1)
        least = -self.largest_value if self.signed else 0
        return st_bif_spikes(currents, threshold, self.largest_value, least, xp)

    def total(self, x: Array, k: Array, _: Array, xp: Library, /) -> tuple[Array, Array]:
        """Value after the last step of the simulation: neither current overshoots."""
        a = xp.clip(rounded(x, k, xp), -self.largest_value, self.largest_value)
        return a, xp.abs(a)
