"""Decoders of other families than Llama: what runs on the chip, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from parity import FAMILIES, tokens_of

from neuromorphic_llm import artefact
from neuromorphic_llm.chip.instructions import KvWrite
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program_io import FORMAT, VERSION, load_program, save_program
from neuromorphic_llm.compiler.legalise import Legalise
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.errors import ArtefactError, CompileError, SimulationError
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.rotary import rotary_frequencies, tables_of
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.simulation.events import EventDecoder

NANO = load_spec("nano")


@pytest.mark.parametrize(
    ("family", "parts"),
    [
        ("qwen3", "norms of queries and keys"),
        ("gemma2", "soft caps of scores and norms after attention and feed-forward and the activation gelu-tanh and soft caps of logits"),
        (
            "gemma3",
            "norms of queries and keys and rotary tables of their own for layers with a window and norms after .*gelu-tanh",
        ),
        ("gpt2", "learned positions and a feed-forward without a gate and the activation gelu-tanh"),
        ("opt", "learned positions and a feed-forward without a gate and the activation relu"),
        ("gptneox", "a parallel residual stream and a feed-forward without a gate and the activation gelu"),
    ],
)
def test_what_the_chip_has_no_unit_for(family: str, parts: str) -> None:
    weights = random_decoder(0, config=FAMILIES[family])
    with pytest.raises(CompileError, match=f"the chip has no unit for .*{parts}; run this network in the functional simulation"):
        compile_network(weights, NANO)
    with pytest.raises(CompileError, match=parts):
        Legalise().apply(Module(build_graph(weights), weights, NANO))


def check_tokens(weights: DecoderWeights, count: int) -> EventDecoder:
    """Event simulation and reference agree on every logit; the decoder afterwards."""
    tokens = tokens_of(weights.config, count)
    decoder = EventDecoder(compile_network(weights, NANO), threads=1)
    logits = [decoder.step(token) for token in tokens]
    assert np.array_equal(np.stack([row for row in logits if row is not None]), IntegerDecoder(weights).forward(tokens))
    return decoder


def test_a_context_ends_at_the_shortest_window() -> None:
    weights = random_decoder(1, config=replace(SMALL_CONFIG, windows=(0, 6)))
    decoder = check_tokens(weights, 6)
    assert decoder.program.max_context == 6
    with pytest.raises(SimulationError, match="the context of 6 tokens is full"):
        decoder.step(0)


def test_biases_of_every_site_and_scaled_rotary_tables() -> None:
    weights = random_decoder(2, bias=True)
    rng = np.random.default_rng(0)
    head = replace(weights.head, bias=rng.integers(-(1 << 16), 1 << 16, weights.config.vocab_size).astype(np.int32))
    # Half of the pairs turned, slower than usual and by a matrix that is no rotation any more (yarn).
    frequencies = rotary_frequencies(8, 1e4) / 4.0 * (np.arange(4) < 2)
    cos, sin = tables_of(frequencies, weights.config.max_positions, 1.25)
    check_tokens(replace(weights, head=head, rope_cos=cos, rope_sin=sin), 12)


def test_offsets_of_keys() -> None:
    plain, weights = (random_decoder(2, bias=True, key_offset=offset) for offset in (False, True))
    program = check_tokens(weights, 12).program
    assert [str(each) for stage in program.stages for each in stage.program if isinstance(each, KvWrite)] == [
        "kv-write 32 offset",
        "kv-write 32",
    ]
    bytes_of = [compile_network(each, NANO).report["sram_bytes_by_use"]["vector_memory"] for each in (plain, weights)]
    assert bytes_of[1] - bytes_of[0] == 4 * 2 * 8


def forge(folder: Path, **changes: object) -> Path:
    """The program with other entries of its configuration and a right hash."""
    metadata, arrays = artefact.load_artefact(folder, format_name=FORMAT, version=VERSION)
    for key in ("format", "version", "files", "content_hash"):
        del metadata[key]
    metadata["config"] |= changes
    artefact.save_artefact(folder, format_name=FORMAT, version=VERSION, metadata=metadata, arrays=arrays)
    return folder


def test_programs_keep_their_windows_and_nothing_that_the_chip_lacks(tmp_path: Path) -> None:
    program = compile_network(random_decoder(1, config=replace(SMALL_CONFIG, windows=(9, 20))), NANO)
    save_program(program, tmp_path / "program")
    assert load_program(tmp_path / "program").weights.config.windows == (9, 20)
    with pytest.raises(ArtefactError, match=r"max_context is 9, expected an integer in 1\.\.8; compile the network again"):
        load_program(forge(tmp_path / "program", windows=[9, 8]))
    with pytest.raises(ArtefactError, match="chip nano has no unit for a parallel residual stream and soft caps of logits; compile"):
        load_program(forge(tmp_path / "program", parallel_residual=True, logit_softcap=30.0))
