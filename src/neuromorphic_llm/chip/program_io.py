"""Program folders: save and load a network placed on a chip (docs/reference/formats.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from neuromorphic_llm.artefact import Arrays, load_artefact, read_files, save_artefact
from neuromorphic_llm.chip.program import Program, Region, Stage, route_ranges
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import ArtefactError, CompileError
from neuromorphic_llm.network.format import decoder_weights, scalar_metadata, weight_arrays
from neuromorphic_llm.reference.weights import DecoderConfig

FORMAT = "neuromorphic-llm-program"
VERSION = 1


def save_program(program: Program, folder: Path | str) -> str:
    """Write a program folder atomically; returns its content hash. ArtefactError if `folder` holds something else."""
    config = program.weights.config
    arrays = weight_arrays(program.weights)
    for index, weight_t in enumerate(program.weights_t):
        name = config.site_name(index)
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
    """Load a program folder; ArtefactError if it is missing, damaged, inconsistent or newer."""
    metadata, arrays = load_artefact(folder, format_name=FORMAT, version=VERSION)
    try:
        spec = ChipSpec.from_json(metadata["spec"], f"{folder}: spec")
        config = DecoderConfig.from_json(metadata["config"])
        stages = tuple(_stage_from_json(entry, number, config) for number, entry in enumerate(metadata["stages"]))
        weights_t = tuple(arrays[f"{config.site_name(index)}.weight_t"] for index in range(config.sites))
        masks, sources = arrays["route_masks"], arrays["route_sources"]
        max_context, network_hash, report = int(metadata["max_context"]), str(metadata["network_hash"]), dict(metadata["report"])
    except (KeyError, TypeError, ValueError, CompileError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ArtefactError(f"{folder}: not a complete program ({reason}); compile the network again") from error
    network: Arrays = {name: array for name, array in arrays.items() if not name.endswith(".weight_t")}
    # The decoder sees its weights as views of the transposed ones, so a loaded program holds them once.
    network |= {f"{config.site_name(index)}.weight": weight_t.T for index, weight_t in enumerate(weights_t)}
    files = {name.removeprefix("tokenizer/"): content for name, content in read_files(folder, metadata).items()}
    program = Program(
        spec=spec,
        weights=decoder_weights(metadata, network, source=str(folder)),
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
    _check(program, str(folder))
    return program


def _stage_to_json(stage: Stage, config: DecoderConfig) -> dict[str, Any]:
    sites = {}
    for site, regions in zip(stage.sites, stage.regions, strict=True):
        entries = [asdict(region) for region in regions]
        sites[config.site_name(site)] = [{key: value for key, value in entry.items() if key != "site"} for entry in entries]
    return {"vector_tile": stage.vector_tile, "sites": sites, "program": list(stage.program)}


def _stage_from_json(entry: Mapping[str, Any], number: int, config: DecoderConfig) -> Stage:
    sites = (4 * config.layers,) if number == config.layers else tuple(range(4 * number, 4 * number + 4))
    regions = tuple(tuple(Region(site=site, **region) for region in entry["sites"][config.site_name(site)]) for site in sites)
    return Stage(vector_tile=int(entry["vector_tile"]), sites=sites, regions=regions, program=tuple(entry["program"]))


def _check(program: Program, source: str) -> None:
    """ArtefactError unless stages, regions and routes belong together and to the chip."""
    config, tiles = program.weights.config, program.spec.tiles
    if len(program.stages) != config.layers + 1:
        raise ArtefactError(f"{source}: {len(program.stages)} stages, expected {config.layers + 1}; compile the network again")
    for stage in program.stages:
        for site, regions in zip(stage.sites, stage.regions, strict=True):
            outputs = config.site_shape(site)[1]
            placed = [(region.first_output, region.columns * region.first_output // max(region.outputs, 1)) for region in regions]
            columns = np.cumsum([0] + [region.columns for region in regions])
            if [first for _, first in placed] != columns[:-1].tolist() or columns[-1] != outputs:
                raise ArtefactError(f"{source}: the regions of {config.site_name(site)} do not cover its {outputs} columns; compile again")
            if not all(0 <= tile < tiles for tile in [stage.vector_tile, *(region.tile for region in regions)]):
                raise ArtefactError(f"{source}: {config.site_name(site)} lies outside the mesh of {tiles} tiles; compile again")
    routes = int(program.routes.logits[-1]) + 1
    masks, sources = program.route_masks, program.route_sources
    if masks.dtype != np.uint8 or masks.shape != (routes, tiles):
        raise ArtefactError(f"{source}: route_masks is {masks.dtype} {masks.shape}, expected uint8 {(routes, tiles)}; compile again")
    if sources.dtype != np.int32 or sources.shape != (routes,):
        raise ArtefactError(f"{source}: route_sources is {sources.dtype} {sources.shape}, expected int32 {(routes,)}; compile again")
