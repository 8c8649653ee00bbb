"""Small programs on random meshes, placed at random: stands apart from the compiler so that either can be wrong alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.instruction import Instruction
from neuromorphic_llm.chip.instructions import Add, Attend, Encode, KvWrite, Norm, Receive, ReceiveResidual, Rope, Send, SendToken
from neuromorphic_llm.chip.program import Program, Region, Routes, Stage
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.weights import DecoderWeights

NORTH, EAST, SOUTH, WEST, LOCAL = 1, 2, 4, 8, 16


def xy_tree(source: int, targets: list[int], width: int, tiles: int) -> NDArray[np.uint8]:
    """Output ports at every tile of the union of XY paths from source to targets."""
    mask = np.zeros(tiles, np.uint8)
    for target in targets:
        x, y = source % width, source // width
        while x != target % width:
            step = 1 if target % width > x else -1
            mask[y * width + x] |= EAST if step > 0 else WEST
            x += step
        while y != target // width:
            step = 1 if target // width > y else -1
            mask[y * width + x] |= SOUTH if step > 0 else NORTH
            y += step
        mask[target] |= LOCAL
    return mask


def make_program(weights: DecoderWeights, spec: ChipSpec, seed: int = 0, regions_per_site: int = 2) -> Program:
    """Place every stage on random tiles, each site on up to `regions_per_site` of them; any tile but the host may be of any kind."""
    rng = np.random.default_rng(seed)
    config = weights.config
    free = [int(tile) for tile in rng.permutation(np.arange(1, spec.topology.tiles))]
    stages = []
    for stage in range(config.layers + 1):
        sites = tuple(range(4 * stage, 4 * stage + 4)) if stage < config.layers else (config.head.index,)
        vector_tile = free.pop()
        regions = []
        for site in sites:
            pair = 2 if site % 4 == 2 and stage < config.layers else 1
            outputs = config.sites[site].shape[1] // pair
            count = min(int(rng.integers(1, regions_per_site + 1)), outputs)
            cuts = [0, *sorted(rng.choice(np.arange(1, outputs), count - 1, replace=False).tolist()), outputs]
            regions.append(
                tuple(
                    Region(site=site, tile=free.pop(), first_output=first, outputs=last - first, columns=pair * (last - first))
                    for first, last in pairwise(cuts)
                )
            )
        program = _head_program(config, weights.code.name, len(regions[0])) if stage == config.layers else _layer_program(weights, stage)
        stages.append(Stage(vector_tile, sites, tuple(regions), program))
    return _with_routes(weights, spec, tuple(stages))


def _layer_program(weights: DecoderWeights, layer: int) -> tuple[Instruction, ...]:
    """The instructions of a layer, in the order of docs/reference/timing.md."""
    config, code = weights.config, weights.code.name
    qkv, output, gate_up, down = config.layer_sites(layer)
    hidden, prefix = config.hidden_size, f"layers.{layer}"
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    offset = f"{prefix}.key_offset" if weights.layers[layer].get("key_offset") is not None else None
    attend = Attend(layer, config.heads, config.kv_heads, config.head_dim, f"{prefix}.query_stop", f"{prefix}.value_base")
    return (
        ReceiveResidual(hidden),
        Norm(hidden, f"{prefix}.attention_gain"),
        Encode(hidden, qkv, code),
        Receive(qkv, queries + 2 * keys),
        Rope(queries + keys, config.head_dim),
        KvWrite(2 * keys, config.kv_heads, queries, offset),
        attend,
        Encode(queries, output, code, attended=True),
        Receive(output, hidden),
        Add(hidden),
        Norm(hidden, f"{prefix}.feed_forward_gain"),
        Encode(hidden, gate_up, code),
        Receive(gate_up, config.intermediate_size),
        Encode(config.intermediate_size, down, code),
        Receive(down, hidden),
        Add(hidden),
        Send(hidden, wanted=layer == config.layers - 1),
    )


def _head_program(config: DecoderConfig, code: str, regions: int) -> tuple[Instruction, ...]:
    hidden, head = config.hidden_size, config.head
    return (ReceiveResidual(hidden), Norm(hidden, "final_gain"), Encode(hidden, head, code), Receive(head, 2 * regions), SendToken())


def _with_routes(weights: DecoderWeights, spec: ChipSpec, stages: tuple[Stage, ...]) -> Program:
    masks: list[NDArray[np.uint8]] = []
    sources: list[int] = []

    def route(source: int, targets: list[int]) -> int:
        masks.append(xy_tree(source, targets, spec.mesh.width, spec.topology.tiles))
        sources.append(source)
        return len(masks) - 1

    vector = [stage.vector_tile for stage in stages]
    every = [(stage.vector_tile, regions) for stage in stages for regions in stage.regions]
    spike = [route(tile, [region.tile for region in regions]) for tile, regions in every]
    value = [np.array([route(region.tile, [tile]) for region in regions], np.int32) for tile, regions in every]
    residual = [route(0 if s == 0 else vector[s - 1], [tile]) for s, tile in enumerate(vector)]
    credit = [route(tile, [0 if s == 0 else vector[s - 1]]) for s, tile in enumerate(vector)]
    token = route(vector[-1], [0])
    logits = [route(region.tile, [0]) for region in stages[-1].regions[0]]
    routes = Routes(
        np.array(spike, np.int32), tuple(value), np.array(residual, np.int32), np.array(credit, np.int32), token, np.array(logits, np.int32)
    )
    config = weights.config
    return Program(
        spec=spec,
        weights=weights,
        weights_t=tuple(np.ascontiguousarray(weights.site(site).weight.T) for site in range(len(config.sites))),
        stages=stages,
        routes=routes,
        route_masks=np.stack(masks),
        route_sources=np.array(sources, np.int32),
        max_context=config.max_positions,
        network_hash="",
        report={},
        tokenizer_files={},
    )
