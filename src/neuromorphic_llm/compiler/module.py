"""Module that the passes transform: the graph with its constants and chip, and the results of earlier passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.instruction import Instruction
from neuromorphic_llm.chip.program import Region, Stage
from neuromorphic_llm.chip.routes import Route
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.graph.ir import Graph, Node
from neuromorphic_llm.graph.text import print_graph
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.weights import DecoderWeights


@dataclass(frozen=True)
class RouteTable:
    """Routes in the order of formats.md, with their output ports."""

    routes: tuple[Route, ...]
    masks: NDArray[np.uint8]  # [routes, tiles]


@dataclass(frozen=True)
class Buffer:
    """A value's place in the vector memory of its stage."""

    value: str
    offset: int
    size: int


@dataclass(frozen=True)
class MemoryPlan:
    """Memory plan of a program, in bytes."""

    max_context: int
    buffers: tuple[tuple[Buffer, ...], ...]  # per stage
    vector_memory: tuple[int, ...]  # per stage: constants, incoming residuals and buffers
    sram: dict[str, int]  # by use, over the whole chip
    dram: dict[str, int]  # by use


@dataclass(frozen=True)
class Module:
    """A network on its way to a program: `graph` carries regions and tiles as attributes, the rest is filled in by later passes."""

    graph: Graph
    weights: DecoderWeights
    spec: ChipSpec
    routes: RouteTable | None = None
    programs: tuple[tuple[Instruction, ...], ...] = ()
    memory: MemoryPlan | None = None


class CompilerPass(Protocol):
    """A pass: a frozen dataclass with a kebab-case name; its fields are its options."""

    @property
    def name(self) -> str:
        """Kebab-case name."""

    def apply(self, module: Module) -> Module:
        """The transformed module; CompileError if it cannot be done."""


def regions_of(node: Node, site: Site) -> tuple[Region, ...]:
    """Regions of the placed linear node of a site."""
    regions, first = [], 0
    for columns, tile in zip(node.integers("regions"), node.integers("tiles"), strict=True):
        outputs = columns // site.columns_per_output
        regions.append(Region(site=site.index, tile=tile, first_output=first, outputs=outputs, columns=columns))
        first += outputs
    return tuple(regions)


def stages_of(module: Module) -> tuple[Stage, ...]:
    """Stages of a placed module, with their vector programs once they are scheduled."""
    linear = module.graph.linear_nodes()
    stages = []
    for number, tile in enumerate(module.graph.vector_tiles):
        nodes = [node for node in linear if node.stage == number]
        sites = [module.weights.config.site(str(node.attributes["site"])) for node in nodes]
        stages.append(
            Stage(
                vector_tile=tile,
                sites=tuple(site.index for site in sites),
                regions=tuple(regions_of(node, site) for node, site in zip(nodes, sites, strict=True)),
                program=module.programs[number] if module.programs else (),
            )
        )
    return tuple(stages)


def print_module(module: Module) -> str:
    """Text of a module: its graph, then routes, vector programs and memory as far as they exist."""
    text = print_graph(module.graph)
    if module.routes is not None:
        lines = [f"  {r.kind} {r.label}: {r.source} -> {', '.join(map(str, r.destinations))}" for r in module.routes.routes]
        text += "\n".join(["routes {", *lines, "}"]) + "\n"
    if module.programs:
        lines = [f"  stage {number}: {'; '.join(map(str, program))}" for number, program in enumerate(module.programs)]
        text += "\n".join(["programs {", *lines, "}"]) + "\n"
    if module.memory is not None:
        lines = [f"  context {module.memory.max_context}"]
        for number, buffers in enumerate(module.memory.buffers):
            lines += [f"  stage {number} %{buffer.value}: {buffer.offset}..{buffer.offset + buffer.size - 1}" for buffer in buffers]
        text += "\n".join(["memory {", *lines, "}"]) + "\n"
    return text
