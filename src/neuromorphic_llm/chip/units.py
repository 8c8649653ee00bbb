"""Units of the chip: which operations of a graph it executes (docs/reference/compiler.md)."""

from __future__ import annotations

from collections.abc import Iterator

from neuromorphic_llm.chip.instructions import kinds_by_operation
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.graph.ir import Graph, Node
from neuromorphic_llm.reference.weights import DecoderWeights

ACTIVATIONS = ("silu",)
"""Activation functions of the gate in the output stages of synapse tiles."""

_OPERATIONS = {
    "activate": "a feed-forward without a gate",
    "soft_cap": "soft caps of logits",
    "positions": "learned positions",
}
"""Operations that no unit executes -> their name for a user."""

_FUSED = {"token", "embedding", "shift", "normalise", "gain", "matmul", "scale", "bias", "slice", "gate", "argmax"}
"""Operations of the host and of synapse tiles, and steps that become one instruction together (fusion.py)."""


def missing_units(graph: Graph) -> list[str]:
    """Operations of a network that the chip has no unit for, each once."""
    defined, residual = graph.by_name(), ""
    found: dict[str, None] = {}
    executed = _FUSED | set(kinds_by_operation())
    for node in graph.nodes:
        found |= dict.fromkeys(_missing(node, defined, residual, executed))
        if node.operation in ("add", "shift", "embedding"):
            residual = node.name
    return list(found)


def _missing(node: Node, defined: dict[str, Node], residual: str, executed: set[str]) -> Iterator[str]:
    """Needs of one node; `residual` is what the tile's residual memory holds in front of it."""
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


def other_readout(weights: DecoderWeights, spec: ChipSpec) -> str | None:
    """Difference between the readouts of a network and a chip; None if the chip computes what the network is defined by.

    An exact readout computes the same whatever its sizes are.
    """
    needed, found = weights.readout, spec.readout_circuit
    if needed == found or (needed.exact and found.exact):
        return None
    return f"the network is for the readout {needed.described()}, chip {spec.name} has {found.described()}"
