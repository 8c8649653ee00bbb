"""Counters: by hand for a tiny program, additive over tokens, flits as the mesh counts them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from small_programs import make_program

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation.counters import Counters, count
from neuromorphic_llm.simulation.run import simulate
from neuromorphic_llm.simulation.timing import simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace

SPEC = ChipSpec("test").with_fields({"mesh.width": 7, "mesh.height": 6, "synapse.rows": 4, "synapse.columns": 8, "readout.active_rows": 2})


def test_pairs_share_a_macro() -> None:
    """With an odd number of columns the last one of each macro takes no gate: 12 columns of gate and up take 3 macros of 5, not 2."""
    config = replace(
        SMALL_CONFIG, layers=1, hidden_size=8, heads=2, kv_heads=1, head_dim=4, intermediate_size=6, vocab_size=5, max_positions=8
    )
    spec = SPEC.with_fields({"synapse.columns": 5, "readout.column_mux": 5})
    program = make_program(random_decoder(0, config=config), spec, regions_per_site=1)
    trace = simulate(program, np.array([1]), 1).trace
    trace = replace(trace, events=np.zeros_like(trace.events))
    trace.events[0, 2, 0, 0] = 2
    counters = count(program, trace, simulate_timing(program, trace), slice(0, 1))
    assert (counters.crossbar_reads, counters.row_drives, counters.conversions) == (3 * 2, 2 * 3 * 2, 12 * 2)


def test_by_hand() -> None:
    """One token, one layer: hidden 8 (two row blocks), 2 heads and 1 key/value head of 4, 6 hidden values, 5 tokens."""
    config = replace(
        SMALL_CONFIG, layers=1, hidden_size=8, heads=2, kv_heads=1, head_dim=4, intermediate_size=6, vocab_size=5, max_positions=8
    )
    program = make_program(random_decoder(0, config=config), SPEC, regions_per_site=1)
    events = np.zeros((1, 5, 2, 2), np.int32)
    events[0, 0] = [[3, 1], [0, 0]]  # qkv: 16 columns; reads 2 + 1, two macros wide
    events[0, 4] = [[1, 0], [2, 2]]  # head: 5 columns, reads 1, 1 + 1
    trace = ActivityTrace(
        prompt_tokens=1,
        sequence=np.zeros(1, np.int32),
        context=np.array([3], np.int32),
        logits_wanted=np.array([True]),
        phases=np.array([[2, 1, 1, 1, 2]], np.int32),
        events=events,
        repeats=np.array([[3, 0, 0, 0, 4]]),
        rereads=np.zeros((1, 5, 3), np.int64),
        halves=np.zeros((1, 0, 2), np.int64),
        query_phases=np.array([[[2, 1]]], np.int32),
        query_spikes=np.array([[[4, 1]]], np.int32),
        key_columns=np.array([[[2, 0]]], np.int32),
        score_steps=np.array([[[4, 1]]], np.int32),
        probability_spikes=np.array([[[3, 2]]], np.int32),
        value_steps=np.array([[[3, 2]]], np.int32),
        probability_keys=np.array([[[2, 1]]], np.int32),
    )
    timing = simulate_timing(program, trace)
    counters = count(program, trace, timing)
    assert (counters.prompt_tokens, counters.decoded_tokens, counters.tokens) == (1, 0, 1)
    assert counters.to_json() == {name: list(value) if isinstance(value, tuple) else value for name, value in vars(counters).items()} | {
        "sram_bits_read": counters.sram_bits_read,
        "sram_bits_written": counters.sram_bits_written,
    }
    assert counters.site_spikes == (4, 0, 0, 0, 5)
    assert counters.site_synaptic_operations == (64, 0, 0, 0, 25)
    assert counters.crossbar_reads == (3 * 2 + 3 * 1) * 2
    assert counters.row_drives == (4 * 2 + 5 * 1) * 2
    assert counters.cell_reads == 89 * 2
    assert counters.accumulations == (3 * 16 + 3 * 5) * 2
    assert (counters.conversions, counters.repeated_conversions) == (counters.accumulations + 7, 7)
    assert counters.integrations == counters.halvings == 0
    assert counters.output_values == 16 + 8 + 12 + 8 + 5
    assert counters.gate_operations == 6
    assert counters.norm_elements == 3 * 8
    assert counters.encode_elements == 2 * 8 + 8 + 8 + 6 + 2 * 8 + 3 * 4
    assert counters.add_elements == 2 * 8
    assert counters.rope_elements == 12
    assert (counters.query_spikes, counters.score_operations) == (5, 15)
    assert counters.softmax_elements == 2 * 3
    assert (counters.probability_spikes, counters.value_operations) == (5, 20)
    assert counters.kv_bits_read == 8 * (2 * 3 + 3 + 3 * 5)
    assert counters.kv_bits_written == 8 * 2 * 5
    assert (counters.score_bits_read, counters.score_bits_written) == ((24 + 24 + 16) * 6, (24 + 16) * 6)
    assert counters.attention_values == 8
    assert (counters.square_roots, counters.divisions) == (3, 3 + 2)
    encoded = 8 + 8 + 8 + 6 + 8
    assert counters.maximum_elements == 24 + encoded + 8 + 8 + 6 + 5 + 1
    assert (counters.event_bank_bits_read, counters.event_bank_bits_written) == (2 * 54, 2 * 54)
    assert (counters.axon_bits_read, counters.axon_bits_written) == (2 * 54, 2 * 54)
    assert (counters.accumulator_bits_read, counters.accumulator_bits_written) == (32 * (126 + 49), 32 * 126)
    assert counters.output_parameter_bits_read == 16 * 49
    assert counters.rotary_bits_read == 16 * 12
    scans = 54 + 12
    # norms and gains, adds, rope, kv-write, send, maxima, scans, stop tables, the head's choice
    read = 3 * 4 * 8 + 2 * 16 + 12 + 8 + 8 + encoded + scans + scans + 2
    # residuals, results, norms, adds, rope, attention output
    written = (8 + 8) + (16 + 8 + 6 + 8 + 2) + 24 + 16 + 12 + 8 + scans
    assert (counters.vector_bits_read, counters.vector_bits_written) == (32 * read, 32 * written)
    assert counters.sram_bits_read == 32 * read + 2 * 54 + 16 * 12 + 2 * 54 + 16 * 49
    assert counters.sram_bits_written == 32 * written + 2 * 54 + 2 * 54
    assert counters.routing_bits_read == (5 + 5) * (timing.flits + timing.flit_hops)  # 16 routes
    assert counters.dram_bits_read == 128
    assert (counters.flits, counters.flit_hops, counters.cycles) == (timing.flits, timing.flit_hops, timing.cycles_total)
    spike = 2 + 1 + 1 + 1 + 2
    assert counters.flits == spike + (8 + 4 + 3 + 4 + 1) + 2 * 4 + 2 + 1


def test_offsets_of_keys_are_read_and_taken_off() -> None:
    """The same run, but for 2 heads of 8 elements in one of two layers; cycles do not change."""
    weights = random_decoder(4, key_offset=True)
    without = replace(weights, layers=tuple(layer.replaced(key_offset=None) for layer in weights.layers))
    trace = simulate(make_program(weights, SPEC), [4, 8, 15], 1).trace
    programs = [make_program(each, SPEC) for each in (without, weights)]
    plain, counted = (asdict(count(program, trace, simulate_timing(program, trace))) for program in programs)
    differing = {name: counted[name] - plain[name] for name in plain if counted[name] != plain[name]}
    assert differing == {"add_elements": 3 * 16, "vector_bits_read": 32 * 3 * 16}


def test_prefill_and_decode_add_up() -> None:
    program = make_program(random_decoder(4), SPEC)
    result = simulate(program, [4, 8, 15], 4)
    whole = count(program, result.trace, result.timing)
    assert result.decode is not None
    assert (result.prefill.prompt_tokens, result.prefill.decoded_tokens) == (3, 0)
    assert (result.decode.prompt_tokens, result.decode.decoded_tokens) == (0, 3)
    for field in fields(Counters):
        first, second, total = (getattr(c, field.name) for c in (result.prefill, result.decode, whole))
        if isinstance(total, tuple):
            assert total == tuple(a + b for a, b in zip(first, second, strict=True)), field.name
        else:
            assert total == first + second, field.name
    assert whole.flits == result.timing.flits
    assert whole.flit_hops == result.timing.flit_hops
    assert whole.cycles == result.timing.cycles_total
    assert whole.to_json()["site_spikes"] == list(whole.site_spikes)


@pytest.mark.parametrize(("bits", "values"), [(32, 1), (48, 1), (64, 2), (96, 3), (4096, 128)])
def test_flits_follow_their_bits(bits: int, values: int) -> None:
    program = make_program(random_decoder(4), SPEC.with_fields({"noc.flit_bits": bits, "noc.events_per_flit": 2}))
    result = simulate(program, [4, 8, 15], 1)
    assert (result.prefill.flits, result.prefill.flit_hops) == (result.timing.flits, result.timing.flit_hops)
    config, trace, every, last = SMALL_CONFIG, result.trace, 3, 1
    flits = int(sum(max(math.ceil(events / 2), 1) for phases in spikes(trace) for events in phases))
    for region in (region for stage in program.stages for site in stage.regions for region in site):
        head = region.site == config.head.index
        flits += last * math.ceil(2 / values) if head else every * math.ceil(region.outputs / values)
    residuals, credits, tokens = config.layers * every + last, config.layers * every + last, last
    assert result.prefill.flits == flits + residuals * math.ceil(config.hidden_size / values) + credits + tokens


def spikes(trace: ActivityTrace) -> Iterator[list[int]]:
    """Events of every phase of every site that ran."""
    per_phase = trace.events.sum(axis=3)
    for row, site in np.ndindex(*trace.phases.shape):
        yield per_phase[row, site, : trace.phases[row, site]].tolist()


def test_codes_without_a_price_in_every_phase_read_their_dead_zone_once() -> None:
    config, vector_reads = SMALL_CONFIG, []
    for code in ("signed-digit", "first-spike"):
        program = make_program(random_decoder(4, code=code), SPEC)
        result = simulate(program, [4, 8, 15], 1)
        counters, trace = result.prefill, result.trace
        values = sum(config.sites[site].shape[0] * int((trace.phases[:, site] > 0).sum()) for site in range(len(config.sites)))
        scanned = sum(config.sites[site].shape[0] * int(trace.phases[:, site].sum()) for site in range(len(config.sites)))
        queries = config.head_dim * int(trace.query_phases.sum())
        assert counters.encode_elements == scanned + queries
        stops = (scanned if code == "signed-digit" else values) + queries
        vector_reads.append(counters.vector_bits_read // 32 - scanned - queries - stops)
    assert vector_reads[0] == vector_reads[1]  # all else is the same for every code


def test_unwanted_logits_are_not_sent_and_biases_are_read() -> None:
    with_bias = make_program(random_decoder(4, bias=True), SPEC)
    result = simulate(with_bias, [4, 8, 15], 2)
    assert result.decode is not None
    layer_outputs = sum(site.outputs for site in SMALL_CONFIG.sites[:-1])
    assert result.decode.output_parameter_bits_read == 48 * layer_outputs + 16 * SMALL_CONFIG.vocab_size
    # Two of the three prompt tokens stop after the last layer: no residual is sent, received and normalised.
    assert result.prefill.norm_elements == (2 * 2 * 3 + 1) * SMALL_CONFIG.hidden_size
    assert result.prefill.square_roots == 2 * 2 * 3 + 1


def test_no_tokens() -> None:
    program = make_program(random_decoder(4), SPEC)
    result = simulate(program, [4], 1)
    with pytest.raises(SimulationError, match="cannot count the tokens"):
        count(program, result.trace, result.timing, slice(1, None))
