"""Synthesis: liberty parsing and lookup, gates against RTL, timing and energy of small netlists; `make synth` itself in the slow suite."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthesis.compare import capacitance_factor, scaled, stillmaker_factor
from synthesis.libraries import folder, targets
from synthesis.units import UNITS

from neuromorphic_llm.energy.rtl_units import RTL_UNITS
from neuromorphic_llm.errors import DataError, SimulationError
from neuromorphic_llm.rtl.synthesis.energy import net_energies, unit_energy
from neuromorphic_llm.rtl.synthesis.gate_level import count_transitions, simulate
from neuromorphic_llm.rtl.synthesis.liberty import Library, read_library, truth_table
from neuromorphic_llm.rtl.synthesis.mapping import SynthesisTarget, map_module, missing_yosys
from neuromorphic_llm.rtl.synthesis.measure import compare, measure
from neuromorphic_llm.rtl.synthesis.netlist import generic_size, read_netlist
from neuromorphic_llm.rtl.synthesis.timing import analyse

needs_yosys = pytest.mark.skipif(missing_yosys() is not None, reason=str(missing_yosys()))
needs_libraries = pytest.mark.skipif(not targets(), reason=f"no liberty libraries in {folder()}; name their folder in NMLLM_PDK")

LIBERTY = """
/* A library of an inverter, an exclusive or and a flip-flop. */
library (tiny) {
  capacitive_load_unit (1, pf); time_unit : "1ns"; leakage_power_unit : "1nW"; nom_voltage : 2.0;
  lu_table_template (by_slew_and_load) { variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1 ("0.1, 0.3"); index_2 ("0.0, 2.0"); }
  lu_table_template (by_load) { variable_1 : total_output_net_capacitance; index_1 ("0.0, 2.0"); }
  cell (INV) { area : 2; cell_leakage_power : 3;
    pin (A) { direction : input; capacitance : 1.0; }
    pin (Y) { direction : output; function : "!A";
      timing () { related_pin : "A"; when : "no semicolon"
        cell_rise (by_slew_and_load) { values ("1, 3", "2, 4"); } rise_transition (by_load) { values ("0.1, 0.3"); } }
      internal_power () { related_pin : "A"; rise_power (scalar) { values ("5"); } fall_power (scalar) { values ("7"); } } } }
  cell (XOR) { area : 5; cell_leakage_power : 1;
    pin (A) { direction : input; capacitance : 1.0; } pin (B) { direction : input; capacitance : 1.0; }
    pin (Y) { direction : output; function : "(A^B)";
      timing () { related_pin : "A"; cell_rise (scalar) { values ("1"); } rise_transition (scalar) { values ("0.1"); } } } }
  cell (DFF) { area : 8; ff (IQ, IQN) { clocked_on : "C"; next_state : "D"; }
    pin (C) { direction : input; clock : true; capacitance : 0.5;
      internal_power () { when : "D&Q"; rise_power (scalar) { values ("1"); } fall_power (scalar) { values ("2"); } }
      internal_power () { when : "D&!Q"; rise_power (scalar) { values ("100"); } fall_power (scalar) { values ("100"); } } }
    pin (D) { direction : input; capacitance : 0.25; }
    pin (Q) { direction : output; function : "IQ";
      timing () { related_pin : "C"; timing_type : rising_edge;
        cell_rise (scalar) { values ("0.5"); } rise_transition (scalar) { values ("0.2"); } } } }
}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Library:
    path = tmp_path / "tiny.lib"
    path.write_text(LIBERTY)
    return read_library(path)


def _target(library: Library) -> SynthesisTarget:
    return SynthesisTarget("tiny", Path("tiny.lib"), library, 130, "INV", 0.0, 1e-9)


def _cell(kind: str, **pins: int) -> dict[str, object]:
    return {"type": kind, "connections": {pin: [net] for pin, net in pins.items()}}


TOGGLE = {
    "ports": {
        "clk": {"direction": "input", "bits": [2]},
        "x": {"direction": "input", "bits": [3]},
        "y": {"direction": "output", "bits": [7]},
    },
    # q <= x ^ q; y = q ^ !!q, which is 0 but for a glitch of two inverters' delay
    "cells": {
        "next": _cell("XOR", A=3, B=4, Y=5),
        "state": _cell("DFF", C=2, D=5, Q=4),
        "first": _cell("INV", A=4, Y=6),
        "second": _cell("INV", A=6, Y=8),
        "glitch": _cell("XOR", A=8, B=4, Y=7),
    },
}


