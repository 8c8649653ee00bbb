"""The exact read-out: converters wide enough for every sum of a read (docs/reference/devices.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neuromorphic_llm.devices.readout import Array, ConvertedReads


@dataclass(frozen=True)
class Exact(ConvertedReads):
    """Converters of as many bits as a read of `active_rows` rows needs."""

    name: ClassVar[str] = "exact"
    exact: ClassVar[bool] = True

    @property
    def converter_bits(self) -> int:
        """Bits that hold every sum of `active_rows` levels, sign included."""
        return (2 * self.active_rows * self.cell.largest_level).bit_length()

    def convert(self, sums: Array) -> Array:
        """The sums themselves."""
        return sums

    def rtl_parameters(self) -> dict[str, int]:
        """CONVERTER_BITS of the crossbar."""
        return {"CONVERTER_BITS": self.converter_bits}
