"""The exact readout with narrow converters: columns that saturate are read again in halves (docs/reference/devices.md, Rereads)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from neuromorphic_llm.devices.cells import Array
from neuromorphic_llm.devices.readout import BOUNDS, ConvertedReads
from neuromorphic_llm.errors import UsageError


@dataclass(frozen=True)
class Reread(ConvertedReads):
    """Converters that saturate, and rows that are driven again in halves until none does. UsageError if one row could saturate them."""

    high_bits: int = 6  # of the converters of the highest slice; converter_bits are those of the others

    name: ClassVar[str] = "reread"
    exact: ClassVar[bool] = True
    bounds: ClassVar[Mapping[str, tuple[int, int]]] = MappingProxyType({**BOUNDS, "high_bits": (1, 32)})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("converter_bits", "high_bits"):
            if getattr(self, name) <= self.cell_bits:
                raise UsageError(
                    f"readout 'reread': {name} is {getattr(self, name)}, and a row of {self.cell_bits}-bit cells that is read alone needs "
                    f"{self.cell_bits + 1}; raise {name}"
                )

    @property
    def default_bits(self) -> int:
        """Bits at which few reads of measured models saturate."""
        return 8

    @property
    def converter_widths(self) -> tuple[int, ...]:
        """See Readout.converter_widths."""
        return (self.converter_bits,) * (self.slices - 1) + (self.high_bits,)

    def convert(self, sums: Array) -> Array:
        """The sums themselves: the halves of those that saturate add up to them."""
        return sums

    def rtl_parameters(self) -> dict[str, int]:
        """See Readout.rtl_parameters."""
        return {"REREAD": 1}

    def accumulations(self, conversions: int, repeated: int) -> int:
        """See Readout.accumulations: of each two halves, one takes the place of what saturated."""
        return conversions + repeated // 2
