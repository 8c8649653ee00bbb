"""Type rules of the operations: what each takes and makes, and the message for everything else."""

from __future__ import annotations

import re

import pytest

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.graph import operations as module
from neuromorphic_llm.graph.ir import ValueType
from neuromorphic_llm.graph.operations import OPERATIONS, Operation, register_operation
from neuromorphic_llm.graph.text import parse_graph

HEADS = "{kv_heads=2, head_dim=4}"


def fault(operands: str, node: str) -> str | None:
    """Message of the rule of a node on operands of these types."""
    kinds = operands.split()
    values = "\n".join(f"%v{number}: {kind} = token()" for number, kind in enumerate(kinds))
    kind, _, rest = node.partition(" = ")
    name, _, attributes = rest.partition(" ")
    uses = ", ".join(f"%v{number}" for number in range(len(kinds)))
    graph = parse_graph(f"graph {{ host: {values}\n%x: {kind} = {name}({uses}) {attributes}\nreturn %x }}")
    types = tuple(graph.node(f"v{number}").type for number in range(len(kinds)))
    return OPERATIONS[name].rule(graph.node("x"), types)


@pytest.mark.parametrize(
    ("operands", "node"),
    [
        ("", "i32<0>[1] = token"),
        ("i32<0>[1]", "i16<12>[8] = embedding"),
        ("i32<0>[1]", "i32<14>[8] = embedding {left=2}"),
        ("i32<0>[1]", "i16<9>[8] = positions"),
        ("i16<3>[8]", "i32<5>[8] = shift {left=2}"),
        ("i32<3>[2x4]", "i32<3>[2x4] = shift {left=0}"),
        ("i32<3>[8]", "i32<24>[8] = normalise"),
        ("i32<3>[8]", "i32<24>[8] = normalise {channels=4}"),
        ("i32<24>[8]", "i32<12>[8] = gain"),
        ("i32<14>[8]", "i32<12>[8] = norm"),
        ("i32<12>[8]", "spikes<12>[8] = encode"),
        ("i32<12>[8]", "acc<12>[5] = matmul"),
        ("spikes<12>[8]", "acc<12>[5] = matmul"),
        ("acc<12>[5]", "i32<3>[5] = scale"),
        ("acc<12>[5]", "wide<3>[5] = scale"),
        ("wide<3>[5]", "i32<3>[5] = bias"),
        ("spikes<3>[5]", "i32<9>[6] = linear {columns=6}"),
        ("spikes<3>[5]", 'i32<9>[3] = linear {columns=6, epilogue="gate", regions=[4, 2], tiles=[1, 7]}'),
        ("spikes<3>[5]", 'i32<0>[1] = linear {columns=6, epilogue="argmax", regions=[6]}'),
        ("i32<3>[8]", "i32<3>[5] = slice {start=3}"),
        ("i32<3>[8]", "i32<3>[8] = slice {start=0}"),
        ("i32<3>[8]", "i32<3>[8] = rope {head_dim=4, rotated=8}"),
        ("i32<3>[12]", "i32<3>[12] = rope {head_dim=4, rotated=8}"),
        ("i32<3>[8] i32<3>[8]", f"cache<3>[2x4] = kv_write {HEADS}"),
        ("i32<3>[16]", f"cache<3>[2x4] = kv_write {HEADS}"),
        ("i32<3>[24]", f"cache<3>[2x4] = kv_write {HEADS}"),
        ("i32<3>[16] cache<3>[2x4]", "i32<9>[16] = attention {heads=4}"),
        ("i32<3>[24] cache<3>[2x4]", "i32<9>[16] = attention {heads=4}"),
        ("i32<3>[8] i32<3>[8]", "i32<3>[8] = add"),
        ("i32<3>[8]", "i32<9>[4] = gate"),
        ("i32<3>[8]", "i32<9>[8] = activate"),
        ("i32<3>[8]", "i32<3>[8] = soft_cap {cap=[1, 2, 3]}"),
        ("i32<3>[8]", "i32<0>[1] = argmax"),
    ],
)
def test_accepted(operands: str, node: str) -> None:
    assert fault(operands, node) is None


