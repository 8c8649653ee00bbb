"""Plan of an engine: a graph as steps that run one after another, stage by stage (docs/reference/graph.md).

An engine brings a table of its operations; the order, the operands and the life of every value come from the graph. Stages of the same
structure have equal steps and differ in their parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuromorphic_llm.graph.ir import HOST, Graph, Node, ValueType
from neuromorphic_llm.registry import Registry

Types = tuple[ValueType, ...]


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class EngineOperation:
    """An operation as an engine executes it.

    run(context, parameters, state, *operands): its value.
    bind(engine, node, types of its operands): its parameters.
    empty(engine, node, ...): its state at the start of a sequence; None for an operation without one.
    in_place: it may write its value over its first operand.
    """

    run: Callable[..., Any]
    bind: Callable[[Any, Node, Types], Any] = _nothing
    empty: Callable[..., Any] | None = None
    in_place: bool = False


@dataclass(frozen=True)
class PlanStep:
    """One operation of a stage: places of its operands among the stage's values, and the values that nothing reads after it."""

    operation: EngineOperation
    operands: tuple[int, ...]
    dead: tuple[int, ...]


@dataclass
class StagePlan:
    """Steps of a stage with their parameters; value 0 is what the stage receives, and value n + 1 that of step n."""

    steps: tuple[PlanStep, ...]
    nodes: tuple[Node, ...]
    parameters: list[Any]

    @property
    def stateful(self) -> list[int]:
        """Numbers of the steps that have a state."""
        return [number for number, step in enumerate(self.steps) if step.operation.empty is not None]

    def attributes(self, operation: str, name: str) -> tuple[Any, ...]:
        """An attribute of the nodes of an operation, in order."""
        return tuple(node.attributes[name] for node in self.nodes if node.operation == operation)


def stage_plans(engine: Any, graph: Graph, operations: Registry[EngineOperation], copy: Callable[[Any], Any]) -> list[StagePlan]:
    """Plans of the host and of every stage, in order; their operations copy by `copy` what they may not write over.

    The table's error for an operation that the engine has not.
    """
    last_use = {operand: node.name for node in graph.nodes for operand in node.operands}
    types = {node.name: node.type for node in graph.nodes}
    plans, received = [], "token"
    for stage in range(HOST, graph.stages):
        nodes = [node for node in graph.nodes if node.stage == stage and node.operation != "token"]
        places = {received: 0} | {node.name: place for place, node in enumerate(nodes, 1)}
        steps = tuple(_step(node, operations[node.operation], places, last_use, copy) for node in nodes)
        bound = [
            step.operation.bind(engine, node, tuple(types[operand] for operand in node.operands))
            for step, node in zip(steps, nodes, strict=True)
        ]
        plans.append(StagePlan(steps, tuple(nodes), bound))
        received = nodes[-1].name
    return plans


def _step(
    node: Node, operation: EngineOperation, places: Mapping[str, int], last_use: Mapping[str, str], copy: Callable[[Any], Any]
) -> PlanStep:
    operands = tuple(places[operand] for operand in node.operands)
    dead = tuple(places[operand] for operand in dict.fromkeys(node.operands) if last_use[operand] == node.name)
    if operation.in_place and operands[0] not in dead:
        operation = EngineOperation(_CopyFirst(operation.run, copy), operation.bind, operation.empty)
    return PlanStep(operation, operands, dead)


@dataclass(frozen=True)
class _CopyFirst:
    """An operation that works on a copy of its first operand, which others still read."""

    run: Callable[..., Any]
    copy: Callable[[Any], Any]

    def __call__(self, context: Any, own: Any, state: Any, first: Any, *others: Any) -> Any:
        return self.run(context, own, state, self.copy(first), *others)


def run_steps(steps: Sequence[PlanStep], context: Any, parameters: Sequence[Any], states: Sequence[Any], received: Any) -> Any:
    """Value of the last of these steps; `states` has those of the steps that have one, in order."""
    values: list[Any] = [received]
    left = iter(states)
    for step, own in zip(steps, parameters, strict=True):
        operands = [values[place] for place in step.operands]
        for place in step.dead:
            values[place] = None
        state = None if step.operation.empty is None else next(left)
        values.append(step.operation.run(context, own, state, *operands))
    return values[-1]
