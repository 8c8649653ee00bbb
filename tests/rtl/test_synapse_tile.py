"""The synapse tile against the integer reference and the cycle rules of timing.md: every output in every cycle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synapse_script import COUNTERS, Region, check, configure, counters_of, random_region, random_trace

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench, pack
from neuromorphic_llm.rtl.synapse import Epilogue
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog
from neuromorphic_llm.spikes.registry import get_code

NANO = load_spec("nano")
NANO2 = load_spec("nano2")
SPECS = {
    "single": NANO.with_fields({"synapse.crossbars": 2}),
    "odd": NANO.with_fields(
        {
            "synapse.crossbars": 8,
            "synapse.rows": 21,
            "synapse.columns": 12,
            "readout.active_rows": 5,
            "readout.conversion_cycles": 2,
            "readout.read_latency": 3,
            "synapse.output_latency": 5,
            "synapse.gate_latency": 10,
            "synapse.argmax_lanes": 4,
        }
    ),
    "slices": NANO.with_fields(
        {
            "synapse.crossbars": 13,
            "synapse.rows": 16,
            "synapse.columns": 16,
            "synapse.cell_bits": 3,
            "synapse.slices": 3,
            "readout.active_rows": 7,
            "readout.column_mux": 1,
            "synapse.argmax_lanes": 16,
            "synapse.gate_latency": 15,
        }
    ),
}
# Membranes, their phases most significant first (REVERSED) or least significant first.
SPECS |= {
    "stored": SPECS["single"].with_fields(
        {"readout.kind": "membrane", "readout.converter_bits": 6, "readout.repeats": 2, "readout.conversion_cycles": 7}
    ),
    "membranes": SPECS["odd"].with_fields(
        {
            "readout.kind": "membrane",
            "readout.converter_bits": 9,
            "vector.encoder": "element",
            "synapse.output_latency": 6,
            "synapse.gate_latency": 11,
        }
    ),
    "single conversion": SPECS["slices"].with_fields(
        {
            "readout.kind": "membrane",
            "readout.converter_bits": 4,
            "readout.repeats": 0,
            "readout.range_bits": 5,
            "readout.read_latency": 1,
            "vector.encoder": "element",
        }
    ),
}
# Membranes that decay, and a code for each.
SPECS |= {
    f"decay {steps}": SPECS[name].with_fields(
        {"readout.kind": "membrane-decay", "readout.steps": steps, **({} if name == "membranes" else {"readout.repeats": 2})}
    )
    for steps, name in ((8, "membranes"), (4, "stored"), (1, "single conversion"))
}
LOG = {8: FirstSpikeLog(8, steps=8), 4: FirstSpikeLog(6, steps=4), 1: FirstSpikeLog(13, steps=1)}
# Row blocks whose membranes meet: two by two, and all of a column.
SPECS |= {
    "pairs": SPECS["membranes"].with_fields({"readout.joined": 2}),
    "whole columns": SPECS["single conversion"].with_fields({"readout.joined": 20, "readout.repeats": 1}),
}
# Converters that saturate, and halves of reads.
SPECS |= {
    "halves": SPECS["single"].with_fields({"readout.kind": "reread", "readout.converter_bits": 8, "readout.high_bits": 7}),
    "odd halves": SPECS["odd"].with_fields({"readout.kind": "reread", "readout.converter_bits": 6, "readout.high_bits": 5}),
    "three halves": SPECS["slices"].with_fields({"readout.kind": "reread", "readout.converter_bits": 4, "readout.high_bits": 5}),
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
    ("membranes", 41, 22, "bit-planes", GATE, 13),
    ("single", 64, 64, "signed-digit", VALUES, 14),
    ("single", 63, 62, "signed-digit", GATE, 12),
    ("single", 17, 61, "rate", ARGMAX, 9),
    ("odd", 20, 45, "signed-digit", VALUES, 3),  # one row block, four column blocks; S below k_min: left shifts
    ("odd", 41, 22, "bit-planes", GATE, 13),  # two by two
    ("odd", 84, 11, "signed-digit", ARGMAX, 30),
    ("odd", 63, 9, "rate", VALUES, -4),
    ("slices", 47, 16, "first-spike", VALUES, 60),
    ("slices", 16, 54, "signed-digit", GATE, 15),
    ("slices", 30, 19, "signed-digit", ARGMAX, 20),
    ("stored", 64, 64, "signed-digit", VALUES, 14),
    ("stored", 63, 62, "rate", GATE, 12),
    ("membranes", 20, 45, "signed-digit", VALUES, 3),
    ("membranes", 84, 11, "signed-digit", ARGMAX, 30),
    ("membranes", 63, 9, "rate", VALUES, -4),
    ("single conversion", 47, 16, "first-spike", VALUES, 60),
    ("single conversion", 30, 19, "signed-digit", ARGMAX, 20),
    ("pairs", 63, 11, "signed-digit", VALUES, 3),  # three row blocks, two of them joined
    ("pairs", 41, 22, "bit-planes", GATE, 13),
    ("pairs", 84, 9, "rate", ARGMAX, 9),
    ("whole columns", 47, 16, "first-spike", VALUES, 60),
    ("whole columns", 30, 19, "signed-digit", ARGMAX, 20),
    ("halves", 64, 62, "signed-digit", GATE, 14),
    ("odd halves", 41, 22, "bit-planes", GATE, 13),
    ("odd halves", 84, 11, "signed-digit", VALUES, 3),
    ("three halves", 47, 16, "first-spike", VALUES, 60),
    ("three halves", 30, 19, "rate", ARGMAX, 20),
]
DECAYS = [
    ("decay 8", 84, 11, 8, ARGMAX, 30),
    ("decay 8", 41, 22, 8, GATE, 13),
    ("decay 4", 64, 64, 4, VALUES, 14),
    ("decay 1", 47, 16, 1, VALUES, 20),
]
STREAMS = [(0.0, 0.0), (0.3, 0.5), (0.85, 0.1)]
"""Probability of an idle cycle before a flit, and of a cycle in which the router takes none."""


@pytest.mark.parametrize(("name", "inputs", "columns", "code", "epilogue", "shift"), CASES)
def test_every_output_in_its_cycle(name: str, inputs: int, columns: int, code: str, epilogue: Epilogue, shift: int) -> None:
    rng, bench = np.random.default_rng(inputs), Bench("nmllm_synapse_tile", spec=SPECS[name])
    for number, (idle, backpressure) in enumerate(STREAMS):
        region = random_region(SPECS[name], inputs, columns, get_code(code), epilogue, rng, shift, bias=number != 1)
        compare(bench, region, 34_000, idle, backpressure, rng)


@pytest.mark.parametrize("digital", [0, 1])
@pytest.mark.parametrize(("name", "inputs", "columns", "steps", "epilogue", "shift"), DECAYS)
def test_stamped_trains_in_their_cycles(
    name: str, inputs: int, columns: int, steps: int, epilogue: Epilogue, shift: int, digital: int
) -> None:
    rng, bench = np.random.default_rng(inputs), Bench("nmllm_synapse_tile", {"DIGITAL": digital}, spec=SPECS[name])
    for number, (idle, backpressure) in enumerate(STREAMS):
        region = random_region(SPECS[name], inputs, columns, LOG[steps], epilogue, rng, shift, bias=number != 1)
        compare(bench, region, 20_000, idle, backpressure, rng)


@pytest.mark.parametrize("name", ["odd", "slices", "membranes", "single conversion", "pairs", "odd halves", "three halves"])
def test_digital_twin_computes_the_same(name: str) -> None:
    """The tile with the macros' digital twin meets the same reference in every output and cycle."""
    rng, bench = np.random.default_rng(7), Bench("nmllm_synapse_tile", {"DIGITAL": 1}, spec=SPECS[name])
    for epilogue in Epilogue:
        region = random_region(
            SPECS[name], 2 * SPECS[name].synapse.rows - 1, 2 * SPECS[name].synapse.columns - 4, get_code("signed-digit"), epilogue, rng
        )
        compare(bench, region, 8_000, 0.2, 0.2, rng)


