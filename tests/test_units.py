"""SI formatting."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromorphic_llm.units import format_bytes, format_si


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.2e-5, "12 µJ"),
        (0.0, "0 J"),
        (1.0, "1 J"),
        (999.96, "1 kJ"),
        (0.9996, "1 J"),
        (-3300.0, "-3.3 kJ"),
        (4.114e-3, "4.11 mJ"),
        (1e-20, "0.01 aJ"),
        (1e20, "100000 PJ"),
    ],
)
def test_format_si(value: float, text: str) -> None:
    assert format_si(value, "J") == text


def test_format_si_without_a_unit() -> None:
    assert format_si(25_000, "") == "25 k"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_format_si_refuses_what_is_not_finite(value: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        format_si(value, "J")


@given(st.floats(1e-17, 1e17))
def test_format_si_keeps_three_digits(value: float) -> None:
    prefixes = {"a": -18, "f": -15, "p": -12, "n": -9, "µ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
    number, unit = format_si(value, "W").split(" ")
    assert float(number) * 10.0 ** prefixes[unit.removesuffix("W")] == pytest.approx(value, rel=6e-3)
    assert 1 <= float(number) < 1000


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (98_362_432, "93.8 MiB"), (5 << 40, "5.0 TiB")]
)
def test_format_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text
