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
  %again: i32<1>[2] = double(%doubled)
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


def operations(*names: str) -> Registry[EngineOperation]:
    """An engine on lists of integers."""
    known = {
        "embedding": EngineOperation(
            lambda context, own, state, token: [token, own], lambda engine, node, types: engine + node.integer("vocab") + len(types)
        ),
        "double": EngineOperation(doubled, empty=lambda engine, node, size: [engine, node.name, size], in_place=True),
        "add": EngineOperation(lambda context, own, state, a, b: [x + y for x, y in zip(a, b, strict=True)]),
    }
    return Registry("operation of lists", [(name, known[name]) for name in names or known])


def test_plans_and_their_values() -> None:
    host, first, last = stage_plans(100, GRAPH, operations(), list)
    assert [node.name for node in first.nodes] == ["doubled", "again", "sum"]
    assert [step.operands for step in first.steps] == [(0,), (1,), (0, 2)]
    assert [step.dead for step in first.steps] == [(), (1,), (0, 2)]
    assert [step.stateful for step in first.steps] == [True, True, False]
    assert (host.parameters, first.parameters) == ((108,), (None, None, None))
    assert (host.states, first.states, last.states) == (0, 2, 1)
    states = first.new_states("engine", 9)
    assert states == [["engine", "doubled", 9], ["engine", "again", 9]]
    row = run_steps(host.steps, "context", host.parameters, [], 3)
    assert row == [3, 108]
    assert run_steps(first.steps, "context", first.parameters, states, row) == [3 + 12, 108 + 432]
    assert row == [3, 108]  # the first doubling works on a copy
    assert [state[-1] for state in states] == ["context", "context"]
    received = [1, 2]
    assert run_steps(last.steps, None, last.parameters, [[]], received) == [2, 4]
    assert received == [2, 4]  # nobody reads it again


def test_an_operation_that_the_engine_has_not() -> None:
    with pytest.raises(UsageError, match="unknown operation of lists 'add'"):
        stage_plans(100, GRAPH, operations("embedding", "double"), list)