@pytest.mark.parametrize("spec", [NANO, NANO2], ids=["nano", "nano2"])
def test_whole_tile(spec: ChipSpec) -> None:
    """All eight groups of a tile: four row blocks, two column blocks; then one row block of all its columns."""
    rng, bench = np.random.default_rng(8), Bench("nmllm_synapse_tile", spec=spec)
    for inputs, columns in ((256, 128), (64, 512)):
        for epilogue in Epilogue:
            compare(bench, random_region(spec, inputs, columns, get_code("signed-digit"), epilogue, rng), 8_000, 0.0, 0.1, rng)


def test_membranes_saturate_and_are_converted_again() -> None:
    """A train in which some columns fit at once, some later and some never."""
    spec, rng = SPECS["membranes"], np.random.default_rng(13)
    bench = Bench("nmllm_synapse_tile", spec=spec)
    region = random_region(spec, 63, 9, get_code("signed-digit"), VALUES, rng, bias=False)
    for lowest in (-20, -8, -4, 0, 22):
        ranges = np.sort(rng.integers(lowest, lowest + 8, region.site.ranges.shape), axis=1).astype(np.int8)
        shown = replace(region, site=replace(region.site, ranges=ranges))
        compare(bench, shown, 4_000, 0.0, 0.2, rng)
        counts = counters_of(bench)
        assert (counts["repeated_conversions"] > 0) == (lowest < 22)
        bench.reset()


