"""Every spike code at equal spikes per input on random inputs, each with the best of many parameters: signal-to-noise ratio.

    python benchmarks/codes_gaussian.py

Inputs are normally distributed, Laplacian, and normally distributed with one channel in a hundred 30 times as large, as the activations of
language models have them. One price for all inputs brings a code to the asked spikes; one that emits fewer without a price is taken as it
is. With --pulses a graded spike counts as the signed powers of two that it carries (codes.md), for all codes alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.parameters import ParameterValue
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

TOKENS, INPUTS, DEVIATION = 24, 400, 1 << 12
OUTLIERS, OUTLIER_SCALE = 100, 30  # one channel in so many, and how much larger it is
_TOLERANCE = 0.01
_BISECTIONS = 18

GRID: dict[str, dict[str, tuple[ParameterValue, ...]]] = {
    "signed-digit": {"phases": (14,)},
    "rate": {"phases": (2, 4, 6, 8, 12, 16, 32, 64)},
    "first-spike": {"phases": (4, 6, 8, 14)},
    "bit-planes": {"phases": (3, 4, 5, 6, 8, 10)},
    "sign-magnitude": {"phases": (2, 3, 4, 5, 6, 8, 10), "clip_per_mille": (0, 10)},
    "burst": {"phases": (2, 3, 4, 6), "gamma": (3, 4, 7), "shift": (0, 2, 3), "clip_per_mille": (0, 10)},
    "first-spike-log": {"phases": (6, 8, 10), "steps": (2, 3, 4, 8), "clip_per_mille": (0, 10)},
    "multi-threshold": {"phases": (1, 2, 3, 4, 6), "thresholds": (5, 7), "current": ("first", "constant"), "clip_per_mille": (0, 10)},
    "st-bif": {"phases": (4, 8, 16, 32), "clip_per_mille": (0, 10, 50)},
    "qcfs": {"phases": (4, 8, 16, 32), "clip_per_mille": (0, 10, 50)},
}
"""Phases and parameters that are tried, all combinations; a code that is not here is tried with its defaults."""

Integers = NDArray[np.int32]


def inputs(seed: int) -> dict[str, Integers]:
    """Random integers [TOKENS, INPUTS] of each kind."""
    generator = np.random.default_rng(seed)
    outliers = np.where(np.arange(INPUTS) % OUTLIERS == 0, OUTLIER_SCALE, 1)
    kinds = {
        "normal": generator.normal(0.0, 1.0, (TOKENS, INPUTS)),
        "Laplacian": generator.laplace(0.0, np.sqrt(0.5), (TOKENS, INPUTS)),
        "normal, outlier channels": generator.normal(0.0, 1.0, (TOKENS, INPUTS)) * outliers,
    }
    return {kind: np.rint(values * DEVIATION).astype(np.int32) for kind, values in kinds.items()}


def candidates(name: str) -> Iterator[SpikeCode]:
    """The code with every combination of its grid that goes together."""
    grid = GRID.get(name, {})
    for values in product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        phases = chosen.pop("phases", None)
        assert phases is None or isinstance(phases, int)
        try:
            yield get_code(name, phases, **chosen)
        except UsageError:
            continue


def measured(code: SpikeCode, x: Integers, price: int, pulses: bool) -> tuple[float, float]:
    """Spikes or pulses per input, and signal-to-noise ratio in dB, errors of a channel counted relative to its own scale."""
    train = code.encode(x, np.full(x.shape[1], price))
    counts = train.pulse_counts() if pulses else train.spike_counts()
    error = (code.decode(train) - x).astype(np.float64)
    power = (x.astype(np.float64) ** 2).mean(axis=0)
    return float(counts.sum(axis=0).mean()), float(-10 * np.log10(np.mean((error**2).mean(axis=0) / power)))


def at_spikes(code: SpikeCode, x: Integers, spikes: float, pulses: bool) -> tuple[float, float]:
    """(spikes, dB) at the price that gives the asked spikes, or without a price where there are no more."""
    free = measured(code, x, 0, pulses)
    if free[0] <= spikes * (1 + _TOLERANCE):
        return free
    low, high = 0.0, 31.0  # log2 of the price
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if measured(code, x, int(2**middle), pulses)[0] > spikes else (low, middle)
    return measured(code, x, int(2**high) if high < 31 else 2**31 - 1, pulses)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spikes", type=float, nargs="+", default=[0.67, 1.0, 1.25, 1.5])
    parser.add_argument("--pulses", action="store_true", help="equal pulses instead of equal spikes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counted = "pulses" if arguments.pulses else "spikes"
    for kind, x in inputs(arguments.seed).items():
        table = Table(
            "code", *(f"dB at {spikes:g}" for spikes in arguments.spikes), f"{counted}, phases, parameters at the last", title=kind
        )
        for name in SPIKE_CODES:
            cells = []
            for spikes in arguments.spikes:
                outcomes = [(*at_spikes(code, x, spikes, arguments.pulses), code) for code in candidates(name)]
                reached, decibels, best = max(outcomes, key=lambda outcome: outcome[1])
                cells.append(f"{decibels:.1f}")
            parameters = ", ".join(f"{key}={value}" for key, value in best.parameters.items())
            table.add_row(name + (" (graded)" if best.graded else ""), *cells, f"{reached:.2f}, T={best.phases} {parameters}")
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
