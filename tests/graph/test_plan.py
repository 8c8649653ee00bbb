"""Plans of engines: places of operands, the life of values, parameters, states, copies of what others still read."""

from __future__ import annotations

from typing import Any

import pytest

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.graph.plan import EngineOperation, run_steps, stage_plans
from neuromorphic_llm.graph.text import parse_graph
from neuromorphic_llm.registry import Registry

GRAPH = parse_graph("""graph {
host:
  %token: i32<0>[1] = token()
  %row: i32<1>[2] = embedding(%token) {vocab=7}
stage 0:
  %doubled: i32<1>[2] = double(%row)
  %again: i32<1>[2] = add(%row, %doubled)
  %sum: i32<1>[2] = add(%row, %again)
stage 1:
  %last: i32<1>[2] = double(%sum)
  return %last
}""")


def doubled(context: Any, own: Any, state: Any, x: list[int]) -> list[int]:
    """Doubles in place and counts its calls."""
    state.append(context)
    x[:] = [2 * each for each in x]
    return x


def raised(_context: Any, own: int, _state: Any, x: list[int], y: list[int]) -> list[int]:
    """Adds in place."""
    x[:] = [a + b + own for a, b in zip(x, y, strict=True)]
    return x


def operations(*names: str) -> Registry[EngineOperation]:
    """An engine on lists of integers."""
    known = {
        "embedding": EngineOperation(
            lambda _context, own, _state, token: [token, own], lambda engine, node, types: engine + node.integer("vocab") + len(types)
        ),
        "double": EngineOperation(doubled, empty=lambda engine, node, size: [engine, node.name, size], in_place=True),
        "add": EngineOperation(raised, lambda _engine, _node, types: len(types), in_place=True),
    }
    return Registry("operation of lists", [(name, known[name]) for name in names or known])


def test_plans_and_their_values() -> None:
    host, first, last = stage_plans(100, GRAPH, operations(), list)
    assert [node.name for node in first.nodes] == ["doubled", "again", "sum"]
    assert [step.operands for step in first.steps] == [(0,), (0, 1), (0, 1)]
    assert [step.value for step in first.steps] == [1, 1, 1]  # the operand that dies gives its place
    assert [step.stateful for step in first.steps] == [True, False, False]
    assert (host.parameters, first.parameters) == ((108,), (None, 2, 2))
    assert (host.states, first.states, last.states) == (0, 1, 1)
    states = first.new_states("engine", 9)
    assert states == [["engine", "doubled", 9]]
    row = run_steps(host.steps, "context", host.parameters, [], 3)
    assert row == [3, 108]
    sums = run_steps(first.steps, "context", first.parameters, states, row)
    assert sums == [4 * 3 + 4, 4 * 108 + 4]
    assert sums is row  # both operations before the last worked on copies of it
    assert states == [["engine", "doubled", 9, "context"]]
    received = [1, 2]
    assert run_steps(last.steps, None, last.parameters, [[]], received) == [2, 4]
    assert received == [2, 4]  # nobody reads it again


def test_an_operation_that_the_engine_has_not() -> None:
    with pytest.raises(UsageError, match="unknown operation of lists 'add'"):
        stage_plans(100, GRAPH, operations("embedding", "double"), list)
