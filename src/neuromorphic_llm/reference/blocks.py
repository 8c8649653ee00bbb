"""Blocks of a decoder as values: each answers for its sites, its parameters and its part of the graph (docs/reference/graph.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neuromorphic_llm.reference.soft_cap import score_cap
from neuromorphic_llm.registry import Registry

if TYPE_CHECKING:
    from neuromorphic_llm.reference.build import GraphBuilder
    from neuromorphic_llm.reference.config import DecoderConfig

LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Site:
    """A crossbar site: one linear layer whose weights lie in crossbars."""

    name: str  # unique in the network: `layers.3.qkv`, `head`
    inputs: int
    outputs: int
    input_fraction: str  # of its input and output: a field of Formats, or an integer parameter of its layer
    output_fraction: str
    part: str  # of a hybrid: `attention`, `feed-forward` or `head`
    epilogue: str = ""  # of its output stage: `gate`, `argmax` or none
    stage: int = 0  # its layer; of the head the one behind the last layer
    index: int = -1  # in DecoderConfig.sites

    @property
    def role(self) -> str:
        """Name within its layer, `qkv`."""
        return self.name.rpartition(".")[2]

    @property
    def shape(self) -> tuple[int, int]:
        """(inputs, outputs)."""
        return self.inputs, self.outputs

    @property
    def columns_per_output(self) -> int:
        """Outputs of the product that the epilogue makes one of: gate and up value, or a value alone."""
        return 2 if self.epilogue == "gate" else 1


@dataclass(frozen=True)
class Parameter:
    """Name within its layer, element type, shape and range of a parameter that is not a site; shape () is a single integer."""

    name: str
    kind: type[np.generic] = np.int32
    shape: tuple[int, ...] = ()
    least: int = -(2**31)
    most: int = LARGEST_INT32
    optional: bool = False


@dataclass(frozen=True)
class Block(ABC):
    """A step of the residual stream: r -> r + f(norm(r)). Blocks of the same layer share a stage of the chip."""

    layer: int

    kind: ClassVar[str]

    @property
    def prefix(self) -> str:
        """Beginning of the names of its parameters, sites and values."""
        return f"layers.{self.layer}"

    @abstractmethod
    def sites(self, config: DecoderConfig) -> tuple[Site, ...]:
        """Its crossbar sites in order of execution."""

    @abstractmethod
    def parameters(self, config: DecoderConfig) -> tuple[Parameter, ...]:
        """Its parameters beside the weights of its sites."""

    @abstractmethod
    def build(self, graph: GraphBuilder, residual: str, before: str) -> str:
        """Append its nodes; the value of the residual stream after it.

        residual: the stream in front of it; before: the stream in front of the block before it, for parallel blocks.
        """

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields with the kind."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Attention(Block):
    """Softmax attention over an 8-bit key/value memory, with rotary position embedding."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int = 0  # tokens that it attends to; 0: all
    local_rotary: bool = False  # rotary tables of its own kind
    query_key_norm: bool = False
    output_norm: bool = False
    softcap: float = 0.0  # of the scores; 0: none

    kind: ClassVar[str] = "attention"

    @property
    def queries(self) -> int:
        """Elements of the queries of all heads."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Elements of the keys, or of the values, of all key/value heads."""
        return self.kv_heads * self.head_dim

    def sites(self, config: DecoderConfig) -> tuple[Site, ...]:
        """Queries, keys and values in one site; the output projection."""
        hidden, part = config.hidden_size, "attention"
        return (
            Site(f"{self.prefix}.qkv", hidden, self.queries + 2 * self.keys, "norm", "qkv", part, stage=self.layer),
            Site(f"{self.prefix}.output", self.queries, hidden, "attention", "residual", part, stage=self.layer),
        )

    def parameters(self, config: DecoderConfig) -> tuple[Parameter, ...]:
        """Gains, prices of queries, exponents of values, offsets of keys."""
        per_head = (self.head_dim,)
        found = [
            Parameter("attention_gain", shape=(config.hidden_size,)),
            Parameter("query_stop", shape=(self.heads, self.head_dim), least=0),
            Parameter("value_base", shape=(self.kv_heads,), least=0, most=31),
        ]
        if self.query_key_norm:
            found += [Parameter("query_gain", shape=per_head), Parameter("key_gain", shape=per_head)]
        if self.output_norm:
            found.append(Parameter("attention_output_gain", shape=(config.hidden_size,)))
        if not self.softcap:  # an offset would move scores that a soft cap bends
            found.append(Parameter("key_offset", shape=(self.kv_heads, self.head_dim), optional=True))
        return tuple(found)

    def build(self, graph: GraphBuilder, residual: str, before: str) -> str:  # noqa: ARG002 - it is not parallel
        """Norm, projections, rotary embedding, cache, attention, output projection, sum."""
        prefix, formats = self.prefix, graph.formats
        normed = graph.norm(f"{prefix}.attention", residual, f"{prefix}.attention_gain")
        qkv = graph.linear(f"{prefix}.qkv", normed)
        q = graph.slice(f"{prefix}.q", qkv, 0, self.queries)
        k = graph.slice(f"{prefix}.k", qkv, self.queries, self.keys)
        v = graph.slice(f"{prefix}.v", qkv, self.queries + self.keys, self.keys)
        if self.query_key_norm:
            q = graph.norm(q, q, f"{prefix}.query_gain", formats.qkv, channels=self.head_dim)
            k = graph.norm(k, k, f"{prefix}.key_gain", formats.qkv, channels=self.head_dim)
        q, k = self._rotated(graph, f"{prefix}.q", q), self._rotated(graph, f"{prefix}.k", k)
        cached: dict[str, Any] = {"kv_heads": self.kv_heads, "head_dim": self.head_dim}
        if graph.weights.layers[self.layer].get("key_offset") is not None:
            cached["key_offset"] = f"{prefix}.key_offset"
        cached["base"] = f"{prefix}.value_base"
        cache = graph.add(f"{prefix}.cache", "kv_write", k, v, kind="cache", shape=(self.kv_heads, self.head_dim), **cached)
        attended: dict[str, Any] = {"heads": self.heads, "stop": f"{prefix}.query_stop", "base": f"{prefix}.value_base"}
        cap = score_cap(self.softcap)
        attended |= {"window": self.window} if self.window else {}
        attended |= {} if cap is None else {"cap": tuple(cap)}
        attended |= {"dense": 1} if graph.weights.layers[self.layer].get("attention_spiking") is False else {}
        mixed = graph.add(f"{prefix}.mixed", "attention", q, cache, fraction=formats.attention, shape=(self.queries,), **attended)
        output = graph.linear(f"{prefix}.output", mixed)
        if self.output_norm:
            output = graph.norm(output, output, f"{prefix}.attention_output_gain", formats.residual)
        return graph.add(f"{prefix}.attended", "add", residual, output)

    def _rotated(self, graph: GraphBuilder, name: str, source: str) -> str:
        table: dict[str, Any] = {"table": "local_rope"} if self.local_rotary else {}
        return graph.add(f"{name}.rotated", "rope", source, head_dim=self.head_dim, rotated=graph.size(source), **table)


