"""Membranes that decay: stamped trains, equal in every engine, what they take, and networks and chips that do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from parity import tokens_of, with_membranes

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.parameter import FieldError
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.devices.decay import STEPS, MembraneDecay
from neuromorphic_llm.devices.membrane import Membrane
from neuromorphic_llm.errors import CompileError, ConversionError
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.config import CodeConfig
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.simulation.counters import count
from neuromorphic_llm.simulation.events import EventDecoder
from neuromorphic_llm.simulation.timing import simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace
from neuromorphic_llm.spikes.first_spike_log import WEIGHTS, FirstSpikeLog

CHIP = load_spec("nano2").with_fields(
    {"synapse.rows": 16, "readout.kind": "membrane-decay", "readout.active_rows": 4, "readout.converter_bits": 6, "readout.read_latency": 3}
)
CIRCUIT = MembraneDecay(rows=16, active_rows=4, converter_bits=6)


def network(steps: int = 8, phases: int = 8, seed: int = 3) -> DecoderWeights:
    """Random decoder of the code for membranes that decay, with random ranges."""
    coded = replace(random_decoder(seed, bias=True), code=CodeConfig("first-spike-log", phases, 6, 8, {"steps": steps}))
    return with_membranes(coded, replace(CIRCUIT, steps=steps))


def traced(weights: DecoderWeights, tokens: list[int]) -> tuple[Program, ActivityTrace, EventDecoder]:
    """Program, trace and recorded decoder of some tokens."""
    program = compile_network(weights, CHIP.with_fields({"readout.steps": weights.code.parameters["steps"]}))
    decoder = EventDecoder(program, record=True)
    for token in tokens:
        decoder.step(token)
    return program, decoder.trace(2), decoder


def test_a_step_for_every_table_of_weights() -> None:
    assert tuple(WEIGHTS) == STEPS


@pytest.mark.parametrize(("steps", "phases"), [(8, 8), (4, 9), (3, 5), (2, 10), (1, 13)])
def test_every_engine_is_equal(steps: int, phases: int) -> None:
    """Levels, exponents, accumulators, repeated conversions and logits of the event simulation are the reference's."""
    weights, tokens = network(steps, phases), tokens_of(SMALL_CONFIG, 10)
    reference = IntegerDecoder(weights)
    cache = reference.new_cache()
    steps_of = [reference.step([token], cache, full=True) for token in tokens]
    _, trace, decoder = traced(weights, tokens)
    assert decoder.records is not None
    code = weights.code.spike_code()
    assert isinstance(code, FirstSpikeLog)
    for row, (record, expected) in enumerate(zip(decoder.records, steps_of, strict=True)):
        for site, (ours, theirs) in enumerate(zip(record.sites, expected.record.sites, strict=True)):
            assert theirs.train is not None and theirs.accumulators is not None and theirs.repeats is not None
            assert np.array_equal(ours.digits, theirs.train.digits[:, 0])
            assert ours.exponent == theirs.train.exponent[0]
            assert np.array_equal(ours.accumulators, theirs.accumulators[0])
            assert trace.repeats[row, site] == theirs.repeats[0]
            pulses = code.slot_pulses(theirs.train.digits[:, 0])
            blocks = np.add.reduceat(np.abs(pulses), range(0, pulses.shape[1], CIRCUIT.rows), axis=1)
            assert np.array_equal(trace.events[row, site, : len(pulses), : blocks.shape[1]], blocks)
    assert (trace.phases == 1).all()
    assert trace.repeats.sum() > 0
    functional = FunctionalDecoder(weights).forward(torch.tensor([tokens]))
    assert isinstance(functional, torch.Tensor)
    assert np.array_equal(functional[0].numpy(), np.concatenate([step.logits for step in steps_of]))


@pytest.mark.parametrize("steps", STEPS)
def test_decays_make_every_pulse_its_level(steps: int) -> None:
    """The charge of a pulse decays, slot by slot, by the ratio of neighbouring weights, to its level over the weight of the last slot."""
    levels = FirstSpikeLog(5, steps=steps).levels
    for slot, level in enumerate(levels):
        charge = 1.0
        for below, above in zip(levels[slot:], levels[slot + 1 :], strict=False):
            charge *= below / above
        assert charge * levels[-1] == pytest.approx(level)


def test_work_of_a_train() -> None:
    """Two row blocks, slots 0 .. 7: events in 2 (of both) and 5; and a train without any."""
    events = np.zeros((2, 1, 8, 2), np.int64)
    events[0, 0, 2], events[0, 0, 5] = (9, 1), (0, 4)
    assert CIRCUIT.decays(events).tolist() == [2 * 2 * 5]
    assert CIRCUIT.integrations(events).tolist() == [2 * (3 + 1 + 1)]
    assert CIRCUIT.conversions(events).tolist() == [2]
    assert CIRCUIT.train_cycles(events, 5, 10).tolist() == [[1 + 5 + 5 * (3 + 1) + 10 * 4], [1]]
    assert CIRCUIT.capacitors == 2 == Membrane().capacitors // 2


