"""Parts of a graph that an engine for plain Llama decoders has not, by names for users."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from neuromorphic_llm.graph.ir import Graph, Node

ACTIVATIONS = ("silu",)
"""Activation functions of gates that such engines have."""

_OPERATIONS = {
    "activate": "a feed-forward without a gate",
    "soft_cap": "soft caps of logits",
    "positions": "learned positions",
}
"""Operations of other decoders -> their name for a user."""


def other_parts(graph: Graph, executed: Collection[str]) -> list[str]:
    """Parts of a graph beyond those of Llama, and operations that are not among the executed ones, each once."""
    defined, residual = graph.by_name(), ""
    found: dict[str, None] = {}
    for node in graph.nodes:
        found |= dict.fromkeys(_other_parts(node, defined, residual, executed))
        if node.operation in ("add", "shift", "embedding"):
            residual = node.name
    return list(found)


def _other_parts(node: Node, defined: dict[str, Node], residual: str, executed: Collection[str]) -> Iterator[str]:
    """Parts of one node; `residual` is the residual stream in front of it."""
    if node.operation in _OPERATIONS:
        yield _OPERATIONS[node.operation]
    elif node.operation not in executed:
        yield f"the operation {node.operation}"
    activation = node.attributes.get("activation", ACTIVATIONS[0])
    if activation not in ACTIVATIONS:
        yield f"the activation {activation}"
    if "cap" in node.attributes and node.operation == "attention":
        yield "soft caps of scores"
    if "table" in node.attributes:
        yield "rotary tables of their own for layers with a window"
    if node.operation == "normalise" and "channels" in node.attributes:
        yield "norms of queries and keys"
    elif node.operation == "normalise" and node.operands[0] != residual:
        branch = defined[node.operands[0]].operation in ("scale", "bias")
        yield "norms after attention and feed-forward" if branch else "a parallel residual stream"
