"""A membrane through the phases of a token against the sum that it stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from membrane import ngspice
from membrane.design import PHASES, Design, Floats, control_lines, row_pulses, sample_times
from membrane.workload import ColumnSums

FULL_LEVELS = 80.0
"""Sum, in levels of the last phase, at full scale: one of nano's columns in a thousand exceeds 70, and its running sum 118."""

THRESHOLD_MISMATCH = 1.5e-9
"""Standard deviation of a threshold times the root of the gate's area, V m (assumed: 1.5 mV um)."""

CAPACITOR_MISMATCH = 0.01 * 0.4e-15**0.5
"""Relative standard deviation of a capacitor times the root of its value, F^0.5 (assumed: 1 % at 0.4 fF)."""

TRANSISTOR = re.compile(r"^(m\w+) .* w=(\S+) l=(\S+?)(?: delvto=(\S+))?$", re.MULTILINE)
SUBCIRCUITS = {"x1": "clamp", "xn": "negative", "xp": "positive"}
CAPACITORS = ("cn", "cp", "c.xn.ch", "c.xp.ch")


def parameters(design: Design) -> dict[str, float]:
    """Parameters of membrane.cir."""
    return {
        "vdd": design.supply,
        "c": design.capacitance,
        "wsw": design.switch_width,
        "lsw": design.switch_length,
        "wamp": design.amplifier_width,
        "lamp": 80e-9,
        "cva": 10e-15,
        "rva": 30e3,
        "vshift": design.level_shift,
        "wcas": 1e-6,
        "vread": design.read_voltage,
    }


def subcircuits(design: Design) -> list[str]:
    """Lines of membrane.cir, without dummy switches if the design has none."""
    lines = (ngspice.FOLDER / "membrane.cir").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if design.dummies or not line.startswith("mdum")]


def simulation(title: str, design: Design, body: Sequence[str], control: Sequence[str], models: Path | None = None) -> str:
    """Deck of elements of a design and commands."""
    return ngspice.deck(title, parameters(design), [*subcircuits(design), *body], control, models)


def transistors(design: Design) -> dict[str, tuple[float, float]]:
    """Instance of each transistor -> (gate area in m^2, shift of its threshold in V)."""
    text = "\n".join(subcircuits(design))
    values = parameters(design)
    found = {}
    for instance, subcircuit in SUBCIRCUITS.items():
        if instance == "x1" and design.ideal_clamp:
            continue
        body = text.split(f".subckt {subcircuit} ")[1].split(".ends")[0]
        for name, width, length, shift in TRANSISTOR.findall(body):
            found[f"m.{instance}.{name}"] = value(width, values) * value(length, values), value(shift or "0", values)
    return found


def value(expression: str, values: dict[str, float]) -> float:
    """Number of an element's parameter: a number with a unit, or a product of numbers and parameters in braces."""
    if not expression.startswith("{"):
        return float(expression.replace("n", "e-9").replace("u", "e-6"))
    result, divide = 1.0, False
    for token in re.findall(r"[\w.]+|[*/]", expression):
        if token in "*/":
            divide = token == "/"
            continue
        factor = values[token] if token in values else float(token)
        result = result / factor if divide else result * factor
    return result


def mismatch(design: Design, seed: int | None) -> list[str]:
    """Commands that give thresholds and capacitors their mismatch; none without a seed."""
    if seed is None:
        return []
    rng = np.random.default_rng(seed)
    commands = []
    for name, (area, shift) in transistors(design).items():
        commands.append(f"alter @{name}[delvto] = {shift + THRESHOLD_MISMATCH / area**0.5 * rng.standard_normal():.6g}")
    for name in CAPACITORS:
        relative = CAPACITOR_MISMATCH / design.capacitance**0.5 * rng.standard_normal()
        commands.append(f"alter {name} = {design.capacitance * (1 + relative):.8g}")
    return commands


