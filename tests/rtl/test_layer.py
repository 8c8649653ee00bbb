"""Layers of SmolLM2-135M in RTL, with their real weights and activations, equal the cycle simulator: tokens, cycles and counters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from layer_script import LAYERS, NEW, PROMPT, compare, embedding_table, layer_chip, layer_network, layer_program, real_weights, text_tokens

from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.rtl.loader import load_writes, request_writes
from neuromorphic_llm.simulation.run import simulate

TOKENS = [5, 60, 0, 17, 17, 33, 2, 9, 42]


def test_a_network_of_one_layer_is_its_own_layer() -> None:
    """Nothing is rounded, so logits and residual stream are those of the network, token by token of the text."""
    weights = random_decoder(3, config=replace(SMALL_CONFIG, layers=1), bias=True)
    network = layer_network(weights, 0, TOKENS)
    logits, after = FunctionalDecoder(network.weights).forward(torch.arange(len(TOKENS))[None], return_hidden=True)
    assert np.array_equal(after[0, 0].numpy(), network.leaving)
    assert np.array_equal(logits[0].numpy(), network.logits)


def test_a_layer_gets_what_enters_it() -> None:
    weights = random_decoder(3)
    network = layer_network(weights, 1, TOKENS)
    _, after = FunctionalDecoder(weights).forward(torch.tensor([TOKENS]), return_hidden=True)
    assert np.array_equal(network.entering, after[0, 0].numpy())
    assert np.array_equal(network.leaving, after[1, 0].numpy())
    shift = network.weights.formats.embedding_shift
    rounded = network.weights.embedding.astype(np.int64) << shift
    assert shift > 0
    assert np.abs(rounded - network.entering).max() == 1 << shift >> 1
    assert network.weights.layers == (weights.layers[1],)


def test_its_program_simulates_as_the_network() -> None:
    network = layer_network(random_decoder(4), 1, TOKENS)
    program = layer_program(network, "engines")
    assert list(simulate(program, [0, 1, 2, 3], 4).token_ids) == FunctionalDecoder(network.weights).generate([[0, 1, 2, 3]], 4)[0]
    assert program.spec.synapse.rows == program.spec.synapse.columns == 256


@pytest.mark.parametrize(
    ("largest", "shift"), [(0x7FFF, 0), (0x8000, 1), (-0x8000, 0), (-0x8001, 1), (-0x10001, 1), (-0x10002, 2), (0xFFFE, 1), (0xFFFF, 2)]
)
def test_the_finest_step_that_holds_the_largest_value(largest: int, shift: int) -> None:
    table, found = embedding_table(np.array([[0, largest, 1]], np.int32))
    assert found == shift
    assert abs((int(table[0, 1]) << found) - largest) <= 1 << found >> 1


@pytest.mark.parametrize(
    ("spec", "config", "message"),
    [
        ({"vector.memory_bytes": 6144}, {"hidden_size": 129}, "has room for 8 words of a residual buffer, the program needs 9; raise"),
        ({"vector.memory_bytes": 4096}, {"intermediate_size": 257}, "has room for 16 words of work memory, the program needs 17; raise"),
        (
            {"vector.memory_bytes": 4096},
            {"hidden_size": 66, "intermediate_size": 176},
            "for 32 words of gains, stop prices and key offsets, the program needs 33",
        ),
        (
            {"noc.flit_bits": 128},
            {},
            "has flits of 64 bits, chip nc1-layer-engines of 128; simulate its cycles, or set noc.flit_bits to 64",
        ),
        ({}, {"heads": 66, "kv_heads": 33, "head_dim": 2}, "has room for 32 key/value heads, the program needs 33; use"),
        (
            {"vector.lanes": 2, "vector.kv_bytes_per_engine": 4096},
            {"max_positions": 140},
            "for 256 words of rotary table, the program needs 280",
        ),
    ],
)
def test_what_the_rtl_has_no_room_for(spec: dict[str, int], config: dict[str, int], message: str) -> None:
    """The compiler counts a vector memory as one and accepts these; the RTL's parts of it are too small."""
    weights = random_decoder(1, config=replace(SMALL_CONFIG, **{"layers": 1, **config}))
    program = compile_network(weights, layer_chip("engines").with_fields(spec))
    with pytest.raises(SimulationError, match=message):
        load_writes(program)


def test_requests_beyond_the_host_tile() -> None:
    weights = random_decoder(1, config=replace(SMALL_CONFIG, layers=1))
    program = compile_network(weights, layer_chip("engines"))
    with pytest.raises(SimulationError, match="holds 8,192 prompt tokens, got 8,193; use shorter prompts or fewer of them"):
        request_writes(program, [range(4096), range(4097)], 1, ())
    with pytest.raises(SimulationError, match="the RTL has 64 sequences in flight at most, got 65; run fewer"):
        request_writes(program, [[1]] * 65, 1, ())
    with pytest.raises(SimulationError, match="compares with at most 4 end tokens, got 5; name fewer"):
        request_writes(program, [[1]], 1, range(5))


@pytest.fixture(scope="module")
def weights(smollm2: Checkpoint) -> DecoderWeights:
    return real_weights(smollm2)


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize(("number", "chip"), [*((number, "engines") for number in LAYERS), (11, "lanes")])
def test_a_real_layer(smollm2: Checkpoint, weights: DecoderWeights, number: int, chip: str) -> None:
    program = layer_program(layer_network(weights, number, text_tokens(smollm2)), chip)
    result = compare(program, range(PROMPT), NEW)
    assert result.differences == ()
    assert len(result.token_ids) == NEW
    assert result.counters == 2 * 43