def test_liberty_units_templates_and_states(tiny: Library) -> None:
    inverter = tiny.cells["INV"]
    assert (tiny.voltage, inverter.area, inverter.leakage) == (2.0, 2.0, pytest.approx(3e-9))
    assert inverter.pins["A"].capacitance == 1e-12
    arc = inverter.pins["Y"].arcs[0]
    assert arc.delays[0].at(0.2e-9, 1e-12) == pytest.approx(2.5e-9, rel=1e-9, abs=0)
    assert arc.delays[0].at(0.5e-9, 3e-12) == pytest.approx(6e-9, rel=1e-9, abs=0)  # beyond both ends
    assert arc.slews[0].at(9.0, 1e-12) == pytest.approx(0.2e-9, rel=1e-9, abs=0)
    assert [float(table.at(0, 0)) for table in inverter.pins["Y"].energies[0].tables] == pytest.approx([5e-12, 7e-12], rel=1e-9, abs=0)
    assert (tiny.cells["DFF"].state, tiny.cells["DFF"].clock) == ("IQ", "C")


@pytest.mark.parametrize("text", ["", "cell (A) { }", "library (a) { cell (b) {", "library (a) { } }"])
def test_what_is_no_library_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.lib"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.lib"):
        read_library(path)


@pytest.mark.parametrize(
    ("function", "value"),
    [
        ("!(A*B)", lambda a, b, _: not (a and b)),
        ("A'+B C", lambda a, b, c: not a or (b and c)),
        ("(A^B)&!C", lambda a, b, c: a != b and not c),
    ],
)
def test_truth_tables(function: str, value) -> None:
    table = truth_table(function, ["A", "B", "C"])
    assert [table >> i & 1 for i in range(8)] == [int(value(i & 1, i >> 1 & 1, i >> 2 & 1)) for i in range(8)]
    with pytest.raises(ValueError, match="not a function"):
        truth_table("A + D", ["A"])


def test_gate_level_values_glitches_and_energy(tiny: Library) -> None:
    netlist = read_netlist(TOGGLE, tiny)
    assert (netlist.area, netlist.depth, len(netlist.flip_q)) == (2 * 2 + 2 * 5 + 8, 3, 1)
    x = np.ones((5, 1), np.uint8)
    lanes = np.array([1 << 63], np.uint64)
    assert not simulate(netlist, x, lanes).any()  # y stays 0 from every first state
    timing = analyse(netlist, _target(tiny))
    activity = count_transitions(netlist, x, np.zeros(1, np.uint8), timing.gate_delay, np.ones(5, np.bool_))
    y, q = netlist.sinks["y"][0], netlist.flip_q[0]
    assert (activity.lasting[y], activity.all[y]) == (0, 8)  # up and down in each of the four cycles after the first
    assert (activity.lasting[q], activity.all[q]) == (4, 4)
    first = netlist.output[[tiny_cell.name for tiny_cell in (netlist.cells[k] for k in netlist.kind)].index("INV")]
    per_transition = net_energies(netlist, timing, tiny)
    assert per_transition[first] == pytest.approx(6e-12 + 0.5 * 1e-12 * 4, rel=1e-9, abs=0)
    energy = unit_energy(netlist, timing, activity, tiny)
    assert energy.clock == pytest.approx(5 * (1e-12 + 2e-12 + 0.5e-12 * 4), rel=1e-9, abs=0)  # without the unstable state
    assert energy.lasting + energy.glitches == pytest.approx(float(activity.all @ per_transition), rel=1e-9, abs=0)
    # q changes 0.5 ns after the clock; an inverter with 1 pF takes 2.5 ns at 0.2 ns slew, and so the second; the gate 1 ns
    assert timing.critical_path == pytest.approx(6.5e-9)


def test_a_difference_between_gates_and_rtl_is_named(tiny: Library) -> None:
    netlist = read_netlist(TOGGLE, tiny)
    x, expected = np.ones((6, 1), np.uint8), np.zeros((6, 1), np.uint8)
    states = np.array([0x5555], np.uint64)
    assert compare("toggle", netlist, x, expected, states) == 0.0
    expected[4] = 1
    with pytest.raises(SimulationError, match=r"toggle: gates and RTL differ in 1 bits, first in cycle 4, y\[0\]: gates 0, RTL 1"):
        compare("toggle", netlist, x, expected, states)


