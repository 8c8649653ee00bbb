"""Halving, ratio of the slices, noise and energy of a membrane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from membrane import ngspice
from membrane.design import PHASES, Design, Floats
from membrane.transfer import CAPACITOR_MISMATCH, FULL_LEVELS, clamped, conductances, deck, simulation
from membrane.workload import ColumnSums

BOLTZMANN_T = 1.380649e-23 * 300.15
"""kT at the temperature that ngspice simulates, J."""

LINES = ("int", "int_n", "share", "share_n", "reset", "reset_n")
WIRE = 0.4e-15
"""Capacitance of a control line over one column, F (assumed: 2 um at 0.2 fF/um)."""


@dataclass(frozen=True)
class Halving:
    """What a capacitor keeps from phase to phase: charge' = ratio * charge + offset, of the negative and the positive capacitor."""

    ratio: tuple[float, float]
    offset: tuple[float, float]  # V


def impulse(sign: int) -> ColumnSums:
    """Column that is driven in the first phase alone, by half the full scale."""
    driven = np.zeros((1, PHASES))
    driven[0, 0] = FULL_LEVELS / 2
    return ColumnSums(driven, 0 * driven) if sign > 0 else ColumnSums(0 * driven, driven)


def halving(design: Design, seed: int | None, models: Path | None = None) -> Halving:
    """Halvings of one charge, phase after phase, with the injection of all switches; an ideal clamp brings the charge."""
    ratios, offsets = [], []
    for name, sign in (("n", -1), ("p", 1)):
        waves, _ = ngspice.run(deck(design, impulse(sign), seed, f"v({name})", models))
        times = (np.arange(PHASES) + 2) * design.phase - design.gap - design.halving - design.gap
        rest = design.supply if sign < 0 else 0.0
        held = sign * (np.interp(times, waves["time"], waves[f"v({name})"]) - rest)
        ratio, offset = np.polyfit(held[:-1], held[1:], 1)
        ratios.append(float(ratio))
        offsets.append(float(offset))
    return Halving((ratios[0], ratios[1]), (offsets[0], offsets[1]))


def slice_ratio(design: Design, seed: int | None, models: Path | None = None) -> float:
    """Weight of a charge on the low slice's membrane over one on the high slice's, ideally 1/16.

    The low slice's membrane is four times as large, as its cells hold up to 15 and those of the high slice up to 7. Of its 8 C,
    joined, C / 2 meets the 2 C of the high slice's: V = (2 C V_high + C / 2 V_low) / (2.5 C).
    """
    rng = np.random.default_rng(seed)

    def built(capacitance: float) -> float:
        return capacitance * (1 + (0.0 if seed is None else CAPACITOR_MISMATCH / capacitance**0.5 * rng.standard_normal()))

    tap, rest, high = built(design.capacitance / 2), built(7.5 * design.capacitance), built(2 * design.capacitance)
    half, signal = design.supply / 2, design.full_scale / 2

    def merged(low: float, top: float) -> float:
        body = [
            "vdd vdd 0 {vdd}",
            f"vmerge merge 0 pwl(0 0 1n 0 1.05n {design.supply} 13n {design.supply} 13.05n 0)",
            f"vmerge_n merge_n 0 pwl(0 {design.supply} 1n {design.supply} 1.05n 0 13n 0 13.05n {design.supply})",
            "x1 tap m merge merge_n vdd merge",
            f"ctap tap 0 {tap:.8g}",
            f"cm m 0 {high:.8g}",
            f".ic v(tap)={half + low} v(m)={half + top}",
        ]
        control = ["tran 20p 15n 0 100p uic", "wrdata waves v(m)"]
        waves, _ = ngspice.run(simulation("tap meets membrane", design, body, control, models))
        return float(waves["v(m)"][-1])

    base = merged(0.0, 0.0)
    per_low = (merged(signal, 0.0) - base) / signal / (tap + rest)  # V per C on the low slice's membrane
    per_high = (merged(0.0, signal) - base) / signal / high
    return per_low / per_high


