"""Graph in the operations of the chip's units: encoders in front of crossbars, steps that one unit executes in one go."""

from __future__ import annotations

from dataclasses import replace

from neuromorphic_llm.graph.ir import Graph, Node, ValueType
from neuromorphic_llm.graph.operations import EPILOGUES
from neuromorphic_llm.graph.rewrite import attention_chains, fuse_linear, fuse_norms, fused, replaced, single_use_chains
from neuromorphic_llm.reference.config import CodeConfig


def with_encoders(graph: Graph, code: CodeConfig) -> Graph:
    """The graph with an `encode` in front of every matrix product that has none."""
    nodes: list[Node] = []
    types: dict[str, ValueType] = {}
    for node in graph.nodes:
        if node.operation == "matmul" and types[node.operands[0]].kind == "i32":
            source = types[node.operands[0]]
            spikes = Node(
                name=f"{node.name.removesuffix('.sums')}.spikes",
                type=ValueType("spikes", source.fraction, source.shape),
                operation="encode",
                operands=node.operands,
                attributes={"site": node.attributes["site"], "code": code.name, "phases": code.phases},
                stage=node.stage,
            )
            nodes.append(spikes)
            node = replace(node, operands=(spikes.name,))
        nodes.append(node)
        types[node.name] = node.type
    return graph.with_nodes(nodes)


def fused_graph(graph: Graph) -> Graph:
    """The graph with one node for the steps that one unit executes in one go."""
    for rewrite in (_fold_embedding, fuse_norms, fuse_linear, _fold_attention, _fold_epilogue):
        graph = rewrite(graph)
    return graph


def _fold_embedding(graph: Graph) -> Graph:
    chains = single_use_chains(graph, "embedding", "shift")
    return fused(graph, chains, None, [{**row.attributes, **shift.attributes} for row, shift in chains])


def _fold_attention(graph: Graph) -> Graph:
    """Queries, keys and values stay one vector: rotate its first part in place, store its last part, attend with its first part."""
    defined = graph.by_name()
    new: dict[str, Node | None] = {}
    for attention, cache, query, key, parts, whole in attention_chains(graph):
        if whole is None:
            continue
        rotated = replace(
            query,
            name=f"{whole}.rotated",
            type=defined[whole].type,
            operands=(whole,),
            attributes={**query.attributes, "rotated": query.integer("rotated") + key.integer("rotated")},
        )
        new |= {node.name: None for node in (*parts, key)}
        new[query.name] = rotated
        new[cache.name] = replace(cache, operands=(rotated.name,))
        new[attention.name] = replace(attention, operands=(rotated.name, cache.name))
    return replaced(graph, new)


def _fold_epilogue(graph: Graph) -> Graph:
    for epilogue in EPILOGUES:
        chains = single_use_chains(graph, "linear", epilogue)
        graph = fused(graph, chains, None, [{**linear.attributes, **last.attributes, "epilogue": epilogue} for linear, last in chains])
    return graph
