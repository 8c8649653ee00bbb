"""Readouts: how spikes on the rows of a crossbar become accumulators, and what that takes (docs/reference/devices.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.devices.cells import LARGEST_WEIGHT, Array, Cell, Library
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.registry import Registry, name_advice, subclass_flaw

Counts = NDArray[np.int64]

BOUNDS: Mapping[str, tuple[int, int]] = MappingProxyType({"cell_bits": (1, 16), "slices": (1, 16), "converter_bits": (0, 32)})
"""Bounds of parameters; 1 and 2^20 of the others."""

LARGEST_RANGE = 29
"""Bound of the magnitude of a column's range."""


@dataclass(frozen=True)
class Drive:
    """Drive of a site's crossbars: arrays of the library and on the device of the digits that they come with.

    phases [tokens]: phases that each token uses; ranges int8 [blocks, outputs] of a site whose readout is calibrated; energies int64
    [blocks, tokens], sums of the squares of a block's inputs, for a readout with `squares`.
    """

    phases: Array
    horner_shift: int  # of the spike code: 1 positional, 0 rate
    ranges: Array | None = None
    energies: Array | None = None

    @property
    def halvings(self) -> Array:
        """Halvings between the first and the last phase of each token, [tokens]."""
        return self.horner_shift * (self.phases - 1)


class Reading(NamedTuple):
    """Accumulators of a site, int64 [tokens, outputs], and the repeated conversions behind them, int64 [tokens]."""

    accumulators: Array
    repeats: Array


