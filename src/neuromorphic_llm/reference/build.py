"""Graph of an integer decoder: its order of operations, one node per step, nothing fused (docs/reference/graph.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neuromorphic_llm.graph.ir import HOST, Graph, Node, ValueType
from neuromorphic_llm.graph.rewrite import fuse_attention, fuse_linear, fuse_norms
from neuromorphic_llm.reference.config import CodeConfig, DecoderConfig, Formats
from neuromorphic_llm.reference.soft_cap import soft_cap
from neuromorphic_llm.reference.weights import DecoderWeights, LayerWeights, LinearWeights


class GraphBuilder:
    """Nodes of a graph as blocks append them; every method returns the name of the value that it defines."""

    def __init__(self, weights: DecoderWeights) -> None:
        self.weights, self.formats = weights, weights.formats
        self.stage = HOST
        self.nodes: list[Node] = []
        self._types: dict[str, ValueType] = {}

    def size(self, value: str) -> int:
        """Elements of a value."""
        return self._types[value].size

    def add(
        self,
        name: str,
        operation: str,
        *operands: str,
        kind: str = "i32",
        fraction: int | None = None,
        shape: tuple[int, ...] | None = None,
        **attributes: Any,  # AttributeValue, which mypy would ask of the other keywords too
    ) -> str:
        """Append a node. Fraction and shape default to those of its first operand."""
        if fraction is None:
            fraction = self._types[operands[0]].fraction
        if shape is None:
            shape = self._types[operands[0]].shape
        self._types[name] = ValueType(kind, fraction, shape)
        self.nodes.append(Node(name, self._types[name], operation, operands, attributes, self.stage))
        return name

    def norm(self, prefix: str, source: str, gain: str, fraction: int | None = None, *, channels: int | None = None) -> str:
        """RMSNorm of a vector, or of each `channels` of it, with the parameter `gain`; at `formats.norm` by default."""
        grouped: dict[str, Any] = {} if channels is None else {"channels": channels}
        normalised = self.add(f"{prefix}.normalised", "normalise", source, fraction=24, **grouped)
        return self.add(f"{prefix}.norm", "gain", normalised, fraction=self.formats.norm if fraction is None else fraction, gain=gain)

    def linear(self, site: str, source: str) -> str:
        """Product with the weights of a site, its scale and its bias."""
        shape, fraction = (self.weights.config.site(site).outputs,), self.weights.output_fraction(site)
        sums = self.add(f"{site}.sums", "matmul", source, kind="acc", shape=shape, site=site)
        if self.weights.site(site).bias is None:
            return self.add(site, "scale", sums, fraction=fraction, site=site)
        scaled = self.add(f"{site}.scaled", "scale", sums, kind="wide", fraction=fraction, site=site)
        return self.add(site, "bias", scaled, site=site)

    def slice(self, name: str, source: str, start: int, size: int) -> str:
        """Consecutive elements of a vector."""
        return self.add(name, "slice", source, shape=(size,), start=start)

    def embedded(self) -> str:
        """Residual stream of a token in front of the first block."""
        config, formats = self.weights.config, self.formats
        token = self.add("token", "token", fraction=0, shape=(1,))
        fraction, hidden = formats.residual - formats.embedding_shift, (config.hidden_size,)
        row = self.add("row", "embedding", token, kind="i16", fraction=fraction, shape=hidden, vocab=config.vocab_size)
        residual = self.add("residual", "shift", row, fraction=formats.residual, left=formats.embedding_shift)
        if self.weights.positions is None:
            return residual
        row = self.add("position", "positions", token, kind="i16", fraction=fraction, shape=hidden)
        position = self.add("position.residual", "shift", row, fraction=formats.residual, left=formats.embedding_shift)
        return self.add("positioned", "add", residual, position)


_NOTHING: Any = np.zeros(0)
_NO_SITE = LinearWeights(_NOTHING, _NOTHING, 0, _NOTHING)
_NO_WEIGHTS = DecoderWeights(_NOTHING, Formats(), CodeConfig(), _NOTHING, (), _NOTHING, _NO_SITE, _NOTHING, _NOTHING)


def outline(config: DecoderConfig) -> DecoderWeights:
    """Weights without numbers: what the graph of a configuration is built from before there is a network."""
    layers = []
    for number in range(config.layers):
        parameters = [each.name for block in config.layer_blocks(number) for each in block.parameters(config) if not each.optional]
        sites = [own.role for own in config.layer_sites(number)]
        layers.append(LayerWeights(**dict.fromkeys(sites, _NO_SITE), **dict.fromkeys(parameters, 0)))
    return replace(_NO_WEIGHTS, config=config, layers=tuple(layers), positions=_NOTHING if config.learned_positions else None)


def build_graph(weights: DecoderWeights) -> Graph:
    """Graph of one token's way from its id to the next token's id; stage l is layer l, the last stage the head."""
    config, builder = weights.config, GraphBuilder(weights)
    before = residual = builder.embedded()
    for block in config.blocks:
        builder.stage = block.layer
        before, residual = residual, block.build(builder, residual, before)
    builder.stage = config.layers
    logits = builder.linear(config.head.name, builder.norm("final", residual, "final_gain"))
    cap = soft_cap(config.logit_softcap, weights.formats.logit)
    if cap is not None:
        logits = builder.add("logits", "soft_cap", logits, cap=tuple(cap))
    result = builder.add("next", "argmax", logits, fraction=0, shape=(1,))
    return Graph(tuple(builder.nodes), result)


def engine_graph(weights: DecoderWeights) -> Graph:
    """Graph of a network as engines run it: up to its logits, with norms, linear layers and attention fused."""
    graph = build_graph(weights)
    logits = graph.node(graph.result).operands[0]
    graph = replace(graph.with_nodes(graph.nodes[:-1]), result=logits)
    return fuse_attention(fuse_linear(fuse_norms(graph, grouped=True)))