def test_counters_are_those_of_the_trace() -> None:
    program, trace, _ = traced(network(), tokens_of(SMALL_CONFIG, 6))
    timing = simulate_timing(program, trace)
    counters = count(program, trace, timing)
    decays = integrations = matches = drives = axon = flits = 0
    for stage in program.stages:
        for site, regions in zip(stage.sites, stage.regions, strict=True):
            inputs = program.weights.config.sites[site].inputs
            for token in range(trace.tokens):
                train = trace.events[token, site]
                occupied = np.flatnonzero(train.sum(axis=1))
                blocks = int((train.sum(axis=0) > 0).sum())
                flits += max(-(-int(train.sum()) // 3), 1)
                for region in regions:
                    columns = region.columns
                    decays += 2 * columns * blocks * (63 - int(occupied[0]) if len(occupied) else 0)
                    integrations += 2 * columns * int((-(-train // 4)).sum())
                    matches += inputs * len(occupied)
                    axon += 8 * inputs
                    drives += 2 * -(-columns // 64) * int(train.sum())
    assert (counters.decays, counters.integrations, counters.slot_matches) == (decays, integrations, matches)
    assert (counters.row_drives, counters.axon_bits_read, counters.halvings) == (drives, axon, 0)
    elements = trace.tokens * sum(site.inputs for site in program.weights.config.sites)
    assert counters.event_bank_bits_written == 8 * elements
    assert timing.flits == counters.flits
    assert counters.flits > flits


def test_a_network_is_converted_for_the_chip() -> None:
    spec = load_spec("nano2").with_fields({"readout.kind": "membrane-decay", "readout.steps": 4})
    own = spec.readout_circuit.to_json()
    name, parameters = own.pop("name"), tuple(own.items())
    options = ConvertConfig(
        spikes=0.5, code="first-spike-log", phases=8, code_parameters=(("steps", 4),), readout=name, readout_parameters=parameters
    )
    weights = convert(load_checkpoint("random-tiny"), options, [list(range(3, 35))]).weights
    program = compile_network(weights, spec)
    assert program.report["sram_bytes_by_use"]["event_banks"] == sum(
        max(weights.config.sites[site].inputs for site in stage.sites) for stage in program.stages
    )
    message = r"takes the code first-spike-log with steps=4 and no other parameter, not {}; convert with --code .* --code-option steps=4"
    with pytest.raises(ConversionError, match=message.format(r"signed-digit \(\)")):
        convert(load_checkpoint("random-tiny"), ConvertConfig(spikes=0.5, readout=name, readout_parameters=parameters), [[1, 2, 3]])
    signed = replace(options, code_parameters=(("steps", 4), ("signed", False)))
    with pytest.raises(ConversionError, match=message.format(r"first-spike-log \(signed=False, steps=4\)")):
        convert(load_checkpoint("random-tiny"), signed, [[1, 2, 3]])


def test_what_does_not_fit_is_refused() -> None:
    weights = network()
    with pytest.raises(
        CompileError, match=r"for membranes that decay, and chip nano2 has membrane; convert and compile for a chip with readout.kind"
    ):
        compile_network(weights, load_spec("nano2"))
    with pytest.raises(CompileError, match=r"chip nano2: the readout membrane-decay with steps 2 takes .* not first-spike-log \(steps=8\)"):
        compile_network(weights, CHIP.with_fields({"readout.steps": 2}))
    with pytest.raises(CompileError, match=r"chip nano2: the readout membrane-decay with steps 8 takes .* not signed-digit \(\)"):
        compile_network(with_membranes(random_decoder(3), CIRCUIT), CHIP)
    with pytest.raises(CompileError, match=r"code has 72 time slots, an event tells 64 apart; convert with at most 8 phases"):
        compile_network(replace(weights, code=replace(weights.code, phases=9)), CHIP)
    with pytest.raises(CompileError, match=r"for the readout membrane-decay \(.*, chip nano2 has membrane-decay \("):
        compile_network(weights, CHIP.with_fields({"readout.converter_bits": 7}))
    with pytest.raises(FieldError, match=r"steps must be one of 1, 2, 3, 4, 8, not 5"):
        CHIP.with_fields({"readout.steps": 5})
    with pytest.raises(FieldError, match=r"readout 'membrane' has no parameter 'steps'"):
        load_spec("nano2").with_fields({"readout.steps": 8})
