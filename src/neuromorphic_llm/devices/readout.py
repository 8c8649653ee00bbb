"""Readouts: how spikes on the rows of a crossbar become accumulators, and what that takes (docs/reference/devices.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.devices.cells import LARGEST_WEIGHT, Array, Cell, Library
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.registry import Registry, name_advice, subclass_flaw

Counts = NDArray[np.int64]

LARGEST = {"cell_bits": 16, "slices": 16, "converter_bits": 32}
"""Upper bounds of parameters; 2^20 of the others."""


@dataclass(frozen=True)
class Readout(ABC):
    """A way to read crossbars out; a subclass may add parameters as integer fields.

    UsageError naming the parameter if one is no positive integer, or if the cells cannot hold a weight.
    """

    rows: int = 256  # inputs of a row block
    active_rows: int = 32  # driven by a read at most
    cell_bits: int = 4
    slices: int = 2
    converter_bits: int = 0  # sign included; 0: exact_bits

    name: ClassVar[str]
    exact: ClassVar[bool] = False
    """Accumulators are the integer product, so an engine may compute them as one."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least, most = int(field.name != "converter_bits"), LARGEST.get(field.name, 1 << 20)
            if type(value) is not int or not least <= value <= most:
                raise UsageError(f"readout {self.name!r}: {field.name} must be an integer in {least}..{most}, not {value!r}")
        if self.converter_bits == 0:
            object.__setattr__(self, "converter_bits", self.exact_bits)
        if self.cell.largest_weight < LARGEST_WEIGHT:
            raise UsageError(
                f"readout {self.name!r}: {self.slices} slices of {self.cell_bits} bits hold weights up to {self.cell.largest_weight}, "
                f"not {LARGEST_WEIGHT}; raise slices or cell_bits"
            )

    @property
    def cell(self) -> Cell:
        """Cells that hold the weights."""
        return Cell(self.cell_bits, self.slices)

    @property
    def exact_bits(self) -> int:
        """Fewest bits that hold every column sum of a read, sign included."""
        return (2 * self.active_rows * self.cell.largest_level).bit_length()

    @abstractmethod
    def accumulate(self, digits: Array, levels: Array, horner_shift: int, xp: Library) -> Array:
        """Accumulators of a site, int64 [tokens, outputs].

        digits int8 [phases, tokens, inputs] and levels int8 [slices, inputs, outputs] of the library xp, on one device.
        """

    def accumulate_events(self, digits: NDArray[np.int8], levels: NDArray[np.int8], horner_shift: int) -> NDArray[np.int64]:
        """Accumulators of one token, int64 [outputs], of digits [phases, inputs], with work in proportion to its events."""
        accumulators: NDArray[np.int64] = self.accumulate(digits[:, None], levels, horner_shift, np)[0]
        return accumulators

    def reads(self, events: Counts) -> Counts:
        """Reads of a row block, of the same shape, from its events in a phase."""
        return -(-events // self.active_rows)

    def conversions(self, events: Counts) -> Counts:
        """Conversions of one column of weights, [sites], from events [tokens, sites, phases, row_blocks]."""
        reads: Counts = self.reads(events).sum(axis=(0, 2, 3))
        return reads * self.slices

    def phase_cycles(self, events: Counts, read_latency: int, column_mux: int) -> Counts:
        """Cycles of every phase, [tokens, sites, phases], from events [tokens, sites, phases, row_blocks]."""
        reads = self.reads(events).max(axis=-1)
        return np.where(reads > 0, read_latency + column_mux * reads, 1)

    def rtl_parameters(self) -> dict[str, int]:
        """Constants of the SystemVerilog package, by name. SimulationError if the RTL does not have this readout."""
        raise SimulationError(f"the RTL has no readout {self.name!r}, only 'exact'; simulate with events, or convert for 'exact'")

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

    def accumulate(self, digits: Array, levels: Array, horner_shift: int, xp: Library) -> Array:
        """See Readout.accumulate; the tokens side by side, one read after another."""
        levels = xp.asarray(levels, dtype=xp.float64)  # whose products are exact below 2^53, and fast
        total = xp.zeros_like(digits[0, :, :1] * levels[0, :1], dtype=xp.int64)
        for phase in digits:
            total = total << horner_shift
            for first in range(0, phase.shape[1], self.rows):
                block = slice(first, first + self.rows)
                for driven in self._reads_of(phase[:, block], xp):
                    total = total + self._converted(driven, levels[:, block], xp)
        return total

    def _reads_of(self, digits: Array, xp: Library) -> list[Array]:
        """Digits [tokens, rows] of a row block, as those of each read."""
        number = (xp.cumsum(digits != 0, 1) - 1) // self.active_rows
        return [xp.where(number == n, digits, 0) for n in range(int(number.max()) + 1)]

    def _converted(self, driven: Array, levels: Array, xp: Library) -> Array:
        """Sums that one read adds to the accumulators, [tokens, outputs]; zero where a token drives no row."""
        sums = xp.asarray(xp.asarray(driven, dtype=xp.float64) @ levels, dtype=xp.int64)  # [slices, tokens, outputs]
        parts = (each << self.cell_bits * s for s, each in enumerate(self.convert(sums)))
        return sum(parts) * xp.any(driven != 0, 1)[:, None]

    def accumulate_events(self, digits: NDArray[np.int8], levels: NDArray[np.int8], horner_shift: int) -> NDArray[np.int64]:
        """See Readout.accumulate_events; every read drives its rows."""
        total = np.zeros(levels.shape[2], np.int64)
        for phase in digits:
            total <<= horner_shift
            for first in range(0, len(phase), self.rows):
                events = first + np.flatnonzero(phase[first : first + self.rows])
                for start in range(0, len(events), self.active_rows):
                    driven = events[start : start + self.active_rows]
                    total += self.cell.weights(self.convert(phase[driven].astype(np.int64) @ levels[:, driven]))
        return total


READOUTS: Registry[type[Readout]] = Registry(
    "readout", [("exact", "neuromorphic_llm.devices.exact:Exact")], group="neuromorphic_llm.readouts", flaw=subclass_flaw(Readout)
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
