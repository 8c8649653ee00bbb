"""Random route trees and injections for a mesh, and what the simulator's mesh does with them in every cycle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.kernel_cache import kernel
from neuromorphic_llm.simulation import noc

SERIALS = 64
"""Copies of the route table: a flit of the simulator is its route, so a flit's serial number is made part of it."""


class Script(NamedTuple):
    """Routes of a mesh, and for each tile flits (`2 * (route + routes * serial)`) in order with the earliest cycle of each."""

    masks: NDArray[np.uint8]  # [routes, tiles]
    flits: NDArray[np.int32]  # [tiles, flits]
    times: NDArray[np.int64]  # [tiles, flits]


class Moves(NamedTuple):
    """`values[c, 6 * tile + port]`: flit that entered this FIFO (port 5: the tile) in cycle c, and the cycle's offers; -1 for none."""

    values: NDArray[np.int32]
    offers: NDArray[np.int32]  # [cycles, tiles]
    numbers: NDArray[np.int64]  # flits, hops, refusals


def xy_path(spec: ChipSpec, source: int, target: int) -> list[tuple[int, int]]:
    """(tile, output port) from source to target, x first, the local port at the end."""
    steps = []
    tile = source
    while tile != target:
        x, y = tile % spec.mesh.width, tile // spec.mesh.width
        tx, ty = target % spec.mesh.width, target // spec.mesh.width
        port = (1 if tx > x else 3) if tx != x else (2 if ty > y else 0)
        steps.append((tile, port))
        tile += (-spec.mesh.width, 1, spec.mesh.width, -1)[port]
    return [*steps, (target, noc.LOCAL)]


def random_script(spec: ChipSpec, seed: int, cycles: int, load: float, routes: int = 64) -> Script:
    """Half of the routes lead to one tile, the others to up to all; `load` is the rate of flits that a tile wants to send."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((routes, spec.topology.tiles), np.uint8)
    sources = rng.integers(0, spec.topology.tiles, routes)
    sources[: spec.topology.tiles] = np.arange(spec.topology.tiles)
    for route in range(routes):
        count = 1 if route % 2 == 0 else rng.integers(2, spec.topology.tiles + 1)
        for target in rng.choice(spec.topology.tiles, min(count, spec.topology.tiles), replace=False):
            for tile, port in xy_path(spec, int(sources[route]), int(target)):
                masks[route, tile] |= 1 << port
    number = int(cycles * load) + 1
    gaps = rng.geometric(load, (spec.topology.tiles, number)) if load < 1 else np.ones((spec.topology.tiles, number), np.int64)
    flits = np.zeros((spec.topology.tiles, number), np.int32)
    for tile in range(spec.topology.tiles):
        chosen = rng.choice(np.flatnonzero(sources == tile), number)
        flits[tile] = 2 * (chosen + routes * (np.arange(number) % SERIALS))
    return Script(masks, flits, np.cumsum(gaps, axis=1) - 1)


def expected_moves(spec: ChipSpec, script: Script, cycles: int) -> Moves:
    """Run the simulator's mesh."""
    masks = np.tile(script.masks, (SERIALS, 1))
    mesh = noc.new_mesh(SimpleNamespace(spec=spec, route_masks=masks))  # type: ignore[arg-type]
    values = np.full((cycles, 6 * spec.topology.tiles), -1, np.int32)
    offers = np.full((cycles, spec.topology.tiles), -1, np.int32)
    _run(mesh, script.flits, script.times, values, offers)
    return Moves(values, offers, mesh.numbers[noc.FLITS :].copy())


@kernel
def _run(mesh: noc.Mesh, flits: NDArray[np.int32], times: NDArray[np.int64], values: NDArray[np.int32], offers: NDArray[np.int32]) -> None:
    following = np.zeros(len(flits), np.int64)
    for cycle in range(len(values)):
        noc.arbitrate(mesh)
        for tile in range(len(flits)):
            flit = following[tile]
            if flit < flits.shape[1] and times[tile, flit] <= cycle:
                offers[cycle, tile] = flits[tile, flit]
                following[tile] += noc.inject(mesh, tile, flits[tile, flit])
        for entry in range(mesh.numbers[noc.PUSHED]):
            fifo = mesh.moves[noc.PUSHED, entry, 0]
            values[cycle, fifo + fifo // noc.PORTS] = mesh.moves[noc.PUSHED, entry, 1]
        for entry in range(mesh.numbers[noc.ARRIVED]):
            values[cycle, 6 * mesh.moves[noc.ARRIVED, entry, 0] + 5] = mesh.moves[noc.ARRIVED, entry, 1]
        noc.commit(mesh)
