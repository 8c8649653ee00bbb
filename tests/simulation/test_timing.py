"""The timing simulation equals a plain cycle-stepped model in every figure."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_programs import make_program
from timing_oracle import Chip

from neuromorphic_llm.chip.encoders import ENCODERS
from neuromorphic_llm.chip.instructions import Encode, Rope
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import ChipSpec, parameters
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation import timing
from neuromorphic_llm.simulation.timing import simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace, joined

ATTENTION = {
    "query_phases": 5,
    "query_spikes": 30,
    "key_columns": 3,
    "score_steps": 30,
    "probability_spikes": 9,
    "value_steps": 9,
    "probability_keys": 3,
}
"""Counts of attention and the largest of each, less one."""


def random_trace(program: Program, rng: np.random.Generator, prompt: int, decoded: int, density: float, every_logit: bool) -> ActivityTrace:
    """Counts with no model behind them: bursts, empty phases and full blocks."""
    config, rows = program.weights.config, prompt + decoded
    wanted = np.ones(rows, bool)
    if not every_logit:
        wanted[: prompt - 1] = rng.random(prompt - 1) < 0.3
        wanted[-1] = decoded > 0 or rng.random() < 0.7
    max_phases = 5
    blocks = max(program.row_blocks(site) for site in range(len(config.sites)))
    phases = rng.integers(1, max_phases + 1, (rows, len(config.sites))).astype(np.int32)
    if program.spec.stamped:
        phases[:] = 1
    phases[~wanted, -1] = 0
    sent = max_phases * phases if program.spec.stamped else phases  # one phase has all slots
    events = np.zeros((rows, len(config.sites), max_phases, blocks), np.int32)
    for site in range(len(config.sites)):
        inputs = config.sites[site].shape[0]
        for block in range(program.row_blocks(site)):
            size = min(program.spec.synapse.rows, inputs - block * program.spec.synapse.rows)
            drawn = rng.binomial(size, density, (rows, max_phases)) * (rng.random((rows, max_phases)) < 0.7)
            events[:, site, :, block] = drawn * (np.arange(max_phases) < sent[:, site, None])
    heads = (rows, config.layers, config.heads)

    def counts(high: int) -> NDArray[np.int32]:
        return rng.integers(0, high, heads).astype(np.int32)

    context = np.arange(1, rows + 1).astype(np.int32)
    again = program.spec.readout.kind == "reread"
    sites = [region.site for stage in program.stages for own in stage.regions for region in own] if again else []
    halves = rng.integers(0, 4, (rows, len(sites), max_phases)) * (events.sum(axis=3) > 0)[:, np.array(sites, np.int64)]
    return ActivityTrace(
        prompt,
        np.zeros(rows, np.int32),
        context,
        wanted,
        phases,
        events,
        np.zeros(phases.shape, np.int64),
        np.zeros((*phases.shape, 3), np.int64),
        halves,
        **{name: counts(high) + (name == "query_phases") for name, high in ATTENTION.items()},
    )


def entries(table: NDArray[np.int64]) -> dict[tuple[int, int], int]:
    """Entries [rows, columns] that are there."""
    return {(row, column): int(table[row, column]) for row, column in np.argwhere(table).tolist()}


def check(program: Program, trace: ActivityTrace) -> None:
    """Compare every figure."""
    fast, slow = simulate_timing(program, trace), Chip(program, trace).run()
    stages = range(program.weights.config.layers + 1)
    assert fast.token_end_cycle.tolist() == [slow.token_end[row] for row in range(trace.tokens)]
    assert fast.cycles_total == max(slow.token_end.values())
    assert fast.prefill_cycles == slow.token_end[trace.prompt_tokens - 1]
    assert fast.flits == slow.count["flits"]
    assert fast.flit_hops == slow.count["hops"]
    assert fast.link_stall_cycles == slow.count["link_stalls"]
    assert fast.injection_stall_cycles == slow.count["injection_stalls"]
    assert fast.vector_busy_cycles.tolist() == [slow.busy[stage] for stage in stages]
    assert fast.residual_wait_cycles.tolist() == [slow.wait["residual", stage] for stage in stages]
    assert fast.value_wait_cycles.tolist() == [slow.wait["values", stage] for stage in stages]
    assert fast.credit_wait_cycles.tolist() == [slow.wait["credits", sender] for sender in stages] + [0]
    assert fast.step_begin_cycle.tolist() == [slow.step_begin[row] for row in range(trace.tokens)]
    assert entries(fast.stage_end_cycle) == slow.stage_end
    assert entries(fast.site_begin_cycle) == slow.site_begin
    assert entries(fast.site_end_cycle) == slow.site_end
    assert entries(fast.stored_phases) == slow.stored
    assert fast.synapse_read_cycles.tolist() == [slow.read[n] for n in range(len(fast.synapse_read_cycles))]


SMALLER = replace(SMALL_CONFIG, vocab_size=23, hidden_size=20, intermediate_size=21, head_dim=4)
RANGES = {
    "mesh.width": (5, 9),
    "mesh.height": (5, 8),
    "synapse.rows": (3, 24),
    "readout.active_rows": (1, 6),
    "readout.column_mux": (1, 5),
    "readout.conversion_cycles": (1, 3),
    "readout.read_latency": (0, 4),
    "synapse.output_latency": (0, 9),
    "synapse.gate_latency": (0, 9),
    "synapse.argmax_lanes": (1, 5),
    "vector.lanes": (1, 12),
    "vector.latency": (0, 5),
    "vector.norm_latency": (0, 30),
    "vector.attention_engines": (1, 3),
    "vector.key_lanes": (1, 4),
    "vector.softmax_lanes": (1, 4),
    "vector.head_lanes": (1, 3),
    "vector.attend_latency": (0, 9),
    "noc.fifo_depth": (1, 5),
    "noc.flit_bits": (32, 200),
    "noc.events_per_flit": (1, 12),
    "host.latency": (0, 20),
    "host.dram_latency": (0, 20),
    "host.dram_bytes_per_cycle": (1, 16),
    "power.wake_cycles": (0, 120),
}
CHOICES = [
    {"readout.kind": readout, "vector.encoder": encoder, "vector.maximum": maximum, "power.gating": gating}
    for readout in ("exact", "membrane")
    for encoder in ENCODERS
    for maximum in ("read", "written")
    for gating in ("none", "all")
] + [{"readout.kind": "reread"}, *({"readout.kind": "membrane-decay", "vector.encoder": encoder} for encoder in ENCODERS)]


def random_spec(rng: np.random.Generator) -> ChipSpec:
    """Every parameter that timing.md names, drawn."""
    drawn = {path: int(rng.integers(low, high + 1)) for path, (low, high) in RANGES.items()}
    drawn["readout.active_rows"] = min(drawn["readout.active_rows"], drawn["synapse.rows"])
    drawn["noc.events_per_flit"] = min(drawn["noc.events_per_flit"], drawn["noc.flit_bits"] // 16)
    return ChipSpec("random").with_fields(drawn)


@pytest.mark.parametrize("choices", CHOICES)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**9), layers=st.integers(1, 2), prompt=st.integers(1, 5), decoded=st.integers(0, 2), every_logit=st.booleans())
def test_equal_to_the_oracle(choices: dict[str, str], seed: int, layers: int, prompt: int, decoded: int, every_logit: bool) -> None:
    rng = np.random.default_rng(seed)
    config = replace(SMALLER, layers=layers)
    program = make_program(random_decoder(0, config=config), random_spec(rng).with_fields(choices), seed, regions_per_site=2)
    check(program, random_trace(program, rng, prompt, decoded, float(rng.uniform(0.02, 0.9)), every_logit))


@pytest.mark.parametrize("choices", CHOICES)
@settings(max_examples=2, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    lengths=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=2, max_size=5),
    every=st.booleans(),
)
def test_sequences_equal_to_the_oracle(choices: dict[str, str], seed: int, lengths: list[tuple[int, int]], every: bool) -> None:
    """Prompts of any length, and sequences that end one by one, more and fewer of them than the three stages."""
    rng = np.random.default_rng(seed)
    program = make_program(random_decoder(0, config=SMALLER), random_spec(rng).with_fields(choices), seed)
    alone = [random_trace(program, rng, prompt, decoded, 0.3, every) for prompt, decoded in lengths]
    check(program, joined(alone))


def test_contention_and_long_pipeline() -> None:
    """Many tokens in flight, one-deep FIFOs and slow synapses: credits, links and injections all stall."""
    rng = np.random.default_rng(7)
    spec = ChipSpec("narrow").with_fields(
        {
            "mesh.width": 6,
            "mesh.height": 7,
            "synapse.rows": 8,
            "readout.active_rows": 8,
            "noc.fifo_depth": 1,
            "noc.events_per_flit": 1,
            "vector.norm_latency": 0,
            "host.latency": 0,
        }
    )
    spec = spec.with_fields(
        {
            "host.dram_latency": 0,
            "vector.latency": 0,
            "synapse.output_latency": 0,
            "synapse.gate_latency": 0,
            "vector.attend_latency": 0,
            "readout.read_latency": 0,
        }
    )
    program = make_program(random_decoder(0, config=replace(SMALLER, layers=2)), spec, 3, regions_per_site=4)
    trace = random_trace(program, rng, 6, 0, 0.6, every_logit=True)
    result = simulate_timing(program, trace)
    assert result.link_stall_cycles > 0
    assert result.injection_stall_cycles > 0
    assert result.credit_wait_cycles.sum() > 0
    check(program, trace)


def test_slices_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    program = make_program(
        random_decoder(0, config=SMALLER), ChipSpec("test").with_fields({"mesh.width": 6, "mesh.height": 6, "noc.fifo_depth": 2})
    )
    trace = random_trace(program, rng, 3, 2, 0.3, every_logit=True)
    whole = simulate_timing(program, trace)
    monkeypatch.setattr(timing, "SLICE_CYCLES", 7)
    sliced = simulate_timing(program, trace)
    for field in fields(whole):
        assert np.array_equal(getattr(whole, field.name), getattr(sliced, field.name)), field.name


def test_every_parameter_is_varied() -> None:
    untimed = {"clock_hz", "mesh.vector_period", "mesh.vector_offset", "vector.kv_bytes_per_engine", "vector.memory_bytes"}
    untimed |= {"readout.converter_bits", "readout.range_bits", "vector.kv_bank_bytes", "vector.memory_bank_bytes"}
    untimed |= {"readout.repeats", "readout.joined", "readout.high_bits", "readout.steps"}  # tests/devices
    untimed |= {f"synapse.{name}" for name in ("cell", "crossbars", "columns", "cell_bits", "slices", "max_phases", "accumulator_bits")}
    assert {*RANGES, *CHOICES[0]} == set(parameters()) - untimed


def test_errors() -> None:
    rng = np.random.default_rng(0)
    spec = ChipSpec("test").with_fields({"mesh.width": 6, "mesh.height": 6})
    program = make_program(random_decoder(0, config=SMALLER), spec)
    trace = random_trace(program, rng, 2, 1, 0.3, every_logit=True)
    with pytest.raises(SimulationError, match="another network"):
        simulate_timing(make_program(random_decoder(0, config=replace(SMALLER, layers=1)), spec), trace)
    with pytest.raises(SimulationError, match="locked up"):
        simulate_timing(replace(program, route_masks=np.zeros_like(program.route_masks)), trace)
    with pytest.raises(SimulationError, match="not of a generation"):
        simulate_timing(program, replace(trace, logits_wanted=np.array([True, False, True])))
    with pytest.raises(SimulationError, match="not of a generation"):
        simulate_timing(program, replace(trace, sequence=np.array([0, 0, 1], np.int32)))
    with pytest.raises(SimulationError, match="lacks the phases"):
        simulate_timing(program, replace(trace, phases=np.zeros_like(trace.phases)))
    stage = replace(program.stages[1], vector_tile=program.stages[0].vector_tile)
    with pytest.raises(SimulationError, match="more than one unit"):
        simulate_timing(replace(program, stages=(program.stages[0], stage, program.stages[2])), trace)


def test_instructions_of_a_program_are_what_is_timed() -> None:
    """Another rotation in front of the head's encoder, or of what is sent, delays a single token by its cycles, and by no more."""
    program = make_program(random_decoder(0, config=SMALLER), ChipSpec(name="test").with_fields({"mesh.width": 6, "mesh.height": 6}))
    trace = random_trace(program, np.random.default_rng(3), 1, 0, 0.3, every_logit=True)
    end, rope = simulate_timing(program, trace).cycles_total, Rope(64, 16)
    assert rope.cycles(program.spec, trace) == 6
    for stage in range(len(program.stages)):
        for place in (2, -1):
            found = program.stages[stage]
            longer = replace(found, program=(*found.program[:place], rope, *found.program[place:]))
            stages = (*program.stages[:stage], longer, *program.stages[stage + 1 :])
            assert simulate_timing(replace(program, stages=stages), trace).cycles_total == end + 6


def test_a_program_encodes_its_sites_in_turn() -> None:
    program = make_program(random_decoder(0, config=SMALLER), ChipSpec(name="test").with_fields({"mesh.width": 6, "mesh.height": 6}))
    trace = random_trace(program, np.random.default_rng(3), 1, 0, 0.3, every_logit=True)
    stage = replace(program.stages[1], program=tuple(each for each in program.stages[1].program if not isinstance(each, Encode)))
    with pytest.raises(SimulationError, match="instructions of stage 1 do not encode each of its sites in turn; compile the network again"):
        simulate_timing(replace(program, stages=(program.stages[0], stage, *program.stages[2:])), trace)
