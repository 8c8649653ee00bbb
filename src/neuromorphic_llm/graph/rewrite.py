"""Rewriting of graphs: chains of nodes that become one (the compiler's fold, the functional simulation's plan)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.graph.ir import AttributeValue, Graph, Node


def single_use_chains(graph: Graph, *operations: str) -> list[list[Node]]:
    """Chains of nodes with these operations in which each value has only the next node as user."""
    users = graph.users()
    chains = []
    for node in graph.nodes:
        chain = [node]
        while len(chain) < len(operations) and chain[-1].name != graph.result and len(users[chain[-1].name]) == 1:
            chain.append(users[chain[-1].name][0])
        if tuple(link.operation for link in chain) == operations:
            chains.append(chain)
    return chains


def fused(graph: Graph, chains: list[list[Node]], operation: str | None, attributes: list[dict[str, AttributeValue]]) -> Graph:
    """Replace each chain by one node that keeps the last name and type; `operation` None keeps the first node's."""
    new: dict[str, Node | None] = {}
    for chain, added in zip(chains, attributes, strict=True):
        for node in chain[:-1]:
            new[node.name] = None
        first, last = chain[0], chain[-1]
        new[last.name] = Node(last.name, last.type, operation or first.operation, first.operands, added, last.stage)
    return replaced(graph, new)


def replaced(graph: Graph, new: Mapping[str, Node | None]) -> Graph:
    """The graph with other nodes in the place of those that define these values; None takes one away."""
    nodes = [new.get(node.name, node) for node in graph.nodes]
    return graph.with_nodes([node for node in nodes if node is not None])


def fuse_norms(graph: Graph, *, grouped: bool = False) -> Graph:
    """Normalisation and gains as one `norm`; with `grouped` also where parts of a vector are normalised apart."""
    chains = [chain for chain in single_use_chains(graph, "normalise", "gain") if grouped or "channels" not in chain[0].attributes]
    return fused(graph, chains, "norm", [{**first.attributes, **gain.attributes} for first, gain in chains])


def fuse_linear(graph: Graph) -> Graph:
    """Product, scale and bias as one `linear`."""
    biased = single_use_chains(graph, "matmul", "scale", "bias")
    plain = [chain for chain in single_use_chains(graph, "matmul", "scale") if chain[0] not in [first for first, *_ in biased]]
    for chains, bias in ((biased, {"bias": 1}), (plain, {})):
        attributes: list[dict[str, AttributeValue]] = [
            {"site": chain[0].attributes["site"], "columns": chain[0].type.size, **bias} for chain in chains
        ]
        graph = fused(graph, chains, "linear", attributes)
    return graph


def stacked(slices: Sequence[Node]) -> str | None:
    """The value that these slices cut one after another from its start, if they do."""
    start = 0
    for node in slices:
        if node.operation != "slice" or node.operands != slices[0].operands or node.integer("start") != start:
            return None
        start += node.type.size
    return slices[0].operands[0]


class AttentionChain(NamedTuple):
    """An attention and the nodes in front of it: key/value memory, rotated queries and keys, and what these are made of."""

    attention: Node
    cache: Node
    query: Node
    key: Node
    parts: tuple[Node, Node, Node]  # queries, keys and values in front of the rotation
    whole: str | None  # the value that the parts cut one after another from its start, if they do


def attention_chains(graph: Graph) -> Iterator[AttentionChain]:
    """The attentions of a graph whose queries and keys are rotated by the same table."""
    defined = graph.by_name()
    for attention in (node for node in graph.nodes if node.operation == "attention"):
        query, cache = (defined[operand] for operand in attention.operands)
        if cache.operation != "kv_write" or len(cache.operands) != 2:
            continue
        key, value = (defined[operand] for operand in cache.operands)
        if (query.operation, key.operation) != ("rope", "rope") or query.attributes.get("table") != key.attributes.get("table"):
            continue
        parts = (defined[query.operands[0]], defined[key.operands[0]], value)
        yield AttentionChain(attention, cache, query, key, parts, stacked(parts))


def fuse_attention(graph: Graph) -> Graph:
    """Rotary embedding, key/value memory and attention as one `self_attention` of queries, keys and values, or of the vector of all."""
    new: dict[str, Node | None] = {}
    for attention, cache, query, key, parts, whole in attention_chains(graph):
        new |= {node.name: None for node in (query, key, cache, *(parts if whole else ()))}
        attributes = {**query.attributes, **cache.attributes, **attention.attributes}
        operands = (whole,) if whole else tuple(part.name for part in parts)
        new[attention.name] = replace(attention, operation="self_attention", operands=operands, attributes=attributes)
    for node in graph.nodes:
        if node.operation == "attention" and node.name not in new:
            raise SimulationError(f"%{node.name} = attention of queries and keys without a common rotation cannot be simulated")
    return replaced(graph, new)
