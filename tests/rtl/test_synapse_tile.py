"""The synapse tile against the integer reference and the cycle rules of timing.md: every output in every cycle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synapse_script import Region, check, configure, random_region, random_trace

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.synapse import Epilogue
from neuromorphic_llm.spikes.registry import get_code

NANO = load_spec("nano")
SPECS = {
    "single": replace(NANO, crossbars_per_tile=2),
    "odd": replace(
        NANO, crossbars_per_tile=8, rows=21, columns=15, active_rows=5, read_latency=3, output_latency=5, gate_latency=10, argmax_lanes=4
    ),
    "slices": replace(
        NANO,
        crossbars_per_tile=13,
        rows=16,
        columns=16,
        cell_bits=3,
        slices=3,
        active_rows=7,
        column_mux=1,
        argmax_lanes=16,
        gate_latency=15,
    ),
}
VALUES, GATE, ARGMAX = Epilogue.VALUES, Epilogue.GATE, Epilogue.ARGMAX


LONGEST = 50_000
"""Cycles of a train, at most."""


def compare(bench: Bench, region: Region, cycles: int, idle: float, backpressure: float, rng: np.random.Generator) -> None:
    """Load a region and run random trains for at least `cycles` cycles."""
    configure(bench, region)
    ready = rng.random(cycles + LONGEST) >= backpressure
    assert check(bench, region, random_trace(region, cycles, ready, idle, rng), ready) >= cycles


CASES = [
    # spec, inputs, columns, code, epilogue, output shift
    ("single", 64, 64, "signed-digit", VALUES, 14),
    ("single", 63, 62, "signed-digit", GATE, 12),
    ("single", 17, 61, "rate", ARGMAX, 9),
    ("odd", 20, 57, "signed-digit", VALUES, 3),  # one row block, four column blocks; S below k_min: left shifts
    ("odd", 41, 26, "bit-planes", GATE, 13),  # two by two, macros with 14 columns in use
    ("odd", 84, 15, "signed-digit", ARGMAX, 30),
    ("odd", 63, 9, "rate", VALUES, -4),
    ("slices", 47, 16, "first-spike", VALUES, 60),
    ("slices", 16, 54, "signed-digit", GATE, 15),
    ("slices", 30, 19, "signed-digit", ARGMAX, 20),
]
STREAMS = [(0.0, 0.0), (0.3, 0.5), (0.85, 0.1)]
"""Probability of an idle cycle before a flit, and of a cycle in which the router takes none."""


@pytest.mark.parametrize(("name", "inputs", "columns", "code", "epilogue", "shift"), CASES)
def test_every_output_in_its_cycle(name: str, inputs: int, columns: int, code: str, epilogue: Epilogue, shift: int) -> None:
    rng, bench = np.random.default_rng(inputs), Bench("nmllm_synapse_tile", spec=SPECS[name])
    for number, (idle, backpressure) in enumerate(STREAMS):
        region = random_region(SPECS[name], inputs, columns, get_code(code), epilogue, rng, shift, bias=number != 1)
        compare(bench, region, 8_000, idle, backpressure, rng)
