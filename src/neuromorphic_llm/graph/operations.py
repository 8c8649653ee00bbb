"""The operations of the graph: operands, attributes and the rule that each result type follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.graph.ir import Node, ValueType
from neuromorphic_llm.registry import Registry

EPILOGUES = ("gate", "argmax")
"""Operations of a synapse tile's output stage after scaling: the gate of the feed-forward, the largest logit of the head."""

TypeRule = Callable[[Node, tuple[ValueType, ...]], str | None]
"""Says what is wrong with a node whose operands have these types, or None."""


@dataclass(frozen=True)
class Operation:
    """Signature of an operation: operand counts allowed, attributes required and optional, and its type rule."""

    operands: tuple[int, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    rule: TypeRule


def _expect(node: Node, kind: str, fraction: int | None, shape: tuple[int, ...]) -> str | None:
    wanted = ValueType(kind, node.type.fraction if fraction is None else fraction, shape)
    return None if node.type == wanted else f"has type {node.type}, expected {wanted}"


def _kind(operand: ValueType, *kinds: str) -> str | None:
    return None if operand.kind in kinds else f"takes {' or '.join(kinds)}, got {operand}"


def _embedding(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    # With the shift folded in, rows leave the lookup as 32-bit residuals.
    return _kind(operands[0], "i32") or _expect(node, "i32" if "left" in node.attributes else "i16", None, (node.type.size,))


def _shift(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    if node.integer("left") < 0:
        return f"shifts left by {node.integer('left')}, expected 0 or more"
    return _kind(operands[0], "i16", "i32") or _expect(node, "i32", operands[0].fraction + node.integer("left"), operands[0].shape)


def _vector(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    return _kind(operands[0], "i32") or _expect(node, "i32", None, operands[0].shape)


def _normalise(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    if "channels" in node.attributes and operands[0].size % max(node.integer("channels"), 1):
        return f"normalises {node.integer('channels')} channels at a time of {operands[0]}"
    return _kind(operands[0], "i32") or _expect(node, "i32", 24, operands[0].shape)


def _encode(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    return _kind(operands[0], "i32") or _expect(node, "spikes", operands[0].fraction, operands[0].shape)


def _matmul(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    return _kind(operands[0], "i32", "spikes") or _expect(node, "acc", operands[0].fraction, (node.type.size,))


def _scale(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    # A bias is added in front of saturation.
    return _kind(operands[0], "acc") or _expect(node, "wide" if node.type.kind == "wide" else "i32", None, operands[0].shape)


def _bias(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    return _kind(operands[0], "wide") or _expect(node, "i32", operands[0].fraction, operands[0].shape)


def _positions(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    return _kind(operands[0], "i32") or _expect(node, "i16", None, (node.type.size,))


def _soft_cap(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    if len(node.integers("cap")) != 3:
        return f"has a cap of {len(node.integers('cap'))} numbers, expected limit, multiplier and shift"
    return _kind(operands[0], "i32") or _expect(node, "i32", operands[0].fraction, operands[0].shape)


def _activate(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    return _kind(operands[0], "i32") or _expect(node, "i32", None, operands[0].shape)


def _linear(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    epilogue = node.attributes.get("epilogue", "")
    if epilogue and epilogue not in EPILOGUES:
        return f"has epilogue {epilogue!r}, expected one of {', '.join(EPILOGUES)}"
    outputs = {"": node.integer("columns"), "gate": node.integer("columns") // 2, "argmax": 1}[str(epilogue)]
    return _kind(operands[0], "spikes") or _expect(node, "i32", 0 if epilogue == "argmax" else None, (outputs,)) or _regions(node)


def _regions(node: Node) -> str | None:
    """Regions, once chosen, cover the columns; tiles, once placed, are one per region and different."""
    if "regions" in node.attributes and sum(node.integers("regions")) != node.integer("columns"):
        return f"has regions of {sum(node.integers('regions'))} columns together, expected {node.integer('columns')}"
    if "tiles" not in node.attributes:
        return None
    tiles = node.integers("tiles")
    if "regions" not in node.attributes or len(tiles) != len(node.integers("regions")):
        return "has tiles, but not one for each region"
    return "has two regions on one tile" if len(set(tiles)) != len(tiles) else None


def _slice(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    if not 0 <= node.integer("start") <= operands[0].size - node.type.size:
        return f"takes elements {node.integer('start')}..{node.integer('start') + node.type.size - 1} of {operands[0]}"
    return _kind(operands[0], "i32") or _expect(node, "i32", operands[0].fraction, (node.type.size,))


def _rope(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    rotated = node.integer("rotated")
    if node.integer("head_dim") % 2 or rotated % node.integer("head_dim") or rotated > operands[0].size:
        return f"rotates {rotated} elements of {operands[0]} in heads of {node.integer('head_dim')}"
    return _kind(operands[0], "i32") or _expect(node, "i32", operands[0].fraction, operands[0].shape)


def _kv_write(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    """Two operands: keys, values. One: a vector that ends with keys and values."""
    values = node.integer("kv_heads") * node.integer("head_dim")
    enough = operands[0].size >= 2 * values if len(operands) == 1 else {operand.size for operand in operands} == {values}
    if not enough:
        return f"takes keys and values of {values} elements each, got {', '.join(map(str, operands))}"
    shape = (node.integer("kv_heads"), node.integer("head_dim"))
    return _kind(operands[0], "i32") or _expect(node, "cache", operands[0].fraction, shape)


def _attention(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    """The queries are the first `heads * head_dim` elements of the first operand."""
    if wrong := _kind(operands[0], "i32") or _kind(operands[1], "cache"):
        return wrong
    kv_heads, head_dim = operands[1].shape
    heads = node.integer("heads")
    if heads % kv_heads or operands[0].size < heads * head_dim:
        return f"has {heads} heads of {head_dim} over {kv_heads} key/value heads, got {operands[0]}"
    return _expect(node, "i32", None, (heads * head_dim,))


def _add(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    if operands[0] != operands[1]:
        return f"adds {operands[0]} and {operands[1]}"
    return _vector(node, operands) or _expect(node, "i32", operands[0].fraction, operands[0].shape)


def _gate(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    if operands[0].size % 2:
        return f"needs as many gate as up values, got {operands[0]}"
    return _kind(operands[0], "i32") or _expect(node, "i32", None, (operands[0].size // 2,))


def _argmax(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    return _kind(operands[0], "i32") or _expect(node, "i32", 0, (1,))


_BUILT_IN = {
    "token": Operation((0,), (), (), lambda node, _: _expect(node, "i32", 0, (1,))),
    "embedding": Operation((1,), ("vocab",), ("left",), _embedding),
    "positions": Operation((1,), (), (), _positions),
    "shift": Operation((1,), ("left",), (), _shift),
    "normalise": Operation((1,), (), ("channels",), _normalise),
    "gain": Operation((1,), ("gain",), (), _vector),
    "norm": Operation((1,), ("gain",), (), _vector),
    "encode": Operation((1,), ("site", "code", "phases"), (), _encode),
    "matmul": Operation((1,), ("site",), (), _matmul),
    "scale": Operation((1,), ("site",), (), _scale),
    "bias": Operation((1,), ("site",), (), _bias),
    "linear": Operation((1,), ("site", "columns"), ("epilogue", "activation", "bias", "slices", "row_blocks", "regions", "tiles"), _linear),
    "slice": Operation((1,), ("start",), (), _slice),
    "rope": Operation((1,), ("head_dim", "rotated"), ("table",), _rope),
    "kv_write": Operation((1, 2), ("kv_heads", "head_dim", "base"), ("key_offset",), _kv_write),
    "attention": Operation((2,), ("heads", "stop", "base"), ("window", "cap", "dense"), _attention),
    "gate": Operation((1,), ("activation",), (), _gate),
    "activate": Operation((1,), ("activation",), (), _activate),
    "soft_cap": Operation((1,), ("cap",), (), _soft_cap),
    "add": Operation((2,), (), (), _add),
    "argmax": Operation((1,), (), (), _argmax),
}

OPERATIONS: Registry[Operation] = Registry("operation", _BUILT_IN.items())
"""Every operation by name."""


ATTRIBUTE_TYPES: dict[str, type] = {
    **dict.fromkeys(("gain", "code", "epilogue", "activation", "site", "table", "stop", "base", "key_offset"), str),
    **dict.fromkeys(("regions", "tiles", "cap"), tuple),
}
"""Types of attributes by name; integers where none is said."""


def register_operation(name: str, operation: Operation, attributes: Mapping[str, type] | None = None) -> None:
    """Make the signature of an operation known, with the types of new attributes that are no integers.

    UsageError if another operation has its name, or an attribute another type.
    """
    OPERATIONS.register(name, operation)
    for attribute, kind in (attributes or {}).items():
        if ATTRIBUTE_TYPES.setdefault(attribute, kind) is not kind:
            raise UsageError(f"the attribute {attribute!r} has another type already; choose another name")
