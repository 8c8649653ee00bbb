"""A membrane readout in a circuit simulator: errors, noise and energies that its constants and its model of noise follow from.

    apt-get install ngspice
    python benchmarks/membrane_circuit.py all
    python benchmarks/membrane_circuit.py transfer --capacitances 50 100 200 --samples 6

Parts: `transfer` (14 phases against the ideal sum), `halving`, `ratio` (of the slices), `noise`, `energy` (of a phase),
`conversion`, `cells`. The netlist is in membrane/membrane.cir, the transistors in membrane/transistors.lib; --models takes
another card with models nch and pch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from membrane import converter, measures, ngspice, transfer, workload
from membrane.cells import DEVICES, mean_conductance, read_energy
from membrane.design import Design
from neuromorphic_llm.cli.result import machine


@dataclass(frozen=True)
class Run:
    """What all parts of a run share."""

    designs: tuple[Design, ...]
    sums: dict[str, workload.ColumnSums]
    shares: Any
    seeds: tuple[int, ...]
    jobs: int
    models: Path | None

    def over_seeds(self, measure: Callable[[int], Any]) -> list[Any]:
        """Results of the mismatch of every seed."""
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(measure, self.seeds))


def sized(capacitance: float, base: Design) -> Design:
    """Design of another capacitance with switches in proportion, at least as wide as half of the nominal ones."""
    return replace(base, capacitance=capacitance, switch_width=base.switch_width * max(capacitance / base.capacitance, 0.5))


def row(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True)


def header(title: str, *columns: str) -> None:
    """Print the head of a table."""
    print(f"\n## {title}\n")
    row(*columns)
    row(*["---"] * len(columns))


def print_transfer(run: Run) -> None:
    """Error of the whole membrane, in steps, after a straight line for each column."""
    header(
        "Transfer",
        "C, fF",
        "clamp",
        "digits",
        "gain",
        "its spread",
        "offset",
        "its spread",
        "left, rms",
        "left, max",
        "two gains, rms",
        "spread of their difference, %",
        "of their offset",
    )
    for design in run.designs:
        for ideal in (True, False):
            chosen = replace(design, ideal_clamp=ideal)
            for name, sums in run.sums.items():
                found = run.over_seeds(partial(transfer.voltages, chosen, sums, models=run.models))
                fits = [transfer.fit(chosen, sums, voltages) for voltages in found]
                sides = [transfer.fit_sides(chosen, sums, voltages) for voltages in found]
                differences, rests = (np.std([getattr(side, part) for side in sides]) for part in ("difference", "offset"))
                gains, offsets = np.array([fit.gain for fit in fits]), np.array([fit.offset for fit in fits])
                left = np.array([fit.left for fit in fits])
                spread = [gains.mean(), gains.std(), offsets.mean(), offsets.std(), root_mean_square(left), abs(left).max()]
                kind = "ideal" if ideal else "regulated"
                row(
                    f"{design.capacitance * 1e15:.0f}",
                    kind,
                    name,
                    *map(float, [*spread, root_mean_square(np.array([side.left for side in sides])), 100 * differences, rests]),
                )


def print_halving(run: Run) -> None:
    """Ratio and offset of a halving with its spread over mismatch."""
    header(
        "Halving", "C, fF", "dummies", "ratio n", "spread", "ratio p", "spread", "offset n, steps", "spread", "offset p, steps", "spread"
    )
    for design in run.designs:
        for dummies in (False, True):
            chosen = replace(design, ideal_clamp=True, dummies=dummies)
            found = run.over_seeds(partial(measures.halving, chosen, models=run.models))
            ratios = np.array([each.ratio for each in found])
            offsets = np.array([each.offset for each in found]) / 2 / chosen.step  # joined, a capacitor's voltage counts half
            columns = [value for side in (0, 1) for value in (f"{ratios[:, side].mean():.5f}", float(ratios[:, side].std()))]
            columns += [float(value) for side in (0, 1) for value in (offsets[:, side].mean(), offsets[:, side].std())]
            row(f"{design.capacitance * 1e15:.0f}", "yes" if dummies else "no", *columns)


def print_ratio(run: Run) -> None:
    """Ratio of the slices that the tap makes."""
    header("Ratio of the slices", "C, fF", "low over high, ideally 0.0625", "spread of it, %")
    for design in run.designs:
        found = np.array(run.over_seeds(partial(measures.slice_ratio, design, models=run.models)))
        row(f"{design.capacitance * 1e15:.0f}", f"{found.mean():.5f}", float(100 * found.std() / found.mean()))


def print_noise(run: Run) -> None:
    """Thermal noise at the end of a token."""
    header("Noise, steps", "C, fF", "digits", "kT/C", "cells", "clamp", "all", "column, mV")
    for design in run.designs:
        for name, sums in run.sums.items():
            found = measures.noise(design, sums, run.models)
            parts = [found["kT/C"], found["cells"], found["clamp"]]
            every = float(np.sqrt(np.square(parts).sum()))
            row(f"{design.capacitance * 1e15:.0f}", name, *(part / design.step for part in [*parts, every]), found["column"] * 1e3)


def print_energy(run: Run) -> None:
    """Energy per phase of one membrane, by what takes it."""
    names = ("amplifier", "capacitors", "int", "share", "reset", "cells")
    header("Energy per phase, fJ", "C, fF", "digits", *names, "integration", "halving")
    for design in run.designs:
        for name, sums in run.sums.items():
            found = measures.energies(design, sums, run.models)
            halving = found["share"] + found["reset"]
            integration = found["amplifier"] + found["int"] + found["capacitors"]
            row(f"{design.capacitance * 1e15:.0f}", name, *(found[each] * 1e15 for each in names), integration * 1e15, halving * 1e15)


def print_conversion(run: Run) -> None:
    """Energy of a conversion, and decisions that differ from those of an ideal converter."""
    header(
        "Conversion, fJ",
        "C, fF",
        "latch",
        "plates",
        "their gates",
        "registers (low, nominal, high)",
        "all",
        "gain of decrements",
        "its spread",
        "decided wrongly up to, steps",
    )
    for design in run.designs:
        voltages = np.random.default_rng(0).uniform(-1, 1, len(run.seeds)) * design.full_scale
        with ThreadPoolExecutor(run.jobs) as pool:
            found = list(pool.map(partial(converter.convert, design, models=run.models), voltages))
        latch, plates, lines = (float(np.mean([getattr(each, part) for each in found])) for part in ("comparator", "plates", "lines"))
        logic = converter.logic_energy()
        wrong = max(converter.largest_mistaken(each) for each in found)
        gains = np.array([converter.decrement_gain(each) for each in found])
        registers = ", ".join(f"{energy * 1e15:.0f}" for energy in logic)
        energies = [energy * 1e15 for energy in (latch, plates, lines)]
        row(
            f"{design.capacitance * 1e15:.0f}",
            *energies,
            registers,
            sum(energies) + logic[1] * 1e15,
            f"{gains.mean():.4f}",
            float(gains.std()),
            wrong,
        )


def print_cells(run: Run) -> None:
    """Energy of reading a pair of cells of nano's weights."""
    header("Cells", "device", "G_max, uS", "V", "mean G, uS", "V^2 G t, fJ", "rails, fJ", "0.8 V, fJ", "0.8 V, nothing cancels, fJ")
    for device in DEVICES:
        found = read_energy(device, run.shares, run.sums["nano"], run.designs[0].supply)
        energies = [energy * 1e15 for energy in (found.cell, found.rails, found.supply, found.apart)]
        row(device.name, device.conductance * 1e6, device.voltage, mean_conductance(device, run.shares) * 1e6, *energies)


