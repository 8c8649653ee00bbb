"""A readout defined outside the package: 6-bit converters that saturate. Everything but the class follows from its definition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.program_io import load_program, save_program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.devices.cells import Array
from neuromorphic_llm.devices.readout import READOUTS, ConvertedReads, Drive, get_readout
from neuromorphic_llm.energy.account import account
from neuromorphic_llm.energy.memories import chip_memories
from neuromorphic_llm.errors import ArtefactError, CompileError, ConversionError, SimulationError, UsageError
from neuromorphic_llm.interchange.sayable import check_sayable
from neuromorphic_llm.interchange.torch_view import TorchView
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.format import decoder_weights, network_version, scalar_metadata, weight_arrays
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.rtl.package import package_text
from neuromorphic_llm.simulation.counters import count
from neuromorphic_llm.simulation.events import EventDecoder
from neuromorphic_llm.simulation.run import simulate
from neuromorphic_llm.simulation.timing import simulate_timing


class Saturating(ConvertedReads):
    """Converters that saturate."""

    name: ClassVar[str] = "saturating"

    def convert(self, sums: Array) -> Array:
        limit = 1 << self.converter_bits - 1
        return sums.clip(-limit, limit - 1)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with READOUTS.temporary("saturating", Saturating):
        yield


EXACT = load_spec("nano")
CHIP = {"readout.kind": "saturating", "readout.converter_bits": 6}
SIZES = {"rows": 64, "active_rows": 16, "cell_bits": 4, "slices": 2, "converter_bits": 6}
"""Sizes of the chip nano with converters of 6 bits."""


def saturating(weights: DecoderWeights) -> DecoderWeights:
    return replace(weights, readout=get_readout("saturating", **SIZES))


def compiled(code: str = "signed-digit", **random: bool) -> Program:
    return compile_network(saturating(random_decoder(5, code=code, **random)), EXACT.with_fields(CHIP), seed=5)


@pytest.mark.parametrize("code", ["signed-digit", "rate", "first-spike", "bit-planes"])
def test_reference_functional_and_event_simulation_are_equal(code: str) -> None:
    program, tokens = compiled(code, bias=True), [1, 2, 3, 60, 5]
    reference = IntegerDecoder(program.weights)
    expected = reference.step(tokens, reference.new_cache(), full=True)
    assert (expected.logits != IntegerDecoder(random_decoder(5, code=code, bias=True)).forward(tokens)).any()
    logits = FunctionalDecoder(program.weights).forward(torch.tensor([tokens]))
    assert isinstance(logits, torch.Tensor)
    np.testing.assert_array_equal(logits[0].numpy(), expected.logits)
    decoder = EventDecoder(program, record=True)
    for position, token in enumerate(tokens):
        np.testing.assert_array_equal(decoder.step(token), expected.logits[position])
    assert decoder.records is not None
    for position, record in enumerate(decoder.records):
        for site, wanted in zip(record.sites, expected.record.sites, strict=True):
            assert wanted.accumulators is not None
            np.testing.assert_array_equal(site.accumulators, wanted.accumulators[position])


def test_sums_of_reads_saturate() -> None:
    """One column in hand: 40 rows of one block spike at once, in reads of 16, 16 and 8 rows."""
    readout = get_readout("saturating", **SIZES)
    digits, weights = np.ones((1, 1, 40), np.int8), np.full((40, 1), 0x12, np.int8)
    low, high = 31 + 31 + 8 * 2, 16 + 16 + 8
    assert readout.accumulate(digits, readout.cell.levels(weights), Drive(np.array([len(digits)]), 1), np).accumulators.tolist() == [
        [low + 16 * high]
    ]


def test_a_checkpoint_is_converted_evaluated_saved_compiled_and_simulated(tmp_path: Path) -> None:
    checkpoint = load_checkpoint("random-tiny")
    windows = [list(range(3, 35)), list(range(40, 72))]
    options = ConvertConfig(spikes=0.8, readout="saturating", readout_parameters=tuple(SIZES.items()))
    network = convert(checkpoint, options, windows)
    assert network.weights == saturating(network.weights)
    assert network.provenance["options"]["readout"] == "saturating"
    network.save(tmp_path / "network")
    loaded = SpikingNetwork.load(tmp_path / "network")
    assert loaded.weights.readout == network.weights.readout
    prompt = windows[0][:6]
    expected = IntegerDecoder(loaded.weights).generate_greedy(prompt, 4)
    assert loaded.functional().generate([prompt], 4, eos_token_ids=())[0] == expected
    save_program(compile_network(loaded, EXACT.with_fields(CHIP)), tmp_path / "program")
    result = simulate(load_program(tmp_path / "program"), prompt, 4, stop=())
    assert list(result.token_ids) == expected


def test_reads_are_timed_counted_and_paid_for() -> None:
    """Reads take what exact ones take; a conversion of 6 bits costs less than one of 9."""
    program, weights = compiled(), random_decoder(5)
    trace = simulate(program, [1, 2, 3], 4, stop=()).trace
    exact = compile_network(weights, EXACT, seed=5)
    timing = simulate_timing(program, trace)
    counts = count(program, trace, timing)
    assert (timing.token_end_cycle == simulate_timing(exact, trace).token_end_cycle).all()
    assert counts == count(exact, trace, simulate_timing(exact, trace))
    reads = -(-trace.events.astype(np.int64) // SIZES["active_rows"])
    outputs = np.array([site.shape[1] for site in weights.config.sites])
    assert counts.conversions == 2 * int((reads.sum(axis=(0, 2, 3)) * outputs).sum())
    assert (program.spec.converter_bits, EXACT.converter_bits) == (6, 9)
    parts = [account(counts, each.spec, chip_memories(each), 1.0).parts for each in (program, exact)]
    assert parts[0]["converters"].nominal < parts[1]["converters"].nominal
    assert parts[0]["cells"] == parts[1]["cells"]


def test_a_chip_with_another_readout_is_refused(tmp_path: Path) -> None:
    weights = random_decoder(5)
    message = r"for the readout saturating \(rows 64, .*\), chip nano has exact \(.*\); compile for a chip with that readout, or convert"
    with pytest.raises(CompileError, match=message):
        compile_network(saturating(weights), EXACT)
    with pytest.raises(CompileError, match=r"for the readout exact .*, chip nano has saturating"):
        compile_network(weights, EXACT.with_fields(CHIP))
    for other in ({"readout.converter_bits": 7}, {"readout.active_rows": 8}, {"synapse.rows": 32}):
        with pytest.raises(CompileError, match="chip nano has saturating"):
            compile_network(saturating(weights), EXACT.with_fields(CHIP | other))
    save_program(replace(compiled(), spec=EXACT), tmp_path / "program")
    with pytest.raises(ArtefactError, match=r"for the readout saturating .*, chip nano has exact .*; compile the network again"):
        load_program(tmp_path / "program")


def test_engines_without_the_readout_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(
        SimulationError, match="the RTL has no readout 'saturating', only 'exact', 'reread', 'membrane' and 'membrane-decay'"
    ):
        package_text(EXACT.with_fields(CHIP))
    weights = saturating(random_decoder(5))
    with pytest.raises(ConversionError, match=r"NIR cannot say layers.0.qkv read out by 'saturating'"):
        check_sayable(weights, 0)
    with pytest.raises(ConversionError, match="products are exact and the network is for the readout 'saturating'"):
        TorchView(weights)


def test_an_accumulator_beyond_32_bits_is_no_result() -> None:
    class Loud(Saturating):
        name: ClassVar[str] = "loud"

        def convert(self, sums: Array) -> Array:
            return sums * (1 << 24)

    weights = replace(random_decoder(5), readout=Loud(**SIZES))
    with pytest.raises(SimulationError, match=r"an accumulator of layers.0.qkv exceeds 32 bits"):
        IntegerDecoder(weights).forward([1])
    with pytest.raises(SimulationError, match=r"an accumulator of layers.0.qkv exceeds 32 bits"):
        EventDecoder(replace(compiled(), weights=weights)).step(1)


def test_a_network_says_its_readout_only_if_it_is_not_exact(tmp_path: Path) -> None:
    weights = random_decoder(5)
    assert "readout" not in scalar_metadata(weights, "all")
    metadata = scalar_metadata(saturating(weights), "all")
    assert metadata["readout"] == {"name": "saturating", **SIZES}
    assert (network_version(weights), network_version(saturating(weights))) == (1, 4)
    arrays = weight_arrays(weights)
    for damaged in ("saturating", {"name": "saturated"}, {"name": "saturating", "row": 3}, {"rows": 64}, {"name": ["x"]}):
        with pytest.raises(ArtefactError, match="write the artefact again"):
            decoder_weights({**metadata, "readout": damaged}, arrays, source="here")


def test_a_conversion_for_an_unknown_readout_does_not_begin() -> None:
    with pytest.raises(UsageError, match=r"unknown readout 'saturated'; did you mean 'saturating'\?"):
        convert(load_checkpoint("random-tiny"), ConvertConfig(readout="saturated"), [[1, 2]])
