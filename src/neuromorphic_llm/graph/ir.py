"""Typed graph of a token's way through the network: values, nodes and stages (docs/reference/compiler.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

KINDS = ("i16", "i32", "wide", "spikes", "acc", "cache")
"""i16, i32: integers; wide: sums in front of saturation to 32 bits; spikes: a spike train; acc: int32 sums whose binary point also moves
with the train's exponent k_min; cache: the key/value memory after this token has been written."""

AttributeValue = int | str | tuple[int, ...]

HOST = -1
"""Stage number of what the host tile does before layer 0."""


@dataclass(frozen=True)
class ValueType:
    """Type of a value: element kind, fraction (an integer x stands for x * 2^-fraction) and shape."""

    kind: str
    fraction: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown element kind {self.kind!r}; known: {', '.join(KINDS)}")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"a shape needs positive sizes, got {list(self.shape)}")

    def __str__(self) -> str:
        return f"{self.kind}<{self.fraction}>[{'x'.join(map(str, self.shape))}]"

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operation: defines the value `name` of `type` from `operands`. `stage` is HOST, a layer, or the head (the last)."""

    name: str
    type: ValueType
    operation: str
    operands: tuple[str, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    stage: int = HOST

    def integer(self, attribute: str) -> int:
        """An integer attribute."""
        return int(self.attributes[attribute])  # type: ignore[arg-type]

    def integers(self, attribute: str) -> tuple[int, ...]:
        """A list attribute."""
        value = self.attributes[attribute]
        return value if isinstance(value, tuple) else (int(value),)

    def with_attributes(self, **attributes: AttributeValue) -> Node:
        """Return the node with attributes added or replaced."""
        return replace(self, attributes={**self.attributes, **attributes})


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which every value is defined before its use; `result` is the value that the graph yields.

    `vector_tiles` are the tiles of the stages once they are placed, in stage order (empty before).
    """

    nodes: tuple[Node, ...]
    result: str
    vector_tiles: tuple[int, ...] = ()

    def node(self, name: str) -> Node:
        """The node that defines a value; KeyError if none does."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def by_name(self) -> dict[str, Node]:
        """Every node by the value it defines."""
        return {node.name: node for node in self.nodes}

    def users(self) -> dict[str, list[Node]]:
        """Users of every value, in order."""
        users: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for operand in node.operands:
                users[operand].append(node)
        return users

    @property
    def stages(self) -> int:
        """Number of stages (layers and the head)."""
        return max((node.stage for node in self.nodes), default=HOST) + 1

    def linear_nodes(self) -> list[Node]:
        """The crossbar sites that are whole linear layers (after fold), in order of execution."""
        return [node for node in self.nodes if node.operation == "linear"]

    def with_nodes(self, nodes: list[Node] | tuple[Node, ...], **changes: Any) -> Graph:
        """Return the graph with other nodes."""
        return replace(self, nodes=tuple(nodes), **changes)
