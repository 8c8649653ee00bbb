"""Energy constants: complete entries, scaling by the written rule, refusal of incomplete ones."""

from __future__ import annotations

import copy

import pytest

from neuromorphic_llm.energy.constants import Range, converter_energy, load_constants, parse_constants, sram_bit
from neuromorphic_llm.errors import DataError

ENTRY = {"unit": "J", "node_nm": 45, "width_bits": 8, "low": 1e-13, "nominal": 2e-13, "high": 3e-13, "source": "a paper", "verified": "R"}
RULE = {"low": 0.2, "nominal": 0.4, "high": 0.5, "rule": "C V^2", "source": "physics", "verified": "U"}


def test_every_constant_is_complete() -> None:
    for constant in load_constants().values():
        assert constant.source and constant.verified in ("R", "U")
        assert 0 <= constant.value.low <= constant.value.nominal <= constant.value.high
        assert constant.value.low > 0 or constant.unit == "1"


def test_chip_constants_share_one_node() -> None:
    for name, constant in load_constants().items():
        assert constant.node_nm == 22 or name.endswith("nm")


def test_scaled_constant_is_base_times_factor_and_names_its_rule() -> None:
    constants = parse_constants(
        {
            "rules": {"r": RULE},
            "constants": {"a_45nm": ENTRY, "a": {"unit": "J", "node_nm": 22, "width_bits": 8, "scaled_from": "a_45nm", "rule": "r"}},
        },
        "test",
    )
    assert constants["a"].value == Range(1e-13 * 0.2, 2e-13 * 0.4, 3e-13 * 0.5)
    assert constants["a"].rule == "C V^2" and constants["a"].verified == "U" and "a paper" in constants["a"].source


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("source", None, "no source"),
        ("source", "  ", "no source"),
        ("verified", "yes", "verified"),
        ("unit", "pJ", "unit"),
        ("low", 5.0, "does not hold"),
        ("high", float("nan"), "does not hold"),
        ("node_nm", None, "node_nm"),
    ],
)
def test_incomplete_entry_is_refused(field: str, value: object, message: str) -> None:
    entry = copy.copy(ENTRY) | {field: value}
    with pytest.raises(DataError, match=message):
        parse_constants({"constants": {"a": {k: v for k, v in entry.items() if v is not None}}}, "test")


def test_unknown_base_is_refused() -> None:
    with pytest.raises(DataError, match="scaled_from"):
        parse_constants({"constants": {"a": {"unit": "J", "node_nm": 22, "width_bits": 8, "scaled_from": "b", "rule": "r"}}}, "test")


def test_only_an_exponent_may_be_zero() -> None:
    with pytest.raises(DataError, match="does not hold"):
        parse_constants({"constants": {"a": ENTRY | {"low": 0.0}}}, "test")
    assert parse_constants({"constants": {"a": ENTRY | {"low": 0.0, "unit": "1"}}}, "test")["a"].value.low == 0.0


def test_converter_energy_meets_the_table_and_grows() -> None:
    constants = load_constants()
    assert converter_energy(constants, 10, 1.0e8).nominal == pytest.approx(1.64e-12, rel=1e-9, abs=0)
    assert converter_energy(constants, 8, 5.0e8).nominal == pytest.approx(0.85e-12, rel=1e-9, abs=0)
    values = [converter_energy(constants, bits, 1.0e8).nominal for bits in range(3, 14)]
    assert values == sorted(values)


def test_converter_energy_above_its_corner_rate() -> None:
    """The Accelergy ADC model gives 4.353 pJ for 10 bits at 500 MS/s and 22 nm, and 1.466 pJ for 9 bits."""
    constants = load_constants()
    energy = converter_energy(constants, 10, 5.0e8)
    assert energy.nominal == pytest.approx(4.353e-12, rel=0.01, abs=0)
    assert energy.low == pytest.approx(0.82e-12, rel=1e-9, abs=0)  # slower converters in turns
    assert energy.high == pytest.approx(3.28e-12 * 500 / 113.4, rel=1e-9, abs=0)
    assert converter_energy(constants, 9, 5.0e8).nominal == pytest.approx(1.466e-12, rel=0.03, abs=0)


def test_sram_bit_meets_its_table_and_grows_with_size() -> None:
    constants = load_constants()
    for size, picojoules in ((8192, 10), (32768, 20), (1 << 20, 100)):
        assert sram_bit(constants, size).nominal == pytest.approx(picojoules * 1e-12 / 64 * 0.386, rel=1e-9, abs=0)
    assert sram_bit(constants, 16384).nominal == pytest.approx(200**0.5 * 1e-12 / 64 * 0.386, rel=1e-9, abs=0)
    assert sram_bit(constants, 1) == sram_bit(constants, 512)
    bits = [sram_bit(constants, size) for size in (512, 700, 2048, 5000, 8192, 30000, 65536, 262144, 1 << 19, 1 << 21)]
    for bound in ("low", "nominal", "high"):
        assert [getattr(bit, bound) for bit in bits] == sorted(getattr(bit, bound) for bit in bits)
    with pytest.raises(ValueError, match="at least 1 byte"):
        sram_bit(constants, 0)
