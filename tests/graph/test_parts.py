"""Parts of graphs that engines for plain Llama decoders have not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from parity import FAMILIES

from neuromorphic_llm.graph.parts import other_parts
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder


@pytest.mark.parametrize(
    ("family", "parts"),
    [
        ("mistral", []),
        ("qwen3", ["norms of queries and keys"]),
        (
            "gemma2",
            ["soft caps of scores", "norms after attention and feed-forward", "the activation gelu-tanh", "soft caps of logits"],
        ),
        (
            "gemma3",
            [
                "norms of queries and keys",
                "rotary tables of their own for layers with a window",
                "norms after attention and feed-forward",
                "the activation gelu-tanh",
            ],
        ),
        ("gpt2", ["learned positions", "a feed-forward without a gate", "the activation gelu-tanh"]),
        ("opt", ["learned positions", "a feed-forward without a gate", "the activation relu"]),
        ("gptneox", ["a parallel residual stream", "a feed-forward without a gate", "the activation gelu"]),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_every_family(family: str, parts: list[str], bias: bool) -> None:
    graph = build_graph(random_decoder(0, config=FAMILIES[family], bias=bias))
    assert other_parts(graph, {node.operation for node in graph.nodes}) == parts


def test_operations_that_are_not_executed() -> None:
    graph = build_graph(random_decoder(0, config=replace(SMALL_CONFIG, layers=2)))
    executed = {node.operation for node in graph.nodes} - {"rope", "add"}
    assert other_parts(graph, executed) == ["the operation rope", "the operation add"]