@dataclass(frozen=True)
class Readout(ABC):
    """A way to read crossbars out; a subclass may add parameters as integer fields.

    UsageError naming the parameter if one is no positive integer, or if the cells cannot hold a weight.
    """

    rows: int = 256  # inputs of a row block
    active_rows: int = 32  # driven by a read at most
    cell_bits: int = 4
    slices: int = 2
    converter_bits: int = 0  # sign included; 0: default_bits

    name: ClassVar[str]
    exact: ClassVar[bool] = False
    """Accumulators are the integer product, so an engine may compute them as one."""

    by_decrement: ClassVar[bool] = False
    """Converters take the charge of a membrane off in binary shares; other readouts have converters beside their columns."""

    squares: ClassVar[bool] = False
    """Gain follows the squares of the inputs (Drive.energies)."""

    least_significant_first: ClassVar[bool] = False
    """Phases are taken from the least significant one on; other readouts begin with the most significant one."""

    stamped: ClassVar[bool] = False
    """Trains of one phase whose events carry their time slots; other readouts take events phase by phase."""

    bounds: ClassVar[Mapping[str, tuple[int, int]]] = BOUNDS
    """Least and largest value of parameters that are not bounded by 1 and 2^20."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least, most = self.bounds.get(field.name, (1, 1 << 20))
            if type(value) is not int or not least <= value <= most:
                raise UsageError(f"readout {self.name!r}: {field.name} must be an integer in {least}..{most}, not {value!r}")
        if self.converter_bits == 0:
            object.__setattr__(self, "converter_bits", self.default_bits)
        if self.cell.largest_weight < LARGEST_WEIGHT:
            raise UsageError(
                f"readout {self.name!r}: {self.slices} slices of {self.cell_bits} bits hold weights up to {self.cell.largest_weight}, "
                f"not {LARGEST_WEIGHT}; raise slices or cell_bits"
            )

    @property
    def cell(self) -> Cell:
        """Cells that hold the weights."""
        return Cell(self.cell_bits, self.slices)

    def row_blocks(self, inputs: int) -> int:
        """Row blocks of a site with so many inputs."""
        return -(-inputs // self.rows)

    @property
    def exact_bits(self) -> int:
        """Fewest bits that hold every column sum of a read, sign included."""
        return (2 * self.active_rows * self.cell.largest_level).bit_length()

    @property
    def default_bits(self) -> int:
        """Width of a converter whose width is not given."""
        return self.exact_bits

    @property
    def converter_widths(self) -> tuple[int, ...]:
        """Bits of the converters of each slice, the lowest first."""
        return (self.converter_bits,) * self.slices

    @abstractmethod
    def accumulate(self, digits: Array, levels: Array, drive: Drive, xp: Library) -> Reading:
        """Accumulators of a site.

        digits int8 [phases, tokens, inputs] and levels int8 [slices, inputs, outputs] of the library xp, on one device.
        """

    def accumulate_events(self, digits: NDArray[np.int8], levels: NDArray[np.int8], drive: Drive) -> Reading:
        """Accumulators of one token, of digits [phases, inputs], with work in proportion to its events."""
        return self.accumulate(digits[:, None], levels, drive, np)

    def reads(self, events: Counts) -> Counts:
        """Reads of a row block, of the same shape, from its events in a phase."""
        return -(-events // self.active_rows)

    def conversions(self, events: Counts) -> Counts:
        """Conversions of one column of weights, [sites], from events [tokens, sites, phases, row_blocks]."""
        reads: Counts = self.reads(events).sum(axis=(0, 2, 3))
        return reads * self.slices

    def accumulations(self, conversions: int, repeated: int) -> int:  # noqa: ARG002 - what saturated is not added
        """Additions to accumulators, from first and repeated conversions."""
        return conversions

    def integrations(self, events: Counts) -> Counts:
        """Integrations of charge on the membranes of one column of weights, [sites], from events as in `conversions`."""
        return np.zeros(events.shape[1], np.int64)

    def halvings(self, events: Counts, of_trains: Counts) -> Counts:  # noqa: ARG002 - there is no membrane
        """Halvings of charge of one column of weights, [sites], from events as in `conversions` and Drive.halvings [tokens, sites]."""
        return np.zeros(events.shape[1], np.int64)

    def decays(self, events: Counts) -> Counts:
        """Decays of charge of one column of weights from slot to slot, [sites], from events [tokens, sites, slots, row_blocks]."""
        return np.zeros(events.shape[1], np.int64)

    def train_cycles(self, events: Counts, read_latency: int, mux_cycles: int) -> Counts:
        """Cycles of every stamped train, [tokens, sites], from events [tokens, sites, slots, row_blocks]; arguments as of phase_cycles."""
        raise NotImplementedError(f"readout {self.name!r} takes no stamped trains")

    def phase_cycles(self, events: Counts, phases: Counts, read_latency: int, mux_cycles: int, *, in_order: bool) -> Counts:  # noqa: ARG002
        """Cycles of every phase in the order of their arrival, [tokens, sites, phases].

        From events [tokens, sites, phases, row_blocks] in that order and phases [tokens, sites]; mux_cycles: in which the converters take
        every column once; in_order: the order of arrival is that in which the readout takes phases.
        """
        reads = self.reads(events).max(axis=-1)
        return np.where(reads > 0, read_latency + mux_cycles * reads, 1)

    def rtl_parameters(self) -> dict[str, int]:
        """Constants of the SystemVerilog package in which the readout differs from the exact one, by name.

        SimulationError if the RTL does not have this readout.
        """
        raise SimulationError(
            f"the RTL has no readout {self.name!r}, only 'exact', 'reread', 'membrane' and 'membrane-decay'; "
            "simulate with events, or convert for one of these"
        )

    def described(self) -> str:
        """Name and parameters for messages."""
        return f"{self.name} ({', '.join(f'{name} {value}' for name, value in asdict(self).items())})"

    def to_json(self) -> dict[str, Any]:
        """JSON object of the name and the parameters."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class ConvertedReads(Readout):
    """A readout whose column sums are converted read by read, and added digitally."""

    @abstractmethod
    def convert(self, sums: Array) -> Array:
        """Integers that the converters make of column sums, elementwise on int64 arrays."""

    def accumulate(self, digits: Array, levels: Array, drive: Drive, xp: Library) -> Reading:
        """See Readout.accumulate; the tokens side by side, one read after another."""
        levels = xp.asarray(levels, dtype=xp.float64)  # whose products are exact below 2^53, and fast
        total = xp.zeros_like(digits[0, :, :1] * levels[0, :1], dtype=xp.int64)
        for phase in digits:
            total = total << drive.horner_shift
            for first in range(0, phase.shape[1], self.rows):
                block = slice(first, first + self.rows)
                for driven in self._reads_of(phase[:, block], xp):
                    total = total + self._converted(driven, levels[:, block], xp)
        return Reading(total, xp.zeros_like(total[:, 0]))

    def _reads_of(self, digits: Array, xp: Library) -> list[Array]:
        """Digits [tokens, rows] of a row block, as those of each read."""
        number = (xp.cumsum(digits != 0, 1) - 1) // self.active_rows
        return [xp.where(number == n, digits, 0) for n in range(int(number.max()) + 1)]

    def _converted(self, driven: Array, levels: Array, xp: Library) -> Array:
        """Sums that one read adds to the accumulators, [tokens, outputs]; zero where a token drives no row."""
        sums = xp.asarray(xp.asarray(driven, dtype=xp.float64) @ levels, dtype=xp.int64)  # [slices, tokens, outputs]
        parts = (each << self.cell_bits * s for s, each in enumerate(self.convert(sums)))
        return sum(parts) * xp.any(driven != 0, 1)[:, None]

    def accumulate_events(self, digits: NDArray[np.int8], levels: NDArray[np.int8], drive: Drive) -> Reading:
        """See Readout.accumulate_events; every read drives its rows."""
        total = np.zeros(levels.shape[2], np.int64)
        for phase in digits:
            total <<= drive.horner_shift
            for first in range(0, len(phase), self.rows):
                events = first + np.flatnonzero(phase[first : first + self.rows])
                for start in range(0, len(events), self.active_rows):
                    driven = events[start : start + self.active_rows]
                    total += self.cell.weights(self.convert(phase[driven].astype(np.int64) @ levels[:, driven]))
        return Reading(total[None], np.zeros(1, np.int64))


