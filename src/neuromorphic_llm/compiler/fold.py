"""Fold: fuse the steps of numerics.md into the units that execute them in one go."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.graph.ir import AttributeValue, Graph, Node


@dataclass(frozen=True)
class Fold:
    """Shift into the embedding lookup, gain into the norm, scale and bias into the linear layer, slices into the rotary embedding
    and attention, gate and argmax into the output stage of the synapse tiles."""

    name: str = "fold"

    def apply(self, module: Module) -> Module:
        """The module with a fused graph."""
        graph = module.graph
        for rewrite in (_fold_embedding, _fold_norm, _fold_linear, _fold_attention, _fold_epilogue):
            graph = rewrite(graph)
        return replace(module, graph=graph)


def _single_use_chain(graph: Graph, *operations: str) -> list[list[Node]]:
    """All chains of nodes with these operations in which each value has only the next node as user."""
    users = graph.users()
    chains = []
    for node in graph.nodes:
        chain = [node]
        while len(chain) < len(operations) and chain[-1].name != graph.result and len(users[chain[-1].name]) == 1:
            chain.append(users[chain[-1].name][0])
        if tuple(link.operation for link in chain) == operations:
            chains.append(chain)
    return chains


def _fuse(graph: Graph, chains: list[list[Node]], operation: str | None, attributes: list[dict[str, AttributeValue]]) -> Graph:
    """Replace each chain by one node that keeps the last name and type; `operation` None keeps the first node's."""
    fused: dict[str, Node | None] = {}
    for chain, added in zip(chains, attributes, strict=True):
        for node in chain[:-1]:
            fused[node.name] = None
        first, last = chain[0], chain[-1]
        fused[last.name] = replace(last, operation=operation or first.operation, operands=first.operands, attributes=added)
    nodes = [fused.get(node.name, node) for node in graph.nodes]
    return graph.with_nodes([node for node in nodes if node is not None])


def _fold_embedding(graph: Graph) -> Graph:
    chains = _single_use_chain(graph, "embedding", "shift")
    return _fuse(graph, chains, None, [{**row.attributes, **shift.attributes} for row, shift in chains])


def _fold_norm(graph: Graph) -> Graph:
    chains = [chain for chain in _single_use_chain(graph, "normalise", "gain") if "channels" not in chain[0].attributes]
    return _fuse(graph, chains, "norm", [{**gain.attributes} for _, gain in chains])


def _fold_linear(graph: Graph) -> Graph:
    biased = _single_use_chain(graph, "matmul", "scale", "bias")
    plain = [chain for chain in _single_use_chain(graph, "matmul", "scale") if chain[0] not in [first for first, *_ in biased]]
    for chains, bias in ((biased, {"bias": 1}), (plain, {})):
        attributes: list[dict[str, AttributeValue]] = [
            {"site": chain[0].attributes["site"], "columns": chain[0].type.size, **bias} for chain in chains
        ]
        graph = _fuse(graph, chains, "linear", attributes)
    return graph


def _fold_attention(graph: Graph) -> Graph:
    """Queries, keys and values stay one vector: rotate its first part in place, store its last part, attend with its first part."""
    defined = graph.by_name()
    replaced: dict[str, Node | None] = {}
    for attention in (node for node in graph.nodes if node.operation == "attention"):
        query, cache = (defined[operand] for operand in attention.operands)
        if cache.operation != "kv_write" or len(cache.operands) != 2:
            continue
        key, value = (defined[operand] for operand in cache.operands)
        if (query.operation, key.operation, value.operation) != ("rope", "rope", "slice"):
            continue
        slices = [defined[query.operands[0]], defined[key.operands[0]], value]
        whole = _stacked(slices)
        if whole is None:
            continue
        rotated = replace(
            query,
            name=f"{whole}.rotated",
            type=defined[whole].type,
            operands=(whole,),
            attributes={**query.attributes, "rotated": query.integer("rotated") + key.integer("rotated")},
        )
        replaced |= {node.name: None for node in (*slices, key)}
        replaced[query.name] = rotated
        replaced[cache.name] = replace(cache, operands=(rotated.name,))
        replaced[attention.name] = replace(attention, operands=(rotated.name, cache.name))
    nodes = [replaced.get(node.name, node) for node in graph.nodes]
    return graph.with_nodes([node for node in nodes if node is not None])


def _stacked(slices: list[Node]) -> str | None:
    """The value that these slices cut one after another from its start, if they do."""
    start = 0
    for node in slices:
        if node.operation != "slice" or node.operands != slices[0].operands or node.integer("start") != start:
            return None
        start += node.type.size
    return slices[0].operands[0]


def _fold_epilogue(graph: Graph) -> Graph:
    for epilogue in ("gate", "argmax"):
        chains = _single_use_chain(graph, "linear", epilogue)
        graph = _fuse(graph, chains, None, [{**linear.attributes, **last.attributes, "epilogue": epilogue} for linear, last in chains])
    return graph