@dataclass(frozen=True)
class FeedForward(Block):
    """Feed-forward network: an activation, with a gate or without, between two projections."""

    size: int  # of the hidden vector
    activation: str = "silu"
    gated: bool = True
    parallel: bool = False  # reads the stream in front of the block before it
    output_norm: bool = False

    kind: ClassVar[str] = "feed-forward"

    def sites(self, config: DecoderConfig) -> tuple[Site, ...]:
        """Gate and up projection in one site (gate values first); the down projection."""
        hidden, part = config.hidden_size, "feed-forward"
        columns, epilogue = (2 * self.size, "gate") if self.gated else (self.size, "")
        return (
            Site(f"{self.prefix}.gate_up", hidden, columns, "norm", "gate", part, epilogue, stage=self.layer),
            Site(f"{self.prefix}.down", self.size, hidden, "hidden_fraction", "residual", part, stage=self.layer),
        )

    def parameters(self, config: DecoderConfig) -> tuple[Parameter, ...]:
        """Gains, and the fraction of the hidden vector."""
        found = [
            Parameter("feed_forward_gain", shape=(config.hidden_size,)),
            Parameter("hidden_fraction", least=0, most=30),
        ]
        if self.output_norm:
            found.append(Parameter("feed_forward_output_gain", shape=(config.hidden_size,)))
        return tuple(found)

    def build(self, graph: GraphBuilder, residual: str, before: str) -> str:
        """Norm, projection, activation, projection, sum."""
        prefix = self.prefix
        normed = graph.norm(f"{prefix}.feed_forward", before if self.parallel else residual, f"{prefix}.feed_forward_gain")
        gate_up = graph.linear(f"{prefix}.gate_up", normed)
        fraction, name = int(graph.weights.layers[self.layer].hidden_fraction), f"{prefix}.hidden"
        operation = "gate" if self.gated else "activate"
        hidden = graph.add(name, operation, gate_up, fraction=fraction, shape=(self.size,), activation=self.activation)
        down = graph.linear(f"{prefix}.down", hidden)
        if self.output_norm:
            down = graph.norm(down, down, f"{prefix}.feed_forward_output_gain", graph.formats.residual)
        return graph.add(f"{prefix}.residual", "add", residual, down)


KINDS: Registry[type[Block]] = Registry("kind of block")
"""Every kind of block by its name."""


def register_block(block: type[Block]) -> type[Block]:
    """Make a kind of block known by its name; UsageError if another one has it."""
    KINDS.register(block.kind, block)
    return block


for _block in (Attention, FeedForward):
    register_block(_block)


def block_from_json(entry: Any, source: str) -> Block:
    """Inverse of Block.to_json; TypeError or ValueError naming what is wrong, ArtefactError naming `source` for an unknown kind."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("kind"), str):
        raise TypeError(f"a block must be an object with a kind, got {entry!r}")
    KINDS.check_stored(entry["kind"], source)
    block = KINDS[entry["kind"]]
    values = {name: value for name, value in entry.items() if name != "kind"}
    if unknown := set(values) - {entry.name for entry in fields(block)}:
        raise ValueError(f"a block of kind {block.kind!r} has no field {min(unknown)!r}")
    return block(**values)
