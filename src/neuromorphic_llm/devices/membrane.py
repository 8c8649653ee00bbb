"""The membrane readout: one conversion per token of the charge that a block collects over all phases (docs/reference/devices.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeGuard

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.devices.cells import Array, Library
from neuromorphic_llm.devices.readout import BOUNDS, BlockReadout, Counts, Drive, Readout
from neuromorphic_llm.errors import UsageError

LARGEST_SHIFT = 29
"""Largest shift of a first conversion."""

REPEAT_SHIFT = 2
"""Halvings between a conversion that saturates and the next one."""

_LARGEST = tuple((1 << max(bits - 1, 0)) - 1 for bits in range(33))
"""Largest integer of converters by bits; a table, for compiled code in which the bits are symbolic."""


@dataclass(frozen=True)
class Membrane(BlockReadout):
    """Charge of a block, halved between phases, converted once; halved and converted again where that saturates."""

    repeats: int = 3  # conversions after the first at most
    range_bits: int = 3  # of the range of a column, beside the least one of its site
    joined: int = 1  # row blocks whose charges meet before a conversion

    name: ClassVar[str] = "membrane"
    by_decrement: ClassVar[bool] = True
    least_significant_first: ClassVar[bool] = True
    bounds: ClassVar[Mapping[str, tuple[int, int]]] = MappingProxyType({**BOUNDS, "repeats": (0, 8), "range_bits": (1, 6)})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.converter_bits < 2:
            raise UsageError(f"readout {self.name!r}: converter_bits must be an integer in 2..32, not {self.converter_bits}")

    @property
    def default_bits(self) -> int:
        """Fewest bits without loss on the models that were measured."""
        return 9

    @property
    def block_rows(self) -> int:
        """See BlockReadout.block_rows."""
        return self.rows * self.joined

    @property
    def largest_range(self) -> int:
        """Largest difference between the ranges of a site's columns, which `range_bits` hold."""
        return (1 << self.range_bits) - 1

    def convert(self, sums: Array, exponents: Array, ranges: Array, xp: Library) -> tuple[Array, Array]:
        """See BlockReadout.convert."""
        most = _LARGEST[self.converter_bits]
        shift = xp.clip(exponents[:, :, None] + xp.asarray(ranges, dtype=xp.int64)[:, None], 0, LARGEST_SHIFT)
        repeats = xp.zeros_like(sums)
        converted = _shifted(sums, shift)
        for _ in range(self.repeats):
            beyond = (converted > most) | (converted < -most - 1)
            shift = shift + REPEAT_SHIFT * beyond
            converted = _shifted(sums, shift)
            repeats = repeats + beyond
        return xp.clip(converted, -most - 1, most) << shift, repeats

    def needed_ranges(self, sums: Array, exponents: Array, xp: Library) -> Array:
        """See BlockReadout.needed_ranges; a sum that only rounding takes beyond the converter counts as one that fits."""
        bits = xp.asarray(xp.ceil(xp.log2(xp.asarray(abs(sums), dtype=xp.float64) + 0.5)), dtype=xp.int64)
        return bits - (self.converter_bits - 1) - exponents[:, None]

    def range_errors(self, needed: Counts, ranges: Counts) -> NDArray[np.float64]:
        """See BlockReadout.range_errors: rounding, or clipping where a sum does not fit at once, as if nothing were converted again.

        A range that relies on repeated conversions would be no worse for the error of this text, but for all others, and takes more.
        """
        bits = self.converter_bits - 1
        limit, largest = 2.0 ** (bits + ranges), 2.0 ** (bits + needed)
        clipped = ((largest - limit) ** 3 - np.maximum(largest / 2 - limit, 0) ** 3) / (1.5 * largest)  # of sums from largest / 2 on
        return np.where(needed > ranges, clipped, 4.0**ranges / 12)

    def conversions(self, events: Counts) -> Counts:
        """First conversions of one column of weights, [sites]: one for each token and block with a spike."""
        spiking = events.sum(axis=2) > 0  # [tokens, sites, row_blocks]
        counted: Counts = np.logical_or.reduceat(spiking, np.arange(0, spiking.shape[2], self.joined), axis=2).sum(axis=(0, 2))
        return counted

    def integrations(self, events: Counts) -> Counts:
        """Integrations on the membranes of one column of weights, [sites]; every slice has a membrane."""
        counted: Counts = self.reads(events).sum(axis=(0, 2, 3))
        return self.slices * counted

    def halvings(self, events: Counts, of_trains: Counts) -> Counts:
        """Halvings of the membranes of one column of weights, [sites]; those before repeated conversions are not among them."""
        blocks = (events.sum(axis=2) > 0).sum(axis=2)  # [tokens, sites]
        counted: Counts = (blocks * of_trains).sum(axis=0)
        return self.slices * counted

    def phase_cycles(self, events: Counts, phases: Counts, read_latency: int, mux_cycles: int, *, in_order: bool) -> Counts:
        """See Readout.phase_cycles: in order, phases are integrated as they come, else all of them with the last one."""
        groups = self.reads(events).max(axis=-1)  # [tokens, sites, phases]
        number = np.arange(groups.shape[-1])
        last, spiking = number == phases[..., None] - 1, (groups.sum(axis=-1) > 0)[..., None]
        integrating = read_latency * groups + 1
        if not in_order:
            train = (integrating * (number < phases[..., None])).sum(axis=-1, keepdims=True)
            integrating = np.where(last & spiking, train, 1)
        cycles: Counts = integrating + mux_cycles * (1 + self.repeats) * (last & spiking)
        return cycles

    def rtl_parameters(self) -> dict[str, int]:
        """See Readout.rtl_parameters."""
        return {"MEMBRANE": 1, "REPEATS": self.repeats, "RANGE_BITS": self.range_bits}


class MembraneEnergy(Membrane):
    """Membranes whose gain follows the energy of the spikes of a block instead of the halvings of the train."""

    name: ClassVar[str] = "membrane-energy"
    squares: ClassVar[bool] = True

    @property
    def default_bits(self) -> int:
        """Bits that it was measured with."""
        return 8

    def exponents(self, drive: Drive, xp: Library) -> Array:
        """See BlockReadout.exponents: half of the energy's binary exponent."""
        _, length = xp.frexp(xp.asarray(drive.energies, dtype=xp.float64))  # exact below 2^53
        return (xp.asarray(length, dtype=xp.int64) - 1) >> 1

    def rtl_parameters(self) -> dict[str, int]:
        """See Readout.rtl_parameters: none."""
        return Readout.rtl_parameters(self)


def converts_as_membrane(readout: Readout) -> TypeGuard[Membrane]:
    """True of membranes whose conversion is that of Membrane, which engines have kernels for; a derived class may have its own."""
    return isinstance(readout, Membrane) and type(readout).convert is Membrane.convert


def _shifted(sums: Array, shift: Any) -> Array:
    """Rounding right shift, half up."""
    return (sums + ((1 << shift) >> 1)) >> shift