def noise(design: Design, sums: ColumnSums, models: Path | None = None) -> dict[str, float]:
    """Root mean square noise of the joined capacitors at the end of a token by cause, in V.

    Sampling: a capacitor keeps charge noise of kT C / 2 at each halving and half of the kT C of its twin's reset, which halvings
    reduce from then on; joining n and p adds none, as their charge stays. Cells and clamp: charge of the cells' thermal current
    and of the column's voltage noise over their conductance for the length of a pulse, and the noise of the column's voltage on
    its capacitance at the ends of the window; density and total from ngspice.
    """
    up, down = conductances(design, sums)
    driven = (up + down)[(up + down) > 0].mean()
    body = [f"vdd vdd 0 {design.supply}", "vdda vdda 0 {vdd}", f"vcn vcn 0 {0.625 * design.supply}", f"vcp vcp 0 {0.375 * design.supply}"]
    body += [line for line in clamped(design) if not line.startswith(("bup", "bdown", "vread"))]
    body += [f"rcells col ref {1 / driven:.8g}", "vdn dn 0 0.65", "vdp dp 0 0.15", "iprobe 0 col dc 0 ac 1"]
    control = [
        "noise v(col) iprobe dec 20 1e5 1e11",
        "setplot noise1",
        "wrdata waves onoise_spectrum",
        "setplot noise2",
        "print onoise_total",
    ]
    waves, printed = ngspice.run(simulation("noise of a clamped column", design, body, control, models))
    total = float(next(row for row in printed.splitlines() if row.startswith("onoise_total")).split("=")[1])
    density = float(np.interp(1 / design.pulse, waves["frequency"], waves["onoise_spectrum"])) ** 2  # V^2/Hz
    passed = 4 / 3  # sum of 1/4^k over the phases behind
    joined = 2 * design.capacitance
    capacitor = BOLTZMANN_T * design.capacitance * (1 / 2 + 1 / 4) * passed  # of a halving, and half the charge of the twin's reset
    cells = 0.5 * design.pulse * 4 * BOLTZMANN_T * driven * passed
    clamp = (0.5 * design.pulse * density * driven**2 + 2 * (design.column_capacitance * total) ** 2) * passed
    return {
        "kT/C": float((2 * capacitor) ** 0.5 / joined),
        "cells": float(cells**0.5 / joined),
        "clamp": float(clamp**0.5 / joined),
        "column": total,
    }


def energies(design: Design, sums: ColumnSums, models: Path | None = None) -> dict[str, float]:
    """Energy that supplies deliver per phase of one membrane by cause, J, from a run of the tokens."""
    vectors = " ".join(["i(vdda)", "i(vdd)", *(f"i(v{line})" for line in LINES)])
    waves, _ = ngspice.run(deck(design, sums, None, vectors, models))
    phases = sums.up.size
    lines = {line: rising_energy(waves, f"i(v{line})", design.supply) / phases + WIRE * design.supply**2 for line in LINES}
    up, down = conductances(design, sums)
    return {
        "amplifier": delivered(waves, "i(vdda)") * design.supply / phases,
        "capacitors": delivered(waves, "i(vdd)") * design.supply / phases,
        "int": lines["int"] + lines["int_n"],
        "share": lines["share"] + lines["share_n"],
        "reset": lines["reset"] + lines["reset_n"],
        "cells": float((up + down).mean() * design.read_voltage**2 * design.pulse),
    }


def delivered(waves: Mapping[str, Floats], name: str) -> float:
    """Charge that a source delivers, C."""
    return float(np.trapezoid(-waves[name], waves["time"]))


def rising_energy(waves: Mapping[str, Floats], name: str, supply: float) -> float:
    """Energy of a driver's rising edges, J: it takes their charge from the supply and returns it to ground."""
    return float(np.trapezoid(np.maximum(-waves[name], 0.0), waves["time"])) * supply
