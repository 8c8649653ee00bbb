"""A conversion by decrement: the membrane's own bottom plates take binary shares of the full scale off, a latch decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from membrane import ngspice
from membrane.design import BITS, Design
from membrane.measures import delivered, rising_energy
from membrane.transfer import simulation

SLOT = 2e-9
"""Time of a decision and its decrement, s."""

REGISTER_BITS = 2 * BITS
"""Flip-flops of the sequence and of the result that are clocked in every slot of a conversion."""

LOGIC = (0.2e-15, 0.5e-15, 2e-15)
"""Energy of a flip-flop's clock and data for one slot, J: low, nominal, high (assumed; the account has 0.12, 0.39 and 2.5 fJ)."""


@dataclass(frozen=True)
class Conversion:
    """Decisions and energies of one conversion."""

    decisions: list[int]  # 1: above
    ideal: list[float]  # steps: what an ideal converter has left at each decision
    rests: list[float]  # steps: the difference at the latch before each decision
    comparator: float  # J
    plates: float  # J, of the reference that the plates switch to
    lines: float  # J, of gates of the plates' switches and the latch's clock


def ideal_rests(design: Design, voltage: float) -> list[float]:
    """Steps that an ideal converter has left at each decision, for a voltage over half the supply."""
    rests = [voltage / design.step]
    for bit in range(BITS - 1):
        rests.append(rests[-1] - (1 if rests[-1] > 0 else -1) * 2.0 ** (BITS - 2 - bit))
    return rests


def plate_capacitances(design: Design) -> list[float]:
    """Capacitance of the plates of each decrement, once to raise and once to lower the membrane, F; reference is the full range."""
    return [2 * design.capacitance / 2 ** (bit + 2) for bit in range(BITS - 1)]


def convert(design: Design, voltage: float, models: Path | None = None) -> Conversion:
    """Conversion of a voltage with the plates driven as an ideal converter would; decisions are the latch's."""
    ideal = ideal_rests(design, voltage)
    vdd, edge = design.supply, design.edge
    body = ["vdd vdd 0 {vdd}", f"vr vr 0 {2 * design.full_scale}", f"vset set 0 {vdd / 2 + voltage}"]
    body += [
        "vpre pre 0 pwl(0 1 0.8n 1 0.85n 0)",
        "sset m set pre 0 preset",
        "smid mid half pre 0 preset",
        "vhalf half 0 {vdd/2}",
        "rmid mid below 400",
        "cmid below 0 {2*c}",
        ".model preset sw vt=0.5 ron=100 roff=1e15",
    ]
    names = []
    for bit, capacitance in enumerate(plate_capacitances(design)):
        when = (bit + 1.55) * SLOT
        for side, starts in (("raise", 0.0), ("lower", vdd)):
            moves = (ideal[bit] > 0) == (side == "lower")
            ends = vdd - starts if moves else starts
            name = f"{side}{bit}"
            names += [name, f"{name}_n"]
            times = np.array([0.0, when, when + edge])
            body.append(ngspice.source(name, times, np.array([starts, starts, ends])))
            body.append(ngspice.source(f"{name}_n", times, vdd - np.array([starts, starts, ends])))
            body.append(f"x{name} m {name} {name}_n vr plate c={capacitance:.8g} w={max(0.1e-6, 1e-6 * capacitance / 50e-15):.4g}")
    body.append(f"crest m 0 {2 * design.capacitance / 2**BITS * 2:.8g}")
    clock = [point for bit in range(BITS) for point in _pulse((bit + 1) * SLOT, (bit + 1.5) * SLOT, vdd, edge)]
    body.append("vclk clk 0 pwl(" + " ".join(f"{time:.6g} {level:.4g}" for time, level in [(0.0, 0.0), *clock]) + ")")
    body += ["xcomp m mid clk q qn vcmp comparator", "vcmp vcmp 0 {vdd}"]
    vectors = ["v(m)", "v(mid)", "v(q)", "v(qn)", "i(vcmp)", "i(vr)", "i(vclk)", *(f"i(v{name})" for name in names)]
    control = [f"tran 50p {(BITS + 1) * SLOT:.6g} 0 100p", f"wrdata waves {' '.join(vectors)}"]
    waves, _ = ngspice.run(simulation("conversion by decrement", design, body, control, models))
    sampled = (np.arange(BITS) + 1.45) * SLOT
    difference = np.interp(sampled, waves["time"], waves["v(qn)"] - waves["v(q)"])
    rests = np.interp((np.arange(BITS) + 0.98) * SLOT, waves["time"], waves["v(m)"] - waves["v(mid)"])
    lines = sum(rising_energy(waves, f"i(v{name})", vdd) for name in [*names, "clk"])
    return Conversion(
        [int(sign > 0) for sign in difference],
        ideal,
        [float(rest) / design.step for rest in rests],
        delivered(waves, "i(vcmp)") * vdd,
        max(delivered(waves, "i(vr)"), 0.0) * 2 * design.full_scale,
        lines,
    )


def largest_mistaken(conversion: Conversion) -> float:
    """Largest difference, in steps, that the latch decided wrongly; 0 if none."""
    pairs = zip(conversion.decisions, conversion.rests, strict=True)
    return max((abs(rest) for decision, rest in pairs if decision != (rest > 0)), default=0.0)


def decrement_gain(conversion: Conversion) -> float:
    """What all decrements of a conversion move the membrane by, over what they should."""
    return (conversion.rests[-1] - conversion.rests[0]) / (conversion.ideal[-1] - conversion.ideal[0])


def _pulse(start: float, stop: float, level: float, edge: float) -> list[tuple[float, float]]:
    """Corners of a pulse."""
    return [(start, 0.0), (start + edge, level), (stop, level), (stop + edge, 0.0)]


def logic_energy() -> tuple[float, float, float]:
    """Energy of the registers that sequence a conversion, J: low, nominal, high."""
    low, nominal, high = (REGISTER_BITS * BITS * energy for energy in LOGIC)
    return low, nominal, high
