"""The graph's interpretation is the decoder written by hand, for every family and after every pass of the compiler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from parity import FAMILIES
from written_decoder import WrittenDecoder

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.pipeline import default_pipeline, run_passes
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.graph.ir import Graph
from neuromorphic_llm.reference.build import build_graph, outline
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.interpreter import OPERATIONS, operation
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights

TOKENS = [3, 14, 15, 60, 2, 3, 58, 9, 7, 9]


def check(weights: DecoderWeights, graph: Graph | None = None) -> None:
    """Logits, residual streams and accumulators, of the sequence at once and cut in two, are those of the hand-written order."""
    written, decoder = WrittenDecoder(weights), IntegerDecoder(weights, graph)
    expected = written.forward(TOKENS)
    cache = decoder.new_cache()
    parts = [decoder.step(tokens, cache, full=True) for tokens in (TOKENS[:4], TOKENS[4:])]
    assert np.array_equal(np.concatenate([part.logits for part in parts]), expected)
    for number, hidden in enumerate(written.hidden):
        assert np.array_equal(np.concatenate([part.record.hidden[number] for part in parts]), hidden)
    for number, accumulators in enumerate(written.accumulators):
        assert np.array_equal(np.concatenate([part.record.sites[number].accumulators for part in parts]), accumulators)
    last = decoder.step(TOKENS, decoder.new_cache(), all_logits=False)
    assert np.array_equal(last.logits, expected[-1:])


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("parts", ["all", "feed-forward"])
def test_every_family(family: str, parts: str) -> None:
    check(random_decoder(7, config=FAMILIES[family], bias=True, parts=parts))


@pytest.mark.parametrize("code", ["signed-digit", "rate", "first-spike", "bit-planes", "burst"])
def test_codes_and_key_offsets(code: str) -> None:
    check(random_decoder(5, code=code, key_offset=True, bias=code == "rate"))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("passes", range(len(default_pipeline()) + 1))
def test_after_every_pass(passes: int, bias: bool) -> None:
    weights = random_decoder(3, bias=bias, key_offset=bias)
    module = run_passes(Module(build_graph(weights), weights, load_spec("nano")), default_pipeline()[:passes])
    check(weights, module.graph)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_outline_has_the_graph_of_its_weights(family: str) -> None:
    config = FAMILIES[family]
    ours, theirs = build_graph(outline(config)), build_graph(random_decoder(0, config=config))
    assert [(node.name, node.operation) for node in ours.nodes] == [(node.name, node.operation) for node in theirs.nodes]


def test_an_operation_without_a_meaning() -> None:
    weights = random_decoder(0, config=replace(SMALL_CONFIG, layers=1))
    graph = build_graph(weights)
    nodes = [replace(node, operation="turn") if node.operation == "rope" else node for node in graph.nodes]
    with pytest.raises(SimulationError, match=r"%layers\.0\.q\.rotated = turn has no meaning in the reference"):
        IntegerDecoder(weights, graph.with_nodes(nodes)).forward([1])
    with pytest.raises(UsageError, match="meaning of the operation 'rope' is registered already"):
        operation("rope")(check)


def test_a_meaning_is_registered_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, object]] = []
    monkeypatch.setattr(OPERATIONS, "register", lambda name, function: seen.append((name, function)))
    assert operation("turn")(check) is check
    assert seen == [("turn", check)]