@dataclass(frozen=True)
class BlockReadout(Readout):
    """A readout that converts the sum of a block over all phases at once, with a range for every column of a block.

    A block is one row block or several (`block_rows`).

    What a block collects is an integer product, so an engine may form it as one. Conversion calibrates the ranges, and a network's sites
    hold them (LinearWeights.ranges).
    """

    capacitors: ClassVar[int] = 4
    """Capacitors of a column and slice: for the charge of either sign, and the twin of each for the halving."""

    @property
    def block_rows(self) -> int:
        """Inputs of a block that is converted at once."""
        return self.rows

    def blocks(self, inputs: int) -> int:
        """Blocks of a site with so many inputs."""
        return -(-inputs // self.block_rows)

    @property
    @abstractmethod
    def largest_range(self) -> int:
        """Largest difference between the ranges of a site's columns."""

    @abstractmethod
    def convert(self, sums: Array, exponents: Array, ranges: Array, xp: Library) -> tuple[Array, Array]:
        """Integers to be added to the accumulators, and repeated conversions, both int64 [blocks, tokens, outputs].

        sums int64 [blocks, tokens, outputs], `exponents` of the drive, ranges int8 [blocks, outputs].
        """

    @abstractmethod
    def needed_ranges(self, sums: Array, exponents: Array, xp: Library) -> Array:
        """Least range that converts each sum at once, of sums int64 [tokens, outputs] of a block and its exponents int64 [tokens]."""

    def exponents(self, drive: Drive, xp: Library) -> Array:  # noqa: ARG002 - halvings are integers of their library
        """Binary exponents that ranges are added to, int64 [blocks, tokens], [1, tokens] if all blocks have the same."""
        return drive.halvings[None]

    def energies(self, values: Array, xp: Library) -> Array:
        """Drive.energies of inputs int64 [tokens, inputs]."""
        starts = range(0, values.shape[1], self.block_rows)
        return xp.stack([(values[:, first : first + self.block_rows] ** 2).sum(1) for first in starts])

    @abstractmethod
    def range_errors(self, needed: Counts, ranges: Counts) -> NDArray[np.float64]:
        """Squared error, in units of all sums alike, of a sum that needs the range `needed` in a column of the range `ranges`."""

    def read(self, sums: Array, drive: Drive, xp: Library) -> Reading:
        """Reading of the sums of all blocks, int64 [blocks, tokens, outputs]."""
        converted, repeats = self.convert(sums, self.exponents(drive, xp), drive.ranges, xp)
        return Reading(converted.sum(0), repeats.sum(2).sum(0))

    def accumulate(self, digits: Array, levels: Array, drive: Drive, xp: Library) -> Reading:
        """See Readout.accumulate; the sums of all blocks by Horner's rule, then their conversion."""
        levels = xp.asarray(levels, dtype=xp.float64)  # whose products are exact below 2^53, and fast
        weights = sum(each * float(1 << self.cell_bits * s) for s, each in enumerate(levels))
        blocks = []
        for first in range(0, digits.shape[2], self.block_rows):
            block = slice(first, first + self.block_rows)
            total = 0
            for phase in digits:
                driven = xp.asarray(phase[:, block], dtype=xp.float64) @ weights[block]
                total = (total << drive.horner_shift) + xp.asarray(driven, dtype=xp.int64)
            blocks.append(total)
        if self.squares:
            drive = replace(drive, energies=self.energies(horner_sum(xp.asarray(digits, dtype=xp.int64), drive.horner_shift), xp))
        return self.read(xp.stack(blocks), drive, xp)


def horner_sum(digits: Array, shift: int) -> Array:
    """Integers that digits [phases, ...] stand for, by Horner's rule."""
    total = digits[0]
    for phase in digits[1:]:
        total = (total << shift) + phase
    return total


READOUTS: Registry[type[Readout]] = Registry(
    "readout",
    [
        ("exact", "neuromorphic_llm.devices.exact:Exact"),
        ("reread", "neuromorphic_llm.devices.reread:Reread"),
        ("membrane", "neuromorphic_llm.devices.membrane:Membrane"),
        ("membrane-energy", "neuromorphic_llm.devices.membrane:MembraneEnergy"),
        ("membrane-decay", "neuromorphic_llm.devices.decay:MembraneDecay"),
    ],
    group="neuromorphic_llm.readouts",
    flaw=subclass_flaw(Readout),
)
"""Name -> class of a readout; other distributions add theirs by entry points."""


def get_readout(name: str, **parameters: int) -> Readout:
    """A readout with these parameters, defaults for the others. UsageError on a wrong name or value."""
    found = READOUTS[name]
    known = [field.name for field in fields(found)]
    for parameter in parameters:
        if parameter not in known:
            raise UsageError(f"readout {name!r} has no parameter {parameter!r}; {name_advice(parameter, known)}")
    with READOUTS.failures_of(name):
        return found(**parameters)