def root_mean_square(values: np.ndarray[Any, Any]) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


PARTS: dict[str, Callable[[Run], None]] = {
    "cells": print_cells,
    "ratio": print_ratio,
    "conversion": print_conversion,
    "noise": print_noise,
    "energy": print_energy,
    "halving": print_halving,
    "transfer": print_transfer,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all"])
    parser.add_argument("--capacitances", nargs="+", type=float, default=[50.0, 100.0, 200.0], metavar="FF")
    parser.add_argument("--samples", type=int, default=6, help="mismatch samples; each is a column")
    parser.add_argument("--tokens", type=int, default=6, help="tokens per column")
    parser.add_argument("--pulse", type=float, default=Design.pulse * 1e9, metavar="NS", help="length of a read")
    parser.add_argument("--supply", type=float, default=Design.supply, metavar="V")
    parser.add_argument(
        "--switch-width", type=float, default=Design.switch_width * 1e6, metavar="UM", help="of PMOS switches at 100 fF; others scale"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--models", type=Path, help="transistor models nch and pch instead of membrane/transistors.lib")
    given = parser.parse_args(arguments)
    if not ngspice.available():
        raise SystemExit("ngspice is not installed; apt-get install ngspice")
    reference = Design.reference * given.supply / Design.supply
    base = Design(pulse=given.pulse * 1e-9, supply=given.supply, reference=reference, switch_width=given.switch_width * 1e-6)
    weights = workload.nano()
    sums = {"nano": workload.network_sums(weights, given.tokens, 2), "random": workload.random_sums(weights, given.tokens, 2)}
    designs = tuple(sized(capacitance * 1e-15, base) for capacitance in given.capacitances)
    run = Run(designs, sums, workload.level_shares(weights), tuple(range(given.samples)), given.jobs, given.models)
    print(f"machine: {machine()}\ndesign of 100 fF: {base}")
    for name, part in PARTS.items():
        if name in given.parts or "all" in given.parts:
            part(run)


if __name__ == "__main__":
    main()
