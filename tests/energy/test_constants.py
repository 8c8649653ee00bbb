"""Energy constants: complete entries, scaling by the written rule, refusal of incomplete ones."""

from __future__ import annotations

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.energy.constants import Constant, Range, converter_energy, load_constants, parse_constants, sram_bit
from neuromorphic_llm.energy.prices import chip_prices
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


def test_constants_are_their_entries_and_those_scaled_from_others() -> None:
    scaled = {"unit": "J/bit", "node_nm": 22, "width_bits": 16, "scaled_from": "a_45nm", "rule": "r"}
    data = {
        "rules": {"r": RULE, "read": RULE | {"verified": "R", "rule": "C\n V^2"}},
        "constants": {
            "a_45nm": ENTRY | {"source": " a paper\n", "capacity_bytes": 512},
            "a": scaled,
            "b": scaled | {"rule": "read", "capacity_bytes": 1024},
            "c": scaled | {"rule": "read", "scaled_from": "a"},
        },
    }
    value = Range(1e-13 * 0.2, 2e-13 * 0.4, 3e-13 * 0.5)
    source = "a paper; scaled from 45 nm by {} (physics)"
    assert parse_constants(data, "test") == {
        "a_45nm": Constant("a_45nm", "J", 45, 8, Range(1e-13, 2e-13, 3e-13), "a paper", "R", None, 512),
        "a": Constant("a", "J/bit", 22, 16, value, source.format("r"), "U", "C V^2", None),
        "b": Constant("b", "J/bit", 22, 16, value, source.format("read"), "R", "C V^2", 1024),
        "c": Constant(
            "c",
            "J/bit",
            22,
            16,
            Range(value.low * 0.2, value.nominal * 0.4, value.high * 0.5),
            f"{source.format('r')}; scaled from 22 nm by read (physics)",
            "U",
            "C V^2",
            None,
        ),
    }
    assert parse_constants({}, "test") == {}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("source", None, "test: a has no source; every constant names one"),
        ("source", "  ", "test: a has no source; every constant names one"),
        ("verified", "yes", "test: a: verified must be R or U, got 'yes'"),
        ("unit", "pJ", "test: a: unit must be one of J, J/bit, J/(bit m), W, W/bit, m2, m2/B, m2/F, F, gates, Hz, 1, got 'pJ'"),
        ("low", 5.0, "test: a: 0 < low <= nominal <= high does not hold; correct the bounds"),
        ("nominal", 4e-13, "test: a: 0 < low <= nominal <= high does not hold; correct the bounds"),
        ("low", 0.0, "test: a: 0 < low <= nominal <= high does not hold; correct the bounds"),
        ("high", float("nan"), "test: a: 0 < low <= nominal <= high does not hold; correct the bounds"),
        ("high", None, "test: a needs the numbers low, nominal and high (KeyError('high')); add them"),
        (
            "node_nm",
            None,
            "test: a needs the integers node_nm and width_bits, and capacity_bytes if given (KeyError('node_nm')); correct them",
        ),
    ],
)
def test_incomplete_entry_is_refused(field: str, value: object, message: str) -> None:
    entry = ENTRY | {field: value}
    with pytest.raises(DataError) as caught:
        parse_constants({"constants": {"a": {k: v for k, v in entry.items() if v is not None}}}, "test")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("rules", "entry", "message"),
    [
        ({"r": RULE}, {"scaled_from": "b"}, "test: a: scaled_from and rule must name an earlier constant and a rule; correct them"),
        ({"q": RULE}, {}, "test: a: scaled_from and rule must name an earlier constant and a rule; correct them"),
        ({"r": RULE | {"low": 1}}, {}, "test: rule r: 0 < low <= nominal <= high does not hold; correct the bounds"),
        ({"r": RULE | {"source": ""}}, {}, "test: rule r has no source; every constant names one"),
        ({"r": RULE | {"rule": None}}, {}, "test: rule r does not say its rule; write the formula"),
    ],
)
def test_incomplete_scaling_is_refused(rules: dict[str, object], entry: dict[str, object], message: str) -> None:
    scaled = {"unit": "J", "node_nm": 22, "width_bits": 8, "scaled_from": "a_45nm", "rule": "r"}
    with pytest.raises(DataError) as caught:
        parse_constants({"rules": rules, "constants": {"a_45nm": ENTRY, "a": scaled | entry}}, "test")
    assert str(caught.value) == message


def test_bounds_may_be_equal_and_an_exponent_zero() -> None:
    constants = parse_constants({"constants": {"a": ENTRY | {"low": 2e-13, "high": 2e-13}, "b": ENTRY | {"low": 0.0, "unit": "1"}}}, "test")
    assert constants["a"].value == Range(2e-13, 2e-13, 2e-13)
    assert constants["b"].value.low == 0.0


def test_ranges_in_json() -> None:
    assert Range(1, 2, 3).to_json() == {"low": 1, "nominal": 2, "high": 3}


def test_converter_energy_meets_the_table_and_grows() -> None:
    constants = load_constants()
    for bits, picojoules in ((4, 0.46), (5, (0.46 * 0.53) ** 0.5), (6, 0.53), (8, 0.85), (10, 1.64)):
        assert converter_energy(constants, bits, 1.0e8).nominal == pytest.approx(picojoules * 1e-12, rel=1e-9, abs=0)
    assert converter_energy(constants, 8, 5.0e8).nominal == pytest.approx(0.85e-12, rel=1e-9, abs=0)
    values = [converter_energy(constants, bits, 1.0e8).nominal for bits in range(3, 14)]
    assert values == sorted(values)
    # Beyond the table the law of its nearest two entries goes on.
    for bits, picojoules in ((3, 0.46 * (0.46 / 0.53) ** 0.5), (12, 1.64 * 1.64 / 0.85)):
        assert converter_energy(constants, bits, 1.0e6).nominal == pytest.approx(picojoules * 1e-12, rel=1e-9, abs=0)


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
    assert all(bit.low <= bit.nominal <= bit.high for bit in (*bits, sram_bit(constants, 1 << 24)))
    with pytest.raises(ValueError, match="a memory needs at least 1 byte, got 0"):
        sram_bit(constants, 0)


def test_a_membrane_is_converted_by_decrement() -> None:
    """The share of the converter's energy, at the rate of its conversions."""
    constants = load_constants()
    prices = {name: chip_prices(load_spec(name), {}, constants) for name in ("nc1", "nc2")}
    assert prices["nc1"]["conversion"] == converter_energy(constants, 10, 5.0e8)
    assert prices["nc2"]["conversion"] == converter_energy(constants, 9, 5.0e7).scaled(constants["decrement_share"].value)
    assert prices["nc2"]["conversion"].nominal == pytest.approx(0.41e-12, rel=0.02, abs=0)