@pytest.mark.parametrize(
    ("operands", "node", "message"),
    [
        ("", "i32<1>[1] = token", "has type i32<1>[1], expected i32<0>[1]"),
        ("", "i32<0>[2] = token", "has type i32<0>[2], expected i32<0>[1]"),
        ("i16<0>[1]", "i16<12>[8] = embedding", "takes i32, got i16<0>[1]"),
        ("i32<0>[1]", "i32<12>[8] = embedding", "has type i32<12>[8], expected i16<12>[8]"),
        ("i32<0>[1]", "i16<12>[2x4] = embedding", "has type i16<12>[2x4], expected i16<12>[8]"),
        ("i32<0>[1]", "i16<14>[8] = embedding {left=2}", "has type i16<14>[8], expected i32<14>[8]"),
        ("i16<0>[1]", "i16<9>[8] = positions", "takes i32, got i16<0>[1]"),
        ("i32<0>[1]", "i32<9>[8] = positions", "has type i32<9>[8], expected i16<9>[8]"),
        ("acc<3>[8]", "i32<5>[8] = shift {left=2}", "takes i16 or i32, got acc<3>[8]"),
        ("i16<3>[8]", "i16<5>[8] = shift {left=2}", "has type i16<5>[8], expected i32<5>[8]"),
        ("i16<3>[8]", "i32<1>[8] = shift {left=-2}", "shifts left by -2, expected 0 or more"),
        ("i16<3>[8]", "i32<5>[7] = shift {left=2}", "has type i32<5>[7], expected i32<5>[8]"),
        ("i32<3>[8]", "i32<24>[8] = normalise {channels=3}", "normalises 3 channels at a time of i32<3>[8]"),
        ("i32<3>[8]", "i32<23>[8] = normalise", "has type i32<23>[8], expected i32<24>[8]"),
        ("acc<3>[8]", "i32<24>[8] = normalise {channels=0}", "takes i32, got acc<3>[8]"),
        ("acc<3>[8]", "i32<12>[8] = gain", "takes i32, got acc<3>[8]"),
        ("i32<3>[8]", "i32<12>[4] = norm", "has type i32<12>[4], expected i32<12>[8]"),
        ("acc<12>[8]", "spikes<12>[8] = encode", "takes i32, got acc<12>[8]"),
        ("i32<12>[8]", "spikes<11>[8] = encode", "has type spikes<11>[8], expected spikes<12>[8]"),
        ("i32<12>[8]", "i32<12>[8] = encode", "has type i32<12>[8], expected spikes<12>[8]"),
        ("i32<12>[8]", "spikes<12>[9] = encode", "has type spikes<12>[9], expected spikes<12>[8]"),
        ("acc<12>[8]", "acc<12>[5] = matmul", "takes i32 or spikes, got acc<12>[8]"),
        ("i32<12>[8]", "i32<12>[5] = matmul", "has type i32<12>[5], expected acc<12>[5]"),
        ("i32<12>[8]", "acc<11>[5] = matmul", "has type acc<11>[5], expected acc<12>[5]"),
        ("i32<12>[8]", "acc<12>[5x1] = matmul", "has type acc<12>[5x1], expected acc<12>[5]"),
        ("i32<12>[5]", "i32<3>[5] = scale", "takes acc, got i32<12>[5]"),
        ("acc<12>[5]", "acc<3>[5] = scale", "has type acc<3>[5], expected i32<3>[5]"),
        ("acc<12>[5]", "wide<3>[6] = scale", "has type wide<3>[6], expected wide<3>[5]"),
        ("i32<3>[5]", "i32<3>[5] = bias", "takes wide, got i32<3>[5]"),
        ("wide<3>[5]", "i32<4>[5] = bias", "has type i32<4>[5], expected i32<3>[5]"),
        ("i32<3>[5]", "i32<9>[6] = linear {columns=6}", "takes spikes, got i32<3>[5]"),
        ("spikes<3>[5]", "i32<9>[3] = linear {columns=6}", "has type i32<9>[3], expected i32<9>[6]"),
        ("spikes<3>[5]", 'i32<9>[6] = linear {columns=6, epilogue="gate"}', "has type i32<9>[6], expected i32<9>[3]"),
        ("spikes<3>[5]", 'i32<9>[1] = linear {columns=6, epilogue="argmax"}', "has type i32<9>[1], expected i32<0>[1]"),
        ("spikes<3>[5]", 'i32<9>[1] = linear {columns=6, epilogue="sum"}', "has epilogue 'sum', expected one of gate, argmax"),
        ("spikes<3>[5]", "i32<9>[6] = linear {columns=6, regions=[3, 4]}", "has regions of 7 columns together, expected 6"),
        ("spikes<3>[5]", "i32<9>[6] = linear {columns=6, tiles=[3]}", "has tiles, but not one for each region"),
        ("spikes<3>[5]", "i32<9>[6] = linear {columns=6, regions=[3, 3], tiles=[3]}", "has tiles, but not one for each region"),
        ("spikes<3>[5]", "i32<9>[6] = linear {columns=6, regions=[3, 3], tiles=[5, 5]}", "has two regions on one tile"),
        ("i32<3>[8]", "i32<3>[5] = slice {start=4}", "takes elements 4..8 of i32<3>[8]"),
        ("i32<3>[8]", "i32<3>[5] = slice {start=-1}", "takes elements -1..3 of i32<3>[8]"),
        ("acc<3>[8]", "i32<3>[5] = slice {start=3}", "takes i32, got acc<3>[8]"),
        ("i32<3>[8]", "i32<4>[5] = slice {start=3}", "has type i32<4>[5], expected i32<3>[5]"),
        ("i32<3>[9]", "i32<3>[9] = rope {head_dim=3, rotated=9}", "rotates 9 elements of i32<3>[9] in heads of 3"),
        ("i32<3>[8]", "i32<3>[8] = rope {head_dim=4, rotated=6}", "rotates 6 elements of i32<3>[8] in heads of 4"),
        ("i32<3>[8]", "i32<3>[8] = rope {head_dim=4, rotated=12}", "rotates 12 elements of i32<3>[8] in heads of 4"),
        ("acc<3>[8]", "i32<3>[8] = rope {head_dim=4, rotated=8}", "takes i32, got acc<3>[8]"),
        ("i32<3>[8]", "i32<4>[8] = rope {head_dim=4, rotated=8}", "has type i32<4>[8], expected i32<3>[8]"),
        (
            "i32<3>[8] i32<3>[9]",
            f"cache<3>[2x4] = kv_write {HEADS}",
            "takes keys and values of 8 elements each, got i32<3>[8], i32<3>[9]",
        ),
        ("i32<3>[15]", f"cache<3>[2x4] = kv_write {HEADS}", "takes keys and values of 8 elements each, got i32<3>[15]"),
        ("acc<3>[16]", f"cache<3>[2x4] = kv_write {HEADS}", "takes i32, got acc<3>[16]"),
        ("i32<3>[16]", f"cache<4>[2x4] = kv_write {HEADS}", "has type cache<4>[2x4], expected cache<3>[2x4]"),
        ("i32<3>[16]", f"cache<3>[4x2] = kv_write {HEADS}", "has type cache<3>[4x2], expected cache<3>[2x4]"),
        ("acc<3>[16] cache<3>[2x4]", "i32<9>[16] = attention {heads=4}", "takes i32, got acc<3>[16]"),
        ("i32<3>[16] i32<3>[2x4]", "i32<9>[16] = attention {heads=4}", "takes cache, got i32<3>[2x4]"),
        (
            "i32<3>[16] cache<3>[2x4]",
            "i32<9>[12] = attention {heads=3}",
            "has 3 heads of 4 over 2 key/value heads, got i32<3>[16]",
        ),
        (
            "i32<3>[15] cache<3>[2x4]",
            "i32<9>[16] = attention {heads=4}",
            "has 4 heads of 4 over 2 key/value heads, got i32<3>[15]",
        ),
        ("i32<3>[16] cache<3>[2x4]", "i32<9>[4x4] = attention {heads=4}", "has type i32<9>[4x4], expected i32<9>[16]"),
        ("i32<3>[8] i32<4>[8]", "i32<3>[8] = add", "adds i32<3>[8] and i32<4>[8]"),
        ("acc<3>[8] acc<3>[8]", "acc<3>[8] = add", "takes i32, got acc<3>[8]"),
        ("i32<3>[8] i32<3>[8]", "i32<4>[8] = add", "has type i32<4>[8], expected i32<3>[8]"),
        ("i32<3>[7]", "i32<9>[3] = gate", "needs as many gate as up values, got i32<3>[7]"),
        ("acc<3>[8]", "i32<9>[4] = gate", "takes i32, got acc<3>[8]"),
        ("i32<3>[8]", "i32<9>[8] = gate", "has type i32<9>[8], expected i32<9>[4]"),
        ("acc<3>[8]", "i32<9>[8] = activate", "takes i32, got acc<3>[8]"),
        ("i32<3>[8]", "i32<9>[4] = activate", "has type i32<9>[4], expected i32<9>[8]"),
        ("i32<3>[8]", "i32<3>[8] = soft_cap {cap=[1, 2]}", "has a cap of 2 numbers, expected limit, multiplier and shift"),
        ("acc<3>[8]", "i32<3>[8] = soft_cap {cap=[1, 2, 3]}", "takes i32, got acc<3>[8]"),
        ("i32<3>[8]", "i32<4>[8] = soft_cap {cap=[1, 2, 3]}", "has type i32<4>[8], expected i32<3>[8]"),
        ("acc<3>[8]", "i32<0>[1] = argmax", "takes i32, got acc<3>[8]"),
        ("i32<3>[8]", "i32<3>[1] = argmax", "has type i32<3>[1], expected i32<0>[1]"),
        ("i32<3>[8]", "i32<0>[2] = argmax", "has type i32<0>[2], expected i32<0>[1]"),
    ],
)
def test_refused(operands: str, node: str, message: str) -> None:
    assert fault(operands, node) == message


def test_registered_attributes_keep_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = Operation((1,), ("colour",), (), lambda _node, _types: None)
    types: dict[str, type] = {"stop": str}
    monkeypatch.setattr(module, "ATTRIBUTE_TYPES", types)
    monkeypatch.setattr(OPERATIONS, "register", lambda name, entry: seen.append((name, entry)))
    seen: list[tuple[str, Operation]] = []
    register_operation("paint", operation, {"colour": str})
    register_operation("plain", operation)
    assert seen == [("paint", operation), ("plain", operation)]
    with pytest.raises(UsageError) as caught:
        register_operation("paint", operation, {"stop": int})
    assert str(caught.value) == "the attribute 'stop' has another type already; choose another name"
    assert types == {"stop": str, "colour": str}


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("i8", (1,), "unknown element kind 'i8'; known: i16, i32, wide, spikes, acc, cache"),
        ("i16", (), "a shape needs positive sizes, got []"),
        ("i16", (2, 0), "a shape needs positive sizes, got [2, 0]"),
    ],
)
def test_types_that_cannot_be(kind: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        ValueType(kind, 0, shape)
    assert str(caught.value) == message
