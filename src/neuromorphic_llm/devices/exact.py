"""The exact readout: converters wide enough for every sum of a read (docs/reference/devices.md)."""

from __future__ import annotations

from typing import ClassVar

from neuromorphic_llm.devices.cells import Array
from neuromorphic_llm.devices.readout import ConvertedReads
from neuromorphic_llm.errors import UsageError


class Exact(ConvertedReads):
    """Converters that lose nothing. UsageError if they have fewer than `exact_bits` bits."""

    name: ClassVar[str] = "exact"
    exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.converter_bits < self.exact_bits:
            raise UsageError(
                f"readout 'exact': converter_bits is {self.converter_bits}, and an exact read of {self.active_rows} rows of "
                f"{self.cell_bits}-bit cells needs {self.exact_bits}; lower active_rows, or leave converter_bits out"
            )

    def convert(self, sums: Array) -> Array:
        """The sums themselves."""
        return sums

    def rtl_parameters(self) -> dict[str, int]:
        """See Readout.rtl_parameters: what the RTL has without any."""
        return {}
