"""Plan of the functional simulation: the graph of a network as steps over tensors, stage by stage (docs/reference/graph.md).

Stages of the same structure have the same steps, so that a GPU compiles them once; what differs between them are the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.graph.ir import Graph, Node, ValueType
from neuromorphic_llm.graph.rewrite import fuse_linear, fuse_norms, replaced, stacked
from neuromorphic_llm.network.cache import State
from neuromorphic_llm.network.operations import AttentionResult, Rows
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.weights import DecoderWeights

if TYPE_CHECKING:
    from neuromorphic_llm.network.functional import FunctionalDecoder


@dataclass
class StageRun:
    """Rows of tokens on their way through one stage, and what it counts."""

    decoder: FunctionalDecoder
    rows: Rows
    observed: tuple[int, ...] | None = None  # sites of the stage, for an observer
    spikes: list[torch.Tensor] = field(default_factory=list)  # of its sites, int64 [rows]
    attention: list[AttentionResult] = field(default_factory=list)


Bind = Callable[["FunctionalDecoder", Node, tuple[ValueType, ...]], Any]
Run = Callable[..., torch.Tensor]
Empty = Callable[["FunctionalDecoder", Node, int, int], State]


@dataclass(frozen=True)
class FunctionalOperation:
    """An operation over tensors.

    bind(decoder, node, types of its operands): its parameters, tensors where they differ between layers.
    run(stage run, parameters, state, *operands): its value int32 [rows, size].
    empty(decoder, node, slots, tokens): its state; None for an operation that has none.
    in_place: it may write its value over its first operand.
    """

    run: Run
    bind: Bind = lambda *_: None
    empty: Empty | None = None
    in_place: bool = False


OPERATIONS: dict[str, FunctionalOperation] = {}
"""Every operation of the functional simulation by name."""


def register(name: str, operation: FunctionalOperation) -> None:
    """Make an operation known; UsageError if it is."""
    if OPERATIONS.setdefault(name, operation) is not operation:
        raise UsageError(f"the functional simulation has an operation {name!r} already; choose another name")


@dataclass(frozen=True)
class PlanStep:
    """One operation of a stage: places of its operands among the stage's values, and the values that nothing reads after it."""

    operation: str
    operands: tuple[int, ...]
    dead: tuple[int, ...]


@dataclass
class StagePlan:
    """Steps of a stage with their parameters; value 0 is what the stage receives."""

    steps: tuple[PlanStep, ...]
    parameters: list[Any]
    states: list[Node | None]  # nodes that have a state, step by step
    sites: tuple[int, ...]
    attention: tuple[int, ...]  # layers of its attention results


def planned_graph(weights: DecoderWeights) -> Graph:
    """Graph of a network as the functional simulation runs it: up to its logits, with fused norms, linear layers and attention."""
    graph = build_graph(weights)
    last = graph.node(graph.result)
    graph = replace(graph.with_nodes(graph.nodes[:-1]), result=last.operands[0])
    return _fuse_attention(fuse_linear(fuse_norms(graph, grouped=True)))


def _fuse_attention(graph: Graph) -> Graph:
    """Rotary embedding, key/value memory and attention as one `self_attention` of queries, keys and values, or of the vector of all."""
    defined = graph.by_name()
    new: dict[str, Node | None] = {}
    for attention in (node for node in graph.nodes if node.operation == "attention"):
        query, cache = (defined[operand] for operand in attention.operands)
        key, value = (defined[operand] for operand in cache.operands)
        parts = [defined[query.operands[0]], defined[key.operands[0]], value]
        whole = stacked(parts)
        if query.operation != "rope" or query.attributes.get("table") != key.attributes.get("table"):
            raise SimulationError(f"%{attention.name} = attention of queries and keys without a common rotation cannot be run")
        new |= {node.name: None for node in (query, key, cache, *(parts if whole else ()))}
        operands = (whole,) if whole else tuple(part.name for part in parts)
        attributes = {**query.attributes, **cache.attributes, **attention.attributes}
        new[attention.name] = replace(attention, operation="self_attention", operands=operands, attributes=attributes)
    return replaced(graph, new)


def stage_plans(decoder: FunctionalDecoder, graph: Graph) -> list[StagePlan]:
    """Plans of the host and of every stage, in order. SimulationError for an operation that the functional simulation has not."""
    last_use = {operand: node.name for node in graph.nodes for operand in node.operands}
    types = {node.name: node.type for node in graph.nodes}
    plans = []
    received = "token"
    for stage in range(-1, graph.stages):
        nodes = [node for node in graph.nodes if node.stage == stage and node.operation != "token"]
        plans.append(_stage_plan(decoder, nodes, received, last_use, types))
        received = nodes[-1].name
    return plans


def _stage_plan(
    decoder: FunctionalDecoder, nodes: list[Node], received: str, last_use: dict[str, str], types: dict[str, ValueType]
) -> StagePlan:
    places = {received: 0} | {node.name: place for place, node in enumerate(nodes, 1)}
    plan = StagePlan((), [], [], (), ())
    config = decoder.config
    for node in nodes:
        operation = OPERATIONS.get(node.operation)
        if operation is None:
            raise SimulationError(f"%{node.name} = {node.operation} is no operation of the functional simulation; register one")
        dead = tuple(places[operand] for operand in dict.fromkeys(node.operands) if last_use[operand] == node.name)
        plan.steps += (PlanStep(node.operation, tuple(places[operand] for operand in node.operands), dead),)
        plan.parameters.append(operation.bind(decoder, node, tuple(types[operand] for operand in node.operands)))
        plan.states.append(node if operation.empty else None)
        if node.operation == "linear":
            plan.sites += (config.site(str(node.attributes["site"])).index,)
        if node.operation == "self_attention":
            plan.attention += (node.stage,)
    return plan


def run_steps(
    run: StageRun, steps: tuple[PlanStep, ...], parameters: list[Any], states: list[State | None], received: torch.Tensor
) -> torch.Tensor:
    """Value of a stage's last step."""
    values: list[Any] = [received]
    for step, own, state in zip(steps, parameters, states, strict=True):
        operation = OPERATIONS[step.operation]
        operands = [values[place] for place in step.operands]
        if operation.in_place and step.operands[0] not in step.dead:
            operands[0] = operands[0].clone()
        for place in step.dead:
            values[place] = None
        values.append(operation.run(run, own, state, *operands))
    result: torch.Tensor = values[-1]
    return result
