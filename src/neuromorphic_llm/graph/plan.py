"""Plan of an engine: a graph as steps that run one after another, stage by stage (docs/reference/graph.md).

An engine brings a table of its operations; the order, the operands and the life of every value come from the graph. Stages of the same
structure have equal steps and differ in their parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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


class PlanStep(NamedTuple):
    """Operation of a stage: its function, and the places of its operands and of its value."""

    run: Callable[..., Any]
    operands: tuple[int, ...]
    value: int
    stateful: bool


@dataclass(frozen=True)
class StagePlan:
    """Steps of a stage with their parameters; what the stage receives is in place 0."""

    steps: tuple[PlanStep, ...]
    nodes: tuple[Node, ...]
    parameters: tuple[Any, ...]
    empties: tuple[Callable[..., Any] | None, ...]  # of each step that has a state, the function that makes it

    @property
    def states(self) -> int:
        """Number of steps that have a state."""
        return sum(step.stateful for step in self.steps)

    def new_states(self, engine: Any, *sizes: int) -> list[Any]:
        """States at the start of a sequence, of the steps that have one; sizes: as the engine's operations take them."""
        return [empty(engine, node, *sizes) for empty, node in zip(self.empties, self.nodes, strict=True) if empty is not None]


def stage_plans(engine: Any, graph: Graph, operations: Registry[EngineOperation], copy: Callable[[Any], Any]) -> list[StagePlan]:
    """Plans of the host and of every stage, in order; their operations copy by `copy` what they may not write over.

    The table's error for an operation that the engine has not.
    """
    last_use = {operand: node.name for node in graph.nodes for operand in node.operands}
    types = {node.name: node.type for node in graph.nodes}
    plans, received = [], "token"
    for stage in range(HOST, graph.stages):
        nodes = [node for node in graph.nodes if node.stage == stage and node.operation != "token"]
        places = _Places(last_use, {received: 0})
        found = [operations[node.operation] for node in nodes]
        pairs = list(zip(found, nodes, strict=True))
        steps = tuple(_step(node, operation, places, copy) for operation, node in pairs)
        bound = tuple(operation.bind(engine, node, tuple(types[operand] for operand in node.operands)) for operation, node in pairs)
        plans.append(StagePlan(steps, tuple(nodes), bound, tuple(operation.empty for operation in found)))
        received = nodes[-1].name
    return plans


@dataclass
class _Places:
    """Places of the values of a stage; one whose value nothing reads any more is taken again, so that the value is let go."""

    last_use: Mapping[str, str]
    taken: dict[str, int]
    free: list[int] = field(default_factory=list)

    def dies(self, value: str, node: Node) -> bool:
        """True if nothing reads the value after this node."""
        return self.last_use[value] == node.name

    def place(self, node: Node) -> int:
        """Place of a node's value, that of an operand which dies with it if there is one."""
        self.free += [self.taken.pop(operand) for operand in dict.fromkeys(node.operands) if self.dies(operand, node)]
        self.taken[node.name] = place = self.free.pop() if self.free else len(self.taken)
        return place


def _step(node: Node, operation: EngineOperation, places: _Places, copy: Callable[[Any], Any]) -> PlanStep:
    operands = tuple(places.taken[operand] for operand in node.operands)
    kept = operation.in_place and not places.dies(node.operands[0], node)
    run = _CopyFirst(operation.run, copy) if kept else operation.run
    return PlanStep(run, operands, places.place(node), operation.empty is not None)


@dataclass(frozen=True)
class _CopyFirst:
    """An operation that works on a copy of its first operand, which others still read."""

    run: Callable[..., Any]
    copy: Callable[[Any], Any]

    def __call__(self, context: Any, own: Any, state: Any, first: Any, *others: Any) -> Any:
        return self.run(context, own, state, self.copy(first), *others)


def run_steps(steps: Sequence[PlanStep], context: Any, parameters: Sequence[Any], states: Sequence[Any], received: Any) -> Any:
    """Value of the last of these steps; `states` has those of the steps that have one, in order."""
    values = {0: received}
    value, left = received, iter(states)
    for (run, operands, place, stateful), own in zip(steps, parameters, strict=True):
        state = next(left) if stateful else None
        # Most operations have one operand: a list for it would take longer than the rest of this loop.
        if len(operands) == 1:
            value = run(context, own, state, values[operands[0]])
        else:
            value = run(context, own, state, *[values[operand] for operand in operands])
        values[place] = value
    return value
