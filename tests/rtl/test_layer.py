"""Layers of SmolLM2-135M in RTL, with their real weights and activations, equal the cycle simulator: tokens, cycles and counters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from layer_script import LAYERS, NEW, PROMPT, compare, embedding_table, layer_network, layer_program, real_weights, text_tokens

from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.simulate.run import simulate

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
    assert program.spec.rows == program.spec.columns == 256


@pytest.mark.parametrize(
    ("largest", "shift"), [(0x7FFF, 0), (0x8000, 1), (-0x8000, 0), (-0x8001, 1), (-0x10001, 1), (-0x10002, 2), (0xFFFE, 1), (0xFFFF, 2)]
)
def test_the_finest_step_that_holds_the_largest_value(largest: int, shift: int) -> None:
    table, found = embedding_table(np.array([[0, largest, 1]], np.int32))
    assert found == shift
    assert abs((int(table[0, 1]) << found) - largest) <= 1 << found >> 1


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
