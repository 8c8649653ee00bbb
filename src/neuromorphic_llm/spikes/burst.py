"""Burst codes: several spikes in a phase. Sign-magnitude bit planes are the burst code of one spike in a binary phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.arrays import Array, Library
from neuromorphic_llm.spikes.parameters import parameter
from neuromorphic_llm.spikes.scaled import ScaledCode, nearest_level


def burst_digits(x: Array, k: Array, gamma: int, shift: int, phases: int, xp: Library) -> Iterator[Array]:
    """Signed numbers of spikes per phase: as many as the membrane holds of the phase's weight 2^(shift * phases to come), at most gamma."""
    membrane, sign = nearest_level(x, k, gamma * sum(1 << (shift * t) for t in range(phases)), xp), xp.sign(x)
    for to_come in range(phases - 1, -1, -1):
        spikes = xp.clip(membrane >> (shift * to_come), None, gamma)
        membrane = membrane - (spikes << (shift * to_come))
        yield sign * spikes


@dataclass(frozen=True)
class Burst(ScaledCode):
    """Up to gamma spikes per phase, phases weighted by powers of 2^shift (0: all alike)."""

    gamma: int = parameter(3, "most spikes in a phase", least=1, most=127)
    shift: int = parameter(2, "bits between the weights of neighbouring phases (0: all weigh the same)", least=0, most=6)

    name: ClassVar[str] = "burst"
    summary: ClassVar[str] = "up to gamma spikes per phase, phases weighted by powers of 2^shift"
    source: ClassVar[str] = "Park et al., DAC 2019; shift 0: Li and Zeng, IJCAI 2022"
    default_phases: ClassVar[int] = 4
    largest_phases: ClassVar[int] = 128

    def check(self) -> None:
        """Every integer has a representation only if a phase can hold what the next higher one is worth, less one."""
        if self.gamma < (1 << self.shift) - 1:
            raise UsageError(f"code 'burst': shift {self.shift} needs gamma of at least {(1 << self.shift) - 1}, not {self.gamma}")

    @property
    def horner_shift(self) -> int:
        """The shift."""
        return self.shift

    @property
    def largest_value(self) -> int:
        """Bound of |a|: gamma spikes in every phase."""
        return self.gamma * sum(1 << (self.shift * t) for t in range(self.phases))

    def digits(self, x: Array, k: Array, _: Array, xp: Library, /) -> Iterator[Array]:
        """Soft-reset neurons with half-threshold charge, most significant phase first."""
        return burst_digits(x, k, self.gamma, self.shift, self.phases, xp)


@dataclass(frozen=True)
class SignMagnitude(ScaledCode):
    """The bits of |a|, each a spike of x's sign."""

    name: ClassVar[str] = "sign-magnitude"
    summary: ClassVar[str] = "bits of the magnitude, each a spike of the input's sign"
    source: ClassVar[str] = "weighted spikes: Kim et al., Neurocomputing 311, 2018; one plane for the sign of all"
    default_phases: ClassVar[int] = 7
    largest_phases: ClassVar[int] = 13

    @property
    def largest_value(self) -> int:
        """Bound of |a|: 2^T - 1."""
        return (1 << self.phases) - 1

    def digits(self, x: Array, k: Array, _: Array, xp: Library, /) -> Iterator[Array]:
        """One spike at most in phases of powers of two."""
        return burst_digits(x, k, 1, 1, self.phases, xp)
