"""Fold: fuse the steps of numerics.md into the units that execute them in one go."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.graph.ir import Graph, Node
from neuromorphic_llm.graph.rewrite import fuse_linear, fuse_norms, fused, replaced, single_use_chains, stacked


@dataclass(frozen=True)
class Fold:
    """Shift into the embedding lookup, gain into the norm, scale and bias into the linear layer, slices into the rotary embedding
    and attention, gate and argmax into the output stage of the synapse tiles."""

    name: str = "fold"

    def apply(self, module: Module) -> Module:
        """The module with a fused graph."""
        graph = module.graph
        for rewrite in (_fold_embedding, fuse_norms, fuse_linear, _fold_attention, _fold_epilogue):
            graph = rewrite(graph)
        return replace(module, graph=graph)


def _fold_embedding(graph: Graph) -> Graph:
    chains = single_use_chains(graph, "embedding", "shift")
    return fused(graph, chains, None, [{**row.attributes, **shift.attributes} for row, shift in chains])


def _fold_attention(graph: Graph) -> Graph:
    """Queries, keys and values stay one vector: rotate its first part in place, store its last part, attend with its first part."""
    defined = graph.by_name()
    new: dict[str, Node | None] = {}
    for attention in (node for node in graph.nodes if node.operation == "attention"):
        query, cache = (defined[operand] for operand in attention.operands)
        if cache.operation != "kv_write" or len(cache.operands) != 2:
            continue
        key, value = (defined[operand] for operand in cache.operands)
        if (query.operation, key.operation, value.operation) != ("rope", "rope", "slice"):
            continue
        slices = [defined[query.operands[0]], defined[key.operands[0]], value]
        whole = stacked(slices)
        if whole is None or query.attributes.get("table") != key.attributes.get("table"):
            continue
        rotated = replace(
            query,
            name=f"{whole}.rotated",
            type=defined[whole].type,
            operands=(whole,),
            attributes={**query.attributes, "rotated": query.integer("rotated") + key.integer("rotated")},
        )
        new |= {node.name: None for node in (*slices, key)}
        new[query.name] = rotated
        new[cache.name] = replace(cache, operands=(rotated.name,))
        new[attention.name] = replace(attention, operands=(rotated.name, cache.name))
    return replaced(graph, new)


def _fold_epilogue(graph: Graph) -> Graph:
    for epilogue in ("gate", "argmax"):
        chains = single_use_chains(graph, "linear", epilogue)
        graph = fused(graph, chains, None, [{**linear.attributes, **last.attributes, "epilogue": epilogue} for linear, last in chains])
    return graph