def test_readouts_that_the_tile_has_no_time_for() -> None:
    """Accumulators with membranes are ready a cycle later than those of an exact read."""
    for field in ({"synapse.output_latency": 5}, {"synapse.gate_latency": 10}):
        with pytest.raises(SimulationError, match="OUTPUT_LATENCY is at least 6 and GATE_LATENCY at least 11"):
            Bench("nmllm_synapse_tile", spec=SPECS["membranes"].with_fields(field))


def test_equal_logits_give_the_lowest_index() -> None:
    """Columns with the same weights, and columns that all saturate."""
    spec, rng = SPECS["odd"], np.random.default_rng(9)
    bench = Bench("nmllm_synapse_tile", spec=spec)
    for shift in (12, -100):
        region = random_region(spec, 30, 23, get_code("signed-digit"), ARGMAX, rng, shift, bias=False)
        site = replace(region.site, weight=np.tile(region.site.weight[:4], (6, 1))[:23], multiplier=np.full(23, 40000, np.int32))
        compare(bench, replace(region, site=site), 6_000, 0.0, 0.3, rng)


def test_gate_saturates_at_both_ends() -> None:
    """Hidden fractions that shift left and right as far as they go."""
    spec, rng = SPECS["odd"], np.random.default_rng(10)
    bench = Bench("nmllm_synapse_tile", spec=spec)
    for gate_fraction, hidden_fraction in ((12, 63), (12, 0), (31, 0), (40, 10)):
        region = random_region(spec, 30, 22, get_code("signed-digit"), GATE, rng, 2)
        compare(bench, replace(region, gate_fraction=gate_fraction, hidden_fraction=hidden_fraction), 3_000, 0.0, 0.3, rng)


def test_one_column_and_counters_from_zero() -> None:
    """A row block of a single column is in use; after a reset nothing was counted."""
    spec, rng = SPECS["odd"], np.random.default_rng(12)
    bench = Bench("nmllm_synapse_tile", spec=spec)
    counters = bench.run({}, cycles=1, outputs=COUNTERS)
    assert {name: int(values[0]) for name, values in counters.items()} == dict.fromkeys(COUNTERS, 0)
    compare(bench, random_region(spec, 41, 1, get_code("signed-digit"), VALUES, rng), 3_000, 0.0, 0.3, rng)


def test_faults_are_caught() -> None:
    """Assertions name an event beyond the inputs and a train that begins before the results have left."""
    spec, rng = SPECS["odd"], np.random.default_rng(11)
    bench = Bench("nmllm_synapse_tile", spec=spec)
    region = random_region(spec, 30, 20, get_code("signed-digit"), VALUES, rng)
    for event, cycles, fault in ((1 << 15 | 30, [0], "known_input"), (1 << 15, [0, 13], "one_train")):
        bench.reset()
        configure(bench, region)
        valid = np.zeros(30, np.uint64)
        valid[cycles] = 1
        flit = pack([(np.uint64(0), spec.route_bits), (np.uint64(1), 1), (np.uint64(1 << 5), 16), (np.uint64(event), 64)])
        with pytest.raises(SimulationError, match=fault):
            bench.run({"in_valid": valid, "in_flit": flit, "out_ready": 0}, cycles=30)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "inputs", "columns", "code", "epilogue", "shift"), CASES)
def test_ten_million_cycles(name: str, inputs: int, columns: int, code: str, epilogue: Epilogue, shift: int) -> None:
    rng, bench = np.random.default_rng(columns), Bench("nmllm_synapse_tile", spec=SPECS[name])
    for _ in range(20):
        region = random_region(SPECS[name], inputs, columns, get_code(code), epilogue, rng, shift + int(rng.integers(-3, 4)))
        compare(bench, region, 50_000, rng.choice([0.0, 0.5, 0.9]), rng.choice([0.0, 0.5, 0.8]), rng)