def elements(design: Design, up: Floats, down: Floats) -> list[str]:
    """Supplies, control lines, cells, clamp and capacitors of one membrane; conductances [tokens, phases] in S."""
    rows = ["vdd vdd 0 {vdd}", "vdda vdda 0 {vdd}", f"vcn vcn 0 {0.625 * design.supply}", f"vcp vcp 0 {0.375 * design.supply}"]
    for name, (times, levels) in control_lines(design, len(up)).items():
        rows += [ngspice.source(name, times, levels), ngspice.source(f"{name}_n", times, design.supply - levels)]
    for name, conductance in (("up", up), ("down", down)):
        times, levels = row_pulses(design, conductance)
        rows.append(ngspice.source(name, times, levels * 1e6))
    return [
        *rows,
        *(IDEAL_CLAMP if design.ideal_clamp else clamped(design)),
        "xn dn n hn vdd int_n int share_n share reset_n negative",
        "xp dp p hp int int_n share share_n reset positive",
        "cn n 0 {c}",
        "cp p 0 {c}",
        f".ic v(n)={design.supply} v(hn)={design.supply} v(p)=0 v(hp)=0",
    ]


def clamped(design: Design) -> list[str]:
    """Cells, wire and clamp of a column."""
    return [
        f"vref ref 0 {design.reference}",
        "vread_up ref_up ref {vread}",
        "vread_down ref ref_down {vread}",
        "bup ref_up col i=1e-6*v(up)*(v(ref_up)-v(col))",
        "bdown col ref_down i=1e-6*v(down)*(v(col)-v(ref_down))",
        f"ccol col 0 {design.column_capacitance}",
        "x1 col dn dp vdda vcn vcp clamp",
    ]


IDEAL_CLAMP = ["bpull dn 0 i=1e-6*{vread}*max(v(down)-v(up),0)", "bpush 0 dp i=1e-6*{vread}*max(v(up)-v(down),0)"]
"""Column held at the reference by a clamp without error: its current reaches the membrane as it is."""


def conductances(design: Design, sums: ColumnSums) -> tuple[Floats, Floats]:
    """Conductances of the driven cells, S [tokens, phases]: FULL_LEVELS fill the membrane."""
    level = design.full_charge / FULL_LEVELS / (design.read_voltage * (design.pulse + design.edge))
    return sums.up * level, sums.down * level


def deck(design: Design, sums: ColumnSums, seed: int | None, vectors: str, models: Path | None = None) -> str:
    """Deck that runs tokens one after another and writes the vectors."""
    up, down = conductances(design, sums)
    control = [*mismatch(design, seed), f"tran 50p {len(up) * design.token:.6g} 0 100p", f"wrdata waves {vectors}"]
    return simulation("membrane through the phases of tokens", design, elements(design, up, down), control, models)


def voltages(design: Design, sums: ColumnSums, seed: int | None = None, models: Path | None = None) -> Floats:
    """Voltage of the joined capacitors at the end of each token, less half the supply, V [tokens]."""
    waves, _ = ngspice.run(deck(design, sums, seed, "v(n) v(p)", models))
    times = sample_times(design, len(sums.up))
    n, p = (np.interp(times, waves["time"], waves[name]) for name in ("v(n)", "v(p)"))
    result: Floats = (n + p - design.supply) / 2
    return result


@dataclass(frozen=True)
class Fit:
    """Straight line through voltages over sums, and what it leaves, in steps of the converter."""

    gain: float  # of 1
    offset: float  # steps
    left: Floats  # steps
    difference: float = 0.0  # of the gains of cells that pull up and down


def fit(design: Design, sums: ColumnSums, found: Floats) -> Fit:
    """Gain and offset of a column, which calibration takes out, and the rest; one gain for either sign of cells."""
    ideal = sums.total / FULL_LEVELS * design.full_scale
    columns = np.stack([ideal, np.ones(len(ideal))], axis=1)
    solution, *_ = np.linalg.lstsq(columns, found, rcond=None)
    return Fit(float(solution[0]), float(solution[1] / design.step), (found - columns @ solution) / design.step)


def fit_sides(design: Design, sums: ColumnSums, found: Floats) -> Fit:
    """Like fit, with a gain for the cells that pull up and one for those that pull down: programming through the clamp takes both out."""
    weights = 2.0 ** np.arange(1 - PHASES, 1) / FULL_LEVELS * design.full_scale
    columns = np.stack([sums.up @ weights, sums.down @ weights, np.ones(len(found))], axis=1)
    solution, *_ = np.linalg.lstsq(columns, found, rcond=None)
    left = (found - columns @ solution) / design.step
    return Fit(float((solution[0] - solution[1]) / 2), float(solution[2] / design.step), left, float(solution[0] + solution[1]))
