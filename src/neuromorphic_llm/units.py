"""SI quantities as text."""

from __future__ import annotations

import math
from collections.abc import Mapping

_PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}


def format_si(value: float, unit: str, digits: int = 3) -> str:
    """`format_si(1.2e-5, "J")` is `12 µJ`; `digits` significant digits, trailing zeros dropped.

    Raises ValueError for NaN and infinities: they are no result.
    """
    if not math.isfinite(value):
        raise ValueError(f"cannot format {value} {unit}: not a finite number")
    if value == 0:
        return f"0 {unit}".rstrip()
    # Round first: 999.96 with 3 digits is 1 k, not 1e+03.
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)) + 1e-12)
    power = min(max(3 * (exponent // 3), min(_PREFIXES)), max(_PREFIXES))
    decimals = max(digits - 1 - (exponent - power), 0)
    number = f"{rounded / 10.0**power:.{decimals}f}"
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {_PREFIXES[power]}{unit}".rstrip()


def format_mm2(area: Mapping[str, float]) -> str:
    """`1,540 mm² (751 mm² to 8,720 mm²)` of an area with its bounds in mm2, three significant digits each."""

    def shown(value: float) -> str:
        rounded = float(f"{value:.2e}")
        return f"{rounded:,.0f} mm²" if rounded >= 100 else f"{rounded:.3g} mm²"

    return f"{shown(area['nominal'])} ({shown(area['low'])} to {shown(area['high'])})"


def format_bytes(count: int) -> str:
    """`format_bytes(98_362_432)` is `93.8 MiB`."""
    power = min(max(count.bit_length() - 1, 0) // 10, 4)
    return f"{count} B" if power == 0 else f"{count / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


class Quantity(float):
    """A number with its SI unit, which it is written with."""

    unit: str

    def __new__(cls, value: float, unit: str) -> Quantity:
        quantity = super().__new__(cls, value)
        quantity.unit = unit
        return quantity

    def __str__(self) -> str:
        return format_si(self, self.unit)

    def __repr__(self) -> str:
        return f"Quantity({float(self)!r}, {self.unit!r})"
