"""Program folders: save and load a network placed on a chip (docs/reference/formats.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.artefact import Arrays, load_artefact, read_files, save_artefact
from neuromorphic_llm.chip.fusion import fused_graph, with_encoders
from neuromorphic_llm.chip.program import Program, Region, Stage, longest_context, route_ranges
from neuromorphic_llm.chip.routes import routes_of
from neuromorphic_llm.chip.selection import select_programs
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.chip.units import missing_units, other_readout
from neuromorphic_llm.errors import ArtefactError, CompileError
from neuromorphic_llm.graph.ir import Graph
from neuromorphic_llm.network.format import decoder_weights, scalar_metadata, stored_readout, weight_arrays
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.config import DecoderConfig

FORMAT = "neuromorphic-llm-program"
VERSION = 3
"""1: programs without key offsets; 2: with them; 3: the chip in sections. All are loaded."""


def save_program(program: Program, folder: Path | str) -> str:
    """Write a program folder atomically; returns its content hash. ArtefactError if `folder` holds something else."""
    config = program.weights.config
    arrays = weight_arrays(program.weights)
    for index, weight_t in enumerate(program.weights_t):
        name = config.sites[index].name
        del arrays[f"{name}.weight"]
        arrays[f"{name}.weight_t"] = weight_t
    arrays |= {"route_masks": program.route_masks, "route_sources": program.route_sources}
    metadata = {
        **scalar_metadata(program.weights, "all"),
        "spec": program.spec.to_json(),
        "network_hash": program.network_hash,
        "max_context": program.max_context,
        "stages": [_stage_to_json(stage, config) for stage in program.stages],
        "report": program.report,
    }
    files = {f"tokenizer/{name}": content for name, content in program.tokenizer_files.items()}
    return save_artefact(folder, format_name=FORMAT, version=VERSION, metadata=metadata, arrays=arrays, extra_files=files)


def load_program(folder: Path | str) -> Program:
    """Load a program folder; ArtefactError if it is missing, damaged, inconsistent or newer.

    What is loaded can be simulated: every tile, route, size and shape is checked, since whoever forges them can forge the hash too.
    """
    metadata, arrays = load_artefact(folder, format_name=FORMAT, version=VERSION)
    source = str(folder)
    try:
        stored_readout(metadata, source)  # before the chip, whose field may have known values only
        spec = ChipSpec.from_json(metadata["spec"], f"{folder}: spec")
        config = DecoderConfig.from_json(metadata["config"], source)
        stages = tuple(_stage_from_json(entry, number, config) for number, entry in enumerate(metadata["stages"]))
        weights_t = tuple(arrays[f"{site.name}.weight_t"] for site in config.sites)
        masks, sources, max_context = arrays["route_masks"], arrays["route_sources"], metadata["max_context"]
        network_hash, report = str(metadata["network_hash"]), dict(metadata["report"])
    except (KeyError, TypeError, ValueError, CompileError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ArtefactError(f"{folder}: not a complete program ({reason}); compile the network again") from error
    network: Arrays = {name: array for name, array in arrays.items() if not name.endswith(".weight_t")}
    # The decoder sees its weights as views of the transposed ones, so a loaded program holds them once.
    network |= {f"{config.sites[index].name}.weight": weight_t.T for index, weight_t in enumerate(weights_t)}
    files = {name.removeprefix("tokenizer/"): content for name, content in read_files(folder, metadata).items()}
    weights = decoder_weights(metadata, network, source=source)
    graph = build_graph(weights)
    if missing := missing_units(graph):
        raise ArtefactError(f"{source}: chip {spec.name} has no unit for {' and '.join(missing)}; compile another network")
    if needed := other_readout(weights, spec):
        raise ArtefactError(f"{source}: {needed}; compile the network again")
    if weights.code.phases > spec.synapse.max_phases:
        raise ArtefactError(
            f"{source}: a code of {weights.code.phases} phases, chip {spec.name} takes {spec.synapse.max_phases}; compile again"
        )
    _check_stages(stages, spec, config, source)
    _check_routes(stages, spec, config, masks, sources, source)
    lines = [entry["program"] for entry in metadata["stages"]]
    stages = _with_programs(stages, lines, fused_graph(with_encoders(graph, weights.code)), config, source)
    longest = longest_context(spec, config, len(weights.rope_cos))
    if type(max_context) is not int or not 1 <= max_context <= longest:
        raise ArtefactError(f"{source}: max_context is {max_context!r}, expected an integer in 1..{longest}; compile the network again")
    return Program(
        spec=spec,
        weights=weights,
        weights_t=weights_t,
        stages=stages,
        routes=route_ranges(stages),
        route_masks=masks,
        route_sources=sources,
        max_context=max_context,
        network_hash=network_hash,
        report=report,
        tokenizer_files=files,
    )


def _stage_to_json(stage: Stage, config: DecoderConfig) -> dict[str, Any]:
    sites = {}
    for site, regions in zip(stage.sites, stage.regions, strict=True):
        entries = [asdict(region) for region in regions]
        sites[config.sites[site].name] = [{key: value for key, value in entry.items() if key != "site"} for entry in entries]
    return {"vector_tile": stage.vector_tile, "sites": sites, "program": [str(instruction) for instruction in stage.program]}


def _stage_from_json(entry: Mapping[str, Any], number: int, config: DecoderConfig) -> Stage:
    """TypeError or KeyError unless every field is there with its type; what they say is checked later."""
    sites = tuple(site.index for site in config.sites if site.stage == number)
    regions = tuple(tuple(Region(site=site, **region) for region in entry["sites"][config.sites[site].name]) for site in sites)
    program = entry["program"]
    if not isinstance(program, list) or not all(isinstance(instruction, str) for instruction in program):
        raise TypeError(f"the program of stage {number} is no list of instructions")
    numbers = [entry["vector_tile"], *(value for site in regions for region in site for value in asdict(region).values())]
    if not all(type(value) is int for value in numbers):
        raise TypeError(f"a tile or a region of stage {number} is not made of integers")
    return Stage(vector_tile=entry["vector_tile"], sites=sites, regions=regions)


def _with_programs(
    stages: Sequence[Stage], lines: Sequence[list[str]], graph: Graph, config: DecoderConfig, source: str
) -> tuple[Stage, ...]:
    """The stages with the instructions of a fused graph; ArtefactError unless `lines`, by stage, are their text."""
    columns = {
        config.sites[site].name: tuple(region.columns for region in regions)
        for stage in stages
        for site, regions in zip(stage.sites, stage.regions, strict=True)
    }
    placed = [
        node.with_attributes(regions=columns[str(node.attributes["site"])]) if node.operation == "linear" else node for node in graph.nodes
    ]
    programs = select_programs(graph.with_nodes(placed), config)
    for number, (found, program) in enumerate(zip(lines, programs, strict=True)):
        for line, needed in zip_longest(found, map(str, program), fillvalue="nothing"):
            if line != needed:
                raise ArtefactError(
                    f"{source}: the program of stage {number} has {line!r} where its network needs {needed!r}; compile the network again"
                )
    return tuple(replace(stage, program=program) for stage, program in zip(stages, programs, strict=True))


def _check_stages(stages: Sequence[Stage], spec: ChipSpec, config: DecoderConfig, source: str) -> None:
    """ArtefactError unless the stages hold the network, each unit on a tile of its kind that has room for it."""
    if len(stages) != config.layers + 1:
        raise ArtefactError(f"{source}: {len(stages)} stages, expected {config.layers + 1}; compile the network again")
    free = {"vector": set(spec.topology.vector_tiles()), "synapse": set(spec.topology.synapse_tiles())}

    def take(kind: str, tile: int, what: str) -> None:
        if not 0 <= tile < spec.topology.tiles:
            raise ArtefactError(f"{source}: {what} lies outside the mesh of {spec.topology.tiles} tiles; compile the network again")
        if tile not in free[kind]:
            raise ArtefactError(f"{source}: {what} lies on tile {tile}, which is taken or no {kind} tile; compile the network again")
        free[kind].remove(tile)

    for number, stage in enumerate(stages):
        take("vector", stage.vector_tile, f"stage {number}")
        for site, regions in zip(stage.sites, stage.regions, strict=True):
            described = config.sites[site]
            name, columns, pair = described.name, described.outputs, described.columns_per_output
            first = 0
            for region in regions:
                if region.outputs < 1 or (region.first_output, region.columns) != (first, pair * region.outputs):
                    break
                first += region.outputs
                take("synapse", region.tile, name)
                crossbars = spec.synapse.macros(described.inputs, region.columns, pair)
                if crossbars > spec.synapse.crossbars:
                    raise ArtefactError(
                        f"{source}: a region of {name} needs {crossbars} crossbars, a tile of chip {spec.name} has "
                        f"{spec.synapse.crossbars}; compile the network again"
                    )
            else:
                if pair * first == columns:
                    continue
            raise ArtefactError(f"{source}: the regions of {name} do not cover its {columns} columns; compile the network again")


def _check_routes(
    stages: Sequence[Stage], spec: ChipSpec, config: DecoderConfig, masks: NDArray[Any], sources: NDArray[Any], where: str
) -> None:
    """ArtefactError unless the route tables are the XY trees that the stages need: any other could lead astray or never end."""
    routes = routes_of(stages, config)
    if masks.dtype != np.uint8 or masks.shape != (len(routes), spec.topology.tiles):
        expected = f"uint8 {(len(routes), spec.topology.tiles)}"
        raise ArtefactError(f"{where}: route_masks is {masks.dtype} {masks.shape}, expected {expected}; compile the network again")
    if sources.dtype != np.int32 or sources.shape != (len(routes),):
        expected = f"int32 {(len(routes),)}"
        raise ArtefactError(f"{where}: route_sources is {sources.dtype} {sources.shape}, expected {expected}; compile the network again")
    for number, route in enumerate(routes):
        if sources[number] != route.source or not np.array_equal(masks[number], spec.topology.tree_mask(route.source, route.destinations)):
            tiles = ", ".join(map(str, route.destinations))
            raise ArtefactError(
                f"{where}: route {number} ({route.kind} {route.label}) is not the XY tree from tile {route.source} to {tiles}; "
                "compile the network again"
            )
