"""Area account: sums by hand, bounds, every field that changes the area, rivals, and the printed tables."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from parity import with_membranes

from neuromorphic_llm.area import Area, area_figures, chip_area, load_areas, rival_areas
from neuromorphic_llm.area.components import GROUPS, PARTS
from neuromorphic_llm.area.prices import NUMBERS, RESOLVED, numbers, unit_areas
from neuromorphic_llm.area.tables import markdown
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.devices.membrane import Membrane
from neuromorphic_llm.energy import RIVALS
from neuromorphic_llm.energy.memories import chip_memories
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.units import format_mm2

ROOT = Path(__file__).parents[2]
NANO, NANO2 = load_spec("nano"), load_spec("nano2")
WEIGHTS = random_decoder(3)
UM2, GATE = 1e-6, 7.2576e-12 * 0.0286 * 1.43 * 1e6  # mm2
PACKET = 64 + 9 + 17


def program(spec: ChipSpec) -> Program:
    circuit = spec.readout_circuit
    return compile_network(with_membranes(WEIGHTS, circuit) if isinstance(circuit, Membrane) else WEIGHTS, spec)


EXACT, MEMBRANES = program(NANO), program(NANO2)


def on(spec: ChipSpec, compiled: Program = EXACT) -> Area:
    """Area of another chip that holds the same program."""
    return chip_area(replace(compiled, spec=spec))


def test_exact_chip_by_hand() -> None:
    """18 synapse tiles of 16 macros of 64 x 64, 5 vector tiles with two engines of 8 lanes, 16 keys and 8 scores, 24 tiles."""
    found = chip_area(EXACT)
    macros = 18 * 16
    expected = {
        "cells": macros * 64 * 64 * 2 * 0.053 * 2.04 * UM2,
        "converters": macros * (16 * 1200 * 0.688 * (3002 / 1200) ** 0.5 + 64 * 45 * 0.0696) * 2.04 * UM2,
        "membranes": 0.0,
        "accumulators": 18 * (8 * 64 * 32 * 13.0 + 16 * 16 * 342 + 32 * 8 * 9.21) * GATE,
        "synapse": 18 * (8 * 64 * 105 + 8 * 14100) * GATE,
        "vector": 5 * (8 * (1040 + 18400 + 11400 + 2640 + 7820) + 27700) * GATE,
        "attention": 5 * 2 * (8 * (2220 + 2120 + 5530) + 16 * (5290 + 244) + 8 * 2670 + 1250) * GATE,
        "routers": 24 * PACKET * (57 + 4 * 103) * GATE,
        "host": 30000 * GATE,
        "sram": sram_by_hand(),
    }
    assert {part: area.nominal for part, area in found.parts.items()} == pytest.approx(expected, rel=1e-6)
    assert found.total.nominal == pytest.approx(sum(expected.values()), rel=1e-6)


def sram_by_hand() -> float:
    """Bytes times 1.44 um2 in banks of 8 KB and more, 4.41 um2 to 512 bytes, a power law to 2.03 um2 at 2 KB between them."""
    total = 0.0
    for name, memory in chip_memories(EXACT).items():
        if name != "accumulators":
            size = memory.size_bytes
            assert size <= 2048 or size >= 8192
            between = 4.41 * (2.03 / 4.41) ** (math.log(size / 512) / math.log(4))
            total += memory.count * size * (1.44 if size >= 8192 else max(between, 2.03) if size > 512 else 4.41)
    return total * UM2


MAXIMA = 5 * (8 + 8 + 2 + 2 * (8 + 16)) * 466
"""Gates of comparators in five vector tiles: norm, `add`, flits; outputs and scores of two engines."""


def test_membranes_by_hand() -> None:
    """Four capacitors of 400 fF at 2 fF/um2 for each column, a clamp, and ranges of 3 bits for each group of two macros."""
    found = chip_area(MEMBRANES).parts
    macros = 18 * 16
    capacitors, clamps = macros * 64 * 4 * 200 * UM2, macros * 64 * 350 * 0.0696 * 2.04 * UM2
    logic = 18 * 8 * (64 * 3 * 7.25 + 64 // NANO2.readout.column_mux * 377) * GATE
    assert found["membranes"].nominal == pytest.approx(capacitors + clamps + logic, rel=1e-6)
    assert found["cells"].nominal == pytest.approx(macros * 64 * 64 * 2 * 0.036 * 2.04 * UM2, rel=1e-6)
    columns = 64 // NANO2.readout.column_mux
    converters = macros * ((columns * 400 + 64 * 45) * 0.0696 * 2.04 * UM2 + columns * 2 * 9 * 7.25 * GATE)
    assert found["converters"].nominal == pytest.approx(converters, rel=1e-6)
    more = (5 * 8 * (WEIGHTS.code.phases - 1) * 1930 + MAXIMA) * GATE
    assert found["vector"].nominal == pytest.approx(chip_area(EXACT).parts["vector"].nominal + more, rel=1e-6)
    second_head = 5 * 2 * (16 * 2630 + 8 * (1710 + 692)) * GATE  # two engines of 16 keys, 8 lanes and 8 probabilities in each of 5 tiles
    assert found["attention"].nominal == pytest.approx(chip_area(EXACT).parts["attention"].nominal + second_head, rel=1e-6)
    low_slice = chip_area(MEMBRANES).parts["membranes"].high - 18 * 8 * 64 * 4 * 600 * 4 * UM2
    assert low_slice > 18 * 8 * 64 * 4 * 600 * UM2  # four times as large as those of the high slice


@pytest.mark.parametrize("name", ["nano", "nc1"])
def test_bounds_are_ordered(name: str) -> None:
    figures = area_figures(replace(EXACT, spec=load_spec(name)))
    for area in (figures["area_mm2"], *figures["area_breakdown_mm2"].values(), *figures["rival_area_mm2"].values()):
        assert 0 <= area["low"] <= area["nominal"] <= area["high"]
    assert list(figures) == ["area_mm2", "area_breakdown_mm2", "rival_area_mm2"]
    assert figures["area_mm2"]["nominal"] == pytest.approx(sum(part["nominal"] for part in figures["area_breakdown_mm2"].values()))
    assert list(figures["rival_area_mm2"]) == [name for name in RIVALS if name != "fp16"]


GROWING = {
    "mesh.width": 7,
    "mesh.height": 5,
    "synapse.crossbars": 32,
    "synapse.rows": 128,
    "synapse.columns": 128,
    "synapse.accumulator_bits": 40,
    "synapse.argmax_lanes": 16,
    "readout.converter_bits": 10,
    "vector.lanes": 16,
    "vector.attention_engines": 4,
    "vector.key_lanes": 32,
    "vector.softmax_lanes": 16,
    "vector.head_lanes": 2,
    "vector.maximum": "written",
    "vector.kv_bytes_per_engine": 131072,
    "vector.memory_bytes": 65536,
    "vector.kv_bank_bytes": 512,
    "vector.memory_bank_bytes": 512,
    "noc.fifo_depth": 8,
    "noc.flit_bits": 128,
}
"""Field and a value with which nano is larger."""


@pytest.mark.parametrize("path", GROWING)
def test_a_field_makes_the_chip_larger(path: str) -> None:
    assert on(NANO.with_fields({path: GROWING[path]})).total.nominal > chip_area(EXACT).total.nominal


def test_fields_that_save_area() -> None:
    """Converters shared by more columns; fewer groups, so fewer schedulers and accumulators, with more slices."""
    own, shared = chip_area(EXACT).parts, on(NANO.with_fields({"readout.column_mux": 8})).parts
    columns = 18 * 16 * 64 * 45 * 0.0696 * 2.04 * UM2
    assert shared["converters"].nominal - columns == pytest.approx((own["converters"].nominal - columns) / 2, rel=1e-6)
    sliced = on(NANO.with_fields({"synapse.slices": 4, "synapse.cell_bits": 2, "readout.active_rows": 16})).parts
    same = 18 * (16 * 16 * 342 + 32 * 8 * 9.21) * GATE  # adders, one for each converter, however many slices; the word that is read
    assert sliced["accumulators"].nominal - same == pytest.approx((own["accumulators"].nominal - same) / 2, rel=1e-6)
    assert sliced["cells"] == own["cells"]


@pytest.mark.parametrize("cell", ["pcm", "rram", "sonos"])
def test_the_device_sets_the_area_of_cells(cell: str) -> None:
    found = on(NANO.with_fields({"synapse.cell": cell})).parts["cells"]
    expected = load_areas()[f"cell_{cell}"].value.scaled(load_areas()["macro_spread"].value) * (18 * 16 * 64 * 64 * 2 * 1e6)
    assert (found.low, found.nominal, found.high) == pytest.approx((expected.low, expected.nominal, expected.high))


def test_fields_of_a_chip_with_membranes() -> None:
    wider = on(NANO2.with_fields({"readout.range_bits": 6}), MEMBRANES).parts["membranes"].nominal
    assert wider - chip_area(MEMBRANES).parts["membranes"].nominal == pytest.approx(18 * 8 * 64 * 3 * 7.25 * GATE, rel=1e-6)
    scanned = on(NANO2.with_fields({"vector.encoder": "phase"}), MEMBRANES).parts["vector"]
    assert scanned.nominal == pytest.approx(chip_area(EXACT).parts["vector"].nominal + MAXIMA * GATE)


def test_int8_array_by_hand() -> None:
    """Eight products for each of the outputs, a register of 8 bits for each weight; 16 products in each of 10 engines."""
    found = rival_areas(EXACT)["int8"].parts
    outputs = sum(site.outputs for site in SMALL_CONFIG.sites)
    weights = sum(site.inputs * site.outputs for site in SMALL_CONFIG.sites)
    assert found["macs"].nominal == pytest.approx(outputs * (296 + 8 * 649) * GATE, rel=1e-6)
    assert found["weights"].nominal == pytest.approx(weights * 8 * 6.75 * GATE, rel=1e-6)
    engine = 16 * (296 + 649 + 244) + 8 * 2670 + 8 * 5530 + 1250
    assert found["attention"].nominal == pytest.approx(10 * engine * GATE, rel=1e-6)
    assert found["synapse"].nominal == pytest.approx(18 * 8 * 14100 * GATE, rel=1e-6)
    assert found["routers"].nominal == pytest.approx(24 * 64 * (57 + 4 * 103) * GATE, rel=1e-6)
    in_sram = rival_areas(EXACT)["int8_sram"]
    assert "weights" not in in_sram.parts
    banks = -(-weights // 8192) * 8192 * 1.44 * UM2
    assert in_sram.parts["sram"].nominal == pytest.approx(found["sram"].nominal + banks, rel=1e-6)


def test_bit_serial_crossbars_are_those_of_the_chip() -> None:
    own, rival = chip_area(MEMBRANES).parts, rival_areas(MEMBRANES)["bit_serial_crossbar"].parts
    for part in ("cells", "converters", "membranes", "accumulators", "synapse", "host"):
        assert rival[part] == own[part]
    assert rival["vector"].nominal < own["vector"].nominal and rival["routers"].nominal < own["routers"].nominal
    assert rival["attention"] == rival_areas(MEMBRANES)["int8_improved"].parts["attention"]


def test_names_of_the_account_are_explained_and_used() -> None:
    components = [component for group in GROUPS.values() for component in group]
    areas = unit_areas(EXACT, load_areas())
    assert set(numbers(EXACT)) == set(NUMBERS) == {name for component in components for name in component.numbers}
    used = {name for component in components for name in component.areas}
    assert used <= set(areas) and set(RESOLVED) <= used
    assert {name for parts in PARTS.values() for groups in parts.values() for name in groups} == set(GROUPS)


def test_constants_are_of_one_node() -> None:
    for name, constant in load_areas().items():
        assert constant.source and (constant.node_nm == 22 or name.endswith("nm")), name


def test_the_page_is_printed() -> None:
    page = (ROOT / "docs/reference/area.md").read_text(encoding="utf-8")
    printed = re.search(r"<!-- printed: area -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert printed is not None
    assert printed[1] == markdown(), "print it again: python -m neuromorphic_llm.area.tables"


def test_an_area_as_text() -> None:
    assert format_mm2({"low": 0.0123, "nominal": 99.96, "high": 1544.0}) == "100 mm² (0.0123 mm² to 1,540 mm²)"