def test_a_register_with_one_value_counts_from_its_loading_on(tiny: Library) -> None:
    ports = {"clk": {"direction": "input", "bits": [2]}, "y": {"direction": "output", "bits": ["0"]}}
    netlist = read_netlist({"ports": ports, "cells": {}}, tiny)
    rows, states = np.zeros((8, 0), np.uint8), np.zeros(0, np.uint64)
    assert compare("late", netlist, rows, np.array([[1, 1, 1, 1, 0, 0, 0, 0]], np.uint8).T, states) == pytest.approx(2 / 6)
    with pytest.raises(SimulationError, match="differ in 2 bits, first in cycle 5"):
        compare("late", netlist, rows, np.array([[1, 1, 1, 1, 0, 1, 1, 0]], np.uint8).T, states)


def test_loops_and_unknown_cells_are_refused(tiny: Library) -> None:
    loop = {"ports": {}, "cells": {"a": _cell("INV", A=2, Y=3), "b": _cell("INV", A=3, Y=2)}}
    with pytest.raises(SimulationError, match="2 gates form a combinational loop"):
        read_netlist(loop, tiny)
    with pytest.raises(SimulationError, match="a \\$mux"):
        read_netlist({"ports": {}, "cells": {"a": _cell("$mux", A=2, Y=3)}}, tiny)


def test_scaling_between_nodes() -> None:
    assert stillmaker_factor() == pytest.approx(0.0352, abs=2e-4)
    assert capacitance_factor() == pytest.approx(22 / 130 * (0.8 / 1.2) ** 2)
    figures = scaled(1.0, 2.0, 4.0, 0.05)
    assert figures.low == 0.05 and figures.high == pytest.approx(4 * capacitance_factor())
    assert figures.nominal == pytest.approx(2 * math.sqrt(stillmaker_factor() * capacitance_factor()))


@needs_yosys
def test_generic_gates() -> None:
    unit = next(unit for unit in UNITS if unit.name == "divide")
    gates, flips, depth, boxes = generic_size(map_module(unit.module, unit.spec, unit.parameters, None))
    assert flips == 101 and gates > 300 and depth > 10 and boxes == []


@needs_yosys
@needs_libraries
def test_a_divider_in_gates_does_what_the_rtl_does() -> None:
    """Every output bit in every cycle, in the library's cells; and figures that hang together."""
    unit = next(unit for unit in UNITS if unit.name == "divide")
    measurement = measure(unit, targets()[0])
    assert measurement.undefined_share < 0.01 and measurement.compared_bits > 15_000
    assert measurement.operations[RTL_UNITS["divide"].per] == 60
    assert measurement.energy is not None and 0 < measurement.energy.glitches < measurement.energy.lasting
    assert measurement.flip_flops == 101 and measurement.critical_path > 0 and measurement.depth > 10


@pytest.mark.slow
@needs_yosys
@needs_libraries
def test_the_command(tmp_path: Path) -> None:
    paths = [str(Path(__file__).parent), *(str(Path(__file__).parents[1] / name) for name in ("simulate", "reference"))]
    command = [sys.executable, "-m", "synthesis", "router", "add", "isqrt", "attention_softmax", "sequencer"]
    files = ["--json", str(tmp_path / "o.json"), "--markdown", str(tmp_path / "o.md")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run([*command, *files], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    data = json.loads((tmp_path / "o.json").read_text())
    assert len(data["units"]) == 5 * len(targets()) and len(data["comparisons"]) == 4
    assert all(unit["compared_bits"] > 30_000 for unit in data["units"] if unit["unit"] != "sequencer")
    assert "| router | " in (tmp_path / "o.md").read_text()


def test_every_unit_that_runs_has_its_charge() -> None:
    uncharged = ("read_scheduler", "membrane_scheduler")
    assert [unit.name for unit in UNITS if unit.stimulus is not None and unit.name not in uncharged] == list(RTL_UNITS)


@needs_yosys
def test_an_unknown_unit_is_refused() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-m", "synthesis", "nothing"], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 2 and "unknown unit 'nothing'" in result.stderr
