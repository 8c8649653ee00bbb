"""The generated SystemVerilog package: current, and complete."""

from __future__ import annotations

import pytest

from neuromorphic_llm.chip.flat_names import FLAT_NAMES
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import parameters
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.package import PACKAGE_FILE, derived_parameters, package_text


def test_the_committed_package_is_that_of_nano() -> None:
    assert PACKAGE_FILE.read_text() == package_text(load_spec("nano")), "run python -m neuromorphic_llm.rtl.package"


def test_every_field_of_the_spec_is_a_parameter() -> None:
    spec = load_spec("nc1").with_fields({"clock_hz": 4.0e9})
    text = package_text(spec)
    for name, path in FLAT_NAMES.items():
        if name != "clock_hz":
            assert f" int unsigned {name.upper()} = {spec.value(path)};\n" in text
    unknown = {f"readout.{name}" for name in ("kind", "converter_bits", "repeats", "range_bits", "high_bits", "joined", "steps")}
    unknown |= {"vector.head_lanes", "vector.maximum"}
    unknown |= {"synapse.cell", "vector.encoder", "vector.kv_bank_bytes", "vector.memory_bank_bytes", "power.gating", "power.wake_cycles"}
    assert set(parameters()) - set(FLAT_NAMES.values()) == unknown
    assert " int unsigned CONVERTER_BITS = 10;\n" in text
    assert "longint unsigned CLOCK_HZ = 64'd4000000000;" in text


def test_chips_with_units_that_the_rtl_lacks_are_refused() -> None:
    with pytest.raises(SimulationError, match="the RTL has no readout 'membrane-energy'"):
        package_text(load_spec("nano2").with_fields({"readout.kind": "membrane-energy"}))


def test_derived_widths() -> None:
    small = derived_parameters(load_spec("nano").with_fields({"mesh.width": 2, "mesh.height": 1, "synapse.crossbars": 6}))
    assert small["TILE_BITS"] == 1 and small["ROUTES"] == 512 and small["ROUTE_BITS"] == 9
    assert small["ROW_BLOCKS"] == 3 and small["TILE_INPUTS"] == 192 and small["TILE_COLUMNS"] == 192
    large = derived_parameters(load_spec("nano").with_fields({"mesh.width": 9, "mesh.height": 9}))
    assert large["ROUTES"] == 1024 and large["ROUTE_BITS"] == 10 and large["TILE_BITS"] == 7


@pytest.mark.parametrize("encoder", ["phase", "element"])
def test_parameters_of_readout_and_encoder(encoder: str) -> None:
    def derived(chip: str) -> dict[str, int]:
        spec = load_spec(chip).with_fields({"vector.encoder": encoder, "power.gating": "none"})
        names = ("MEMBRANE", "CONVERTER_BITS", "REPEATS", "RANGE_BITS", "ELEMENT_ENCODER", "LEAST_FIRST")
        return {name: derived_parameters(spec)[name] for name in names}

    element = int(encoder == "element")
    exact = {"MEMBRANE": 0, "CONVERTER_BITS": 9, "REPEATS": 0, "RANGE_BITS": 1}
    assert derived("nano") == exact | {"ELEMENT_ENCODER": element, "LEAST_FIRST": 0}
    membranes = {"MEMBRANE": 1, "CONVERTER_BITS": 9, "REPEATS": 3, "RANGE_BITS": 3}
    assert derived("nano2") == membranes | {"ELEMENT_ENCODER": element, "LEAST_FIRST": element}


@pytest.mark.parametrize(
    ("gating", "expected"), [("none", (0, 0, 0, 1)), ("tiles", (1, 0, 64, 7)), ("all", (1, 1, 64, 7))], ids=["none", "tiles", "all"]
)
def test_parameters_of_power_gating(gating: str, expected: tuple[int, ...]) -> None:
    found = derived_parameters(load_spec("nano").with_fields({"power.gating": gating}))
    assert tuple(found[name] for name in ("GATED", "ROUTERS_GATED", "WAKE_CYCLES", "WAKE_BITS")) == expected
