"""Quantisation-clip-floor-shift (QCFS): L levels, emitted as evenly spread spikes over T phases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from neuromorphic_llm.spikes.arrays import Array, Library
from neuromorphic_llm.spikes.scaled import LevelCode, nearest_level


@dataclass(frozen=True)
class QuantisationClipFloorShift(LevelCode):
    """n = clip(floor(|x| / 2^k + 1/2), 0, L) for each sign; a soft-reset neuron with half-threshold charge emits n spikes in T phases."""

    name: ClassVar[str] = "qcfs"
    summary: ClassVar[str] = "quantisation-clip-floor-shift: L levels as evenly spread spikes"
    source: ClassVar[str] = "Bu et al., ICLR 2022"
    default_phases: ClassVar[int] = 16
    largest_phases: ClassVar[int] = 256

    def digits(self, x: Array, k: Array, _: Array, xp: Library, /) -> Iterator[Array]:
        """Phase t fires when t n / T + 1/2 passes the next integer."""
        level, sign, before = nearest_level(x, k, self.largest_value, xp), xp.sign(x), xp.zeros_like(x)
        for phase in range(1, self.phases + 1):
            emitted = (2 * phase * level + self.phases) // (2 * self.phases)
            yield sign * (emitted - before)
            before = emitted

    def total(self, x: Array, k: Array, _: Array, xp: Library, /) -> tuple[Array, Array]:
        """The level itself, and as many spikes."""
        level = nearest_level(x, k, self.largest_value, xp)
        return xp.sign(x) * level, level
