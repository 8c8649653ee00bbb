"""Instruction selection: the vector tiles' programs of a fused graph, and proof that the tiles' memories hold what each node reads."""

from __future__ import annotations

from collections.abc import Mapping

from neuromorphic_llm.chip.instruction import RESIDUAL, SPIKES, WORK, Instruction, Scope
from neuromorphic_llm.chip.instructions import ReceiveResidual, Send, SendToken, kinds_by_operation
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.ir import HOST, Graph, Node
from neuromorphic_llm.reference.config import DecoderConfig

HOST_OPERATIONS = ("token", "embedding")
"""Operations of the host tile."""

StageProgram = tuple[Instruction, ...]

_ADVICE = "the chip has no unit for this flow of values, so run this network in the functional simulation"


def select_programs(graph: Graph, config: DecoderConfig) -> tuple[StageProgram, ...]:
    """Program of every stage: receive the residual stream, one instruction per node, send on.

    CompileError for a node that no unit executes, or one whose operand is not in the place that its unit reads.
    """
    for name, users in graph.users().items():
        if not users and name != graph.result:
            raise CompileError(f"%{name} = {graph.node(name).operation} is used by nothing; take it out of the graph, or use it")
    scope, kinds = Scope(graph.by_name(), config), kinds_by_operation()
    last = graph.stages - 1
    stages: dict[int, list[Node]] = {stage: [] for stage in range(HOST, last + 1)}
    for node in graph.nodes:
        stages[node.stage].append(node)
    residual = ""
    for node in stages.pop(HOST):
        if node.operation not in HOST_OPERATIONS:
            raise _no_unit(node)
        residual = node.name
    programs: list[StageProgram] = []
    for stage, nodes in stages.items():
        size = scope.defined[residual].type.size
        body, places = _stage(nodes, residual, scope, kinds)
        residual = places[RESIDUAL]
        end: Instruction = Send(size, wanted=stage == last - 1)
        if stage == last:
            _check_place(places, WORK, graph.result, SendToken.name)
            end = SendToken()
        programs.append((ReceiveResidual(size), *body, end))
    return tuple(programs)


def _no_unit(node: Node) -> CompileError:
    return CompileError(f"%{node.name} = {node.operation} has no unit that executes it; fold it into one that has")


def _stage(
    nodes: list[Node], residual: str, scope: Scope, kinds: Mapping[str, type[Instruction]]
) -> tuple[list[Instruction], dict[str, str]]:
    """Instructions of the nodes of a stage, and the value that each place of its tile holds behind them."""
    places = {RESIDUAL: residual}
    program = []
    for node in nodes:
        kind = kinds.get(node.operation)
        if kind is None or len(kind.reads) != len(node.operands):
            raise _no_unit(node)
        if SPIKES in places and SPIKES not in kind.reads:
            raise CompileError(f"%{node.name} = {node.operation} comes between %{places[SPIKES]} and the results of its site; {_ADVICE}")
        for place, operand in zip(kind.reads, node.operands, strict=True):
            _check_place(places, place, operand, f"%{node.name} = {node.operation}")
        if kind.uses_up:
            for place in kind.reads:
                del places[place]
        places[kind.writes] = node.name
        program.append(kind.of(node, scope))
    return program, places


def _check_place(places: Mapping[str, str], place: str, operand: str, reader: str) -> None:
    """CompileError unless a place holds the operand that is read from it."""
    if places.get(place) != operand:
        held = f"holds %{places[place]}" if place in places else "is empty"
        raise CompileError(f"{reader} reads %{operand} from the {place}, which {held} there; {_ADVICE}")
