"""Cycle-exact mesh of routers, compiled (docs/reference/timing.md, Network on chip). Only routers that hold flits are visited."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program

PORTS = 5
LOCAL = 4

FIRST, COUNT, FLIT = range(3)
"""Columns of Mesh.fifo: place of the head flit, number of flits, and from FLIT on the flits."""

PENDING, POINTER, OCCUPANCY = 0, PORTS, 2 * PORTS
"""Columns of Mesh.router: for each input the outputs its head flit has still to take, round robin of each output, flits held."""

ACTIVE, PUSHED, POPPED, ARRIVED = range(4)
"""Lists of Mesh.moves: routers that hold flits; of this cycle (FIFO, flit) pushed, FIFO popped, (tile, flit) arrived."""

FLITS, HOPS, LINK_STALLS = range(4, 7)
"""Entries of Mesh.numbers behind the lengths of the lists."""


class Mesh(NamedTuple):
    """State of all routers. A flit is `2 * route + last`; an input FIFO is `5 * tile + port`, ports N, E, S, W, local."""

    masks: NDArray[np.uint8]  # [routes, tiles]
    links: NDArray[np.int32]  # [tiles, 4], input FIFO at the other end of each link
    fifo: NDArray[np.int32]  # [5 * tiles, FLIT + depth]
    router: NDArray[np.int32]  # [tiles, OCCUPANCY + 1]
    moves: NDArray[np.int32]  # [4, 5 * tiles, 2]
    numbers: NDArray[np.int64]  # lengths of the lists, flits injected, links crossed, links refused


def new_mesh(program: Program) -> Mesh:
    """An empty mesh with the program's routes."""
    spec = program.spec
    tiles, width = spec.tiles, spec.mesh_width
    links = np.zeros((tiles, 4), np.int32)
    for port, step in enumerate((-width, 1, width, -1)):
        # XY routes never leave the mesh, so the links of border tiles that lead nowhere are never used
        links[:, port] = PORTS * np.clip(np.arange(tiles) + step, 0, tiles - 1) + (port + 2) % 4
    return Mesh(
        masks=np.ascontiguousarray(program.route_masks),
        links=links,
        fifo=np.zeros((PORTS * tiles, FLIT + spec.fifo_depth), np.int32),
        router=np.zeros((tiles, OCCUPANCY + 1), np.int32),
        moves=np.zeros((4, PORTS * tiles, 2), np.int32),
        numbers=np.zeros(7, np.int64),
    )


@njit(cache=True)
def _list(mesh: Mesh, which: int, place: int, flit: int) -> None:
    entry = mesh.numbers[which]
    mesh.moves[which, entry, 0] = place
    mesh.moves[which, entry, 1] = flit
    mesh.numbers[which] = entry + 1


@njit(cache=True)
def inject(mesh: Mesh, tile: int, flit: int) -> bool:
    """Push a flit into a tile's local input if that has room at the start of this cycle."""
    port = PORTS * tile + LOCAL
    if mesh.fifo[port, COUNT] >= mesh.fifo.shape[1] - FLIT:
        return False
    _list(mesh, PUSHED, port, flit)
    mesh.numbers[FLITS] += 1
    return True


@njit(cache=True)
def arbitrate(mesh: Mesh) -> None:
    """One cycle of every router from the state at its start; what moves is listed in Mesh.moves."""
    depth = mesh.fifo.shape[1] - FLIT
    for entry in range(mesh.numbers[ACTIVE]):
        tile = mesh.moves[ACTIVE, entry, 0]
        router = mesh.router[tile]
        wanted = router[0] | router[1] | router[2] | router[3] | router[4]
        for output in range(PORTS):
            if not wanted >> output & 1:
                continue
            source = router[POINTER + output]
            while not router[source] >> output & 1:
                source = source + 1 if source < LOCAL else 0
            port = PORTS * tile + source
            flit = mesh.fifo[port, FLIT + mesh.fifo[port, FIRST]]
            if output == LOCAL:
                _list(mesh, ARRIVED, tile, flit)
            else:
                target = mesh.links[tile, output]
                if mesh.fifo[target, COUNT] >= depth:
                    mesh.numbers[LINK_STALLS] += 1
                    continue
                _list(mesh, PUSHED, target, flit)
                mesh.numbers[HOPS] += 1
            router[source] ^= 1 << output
            router[POINTER + output] = source + 1 if source < LOCAL else 0
            if router[source] == 0:
                _list(mesh, POPPED, port, flit)


@njit(cache=True)
def commit(mesh: Mesh) -> None:
    """The clock edge: remove popped flits, add pushed ones, and list the routers that hold flits now."""
    numbers, moves = mesh.numbers, mesh.moves
    depth = mesh.fifo.shape[1] - FLIT
    for entry in range(numbers[POPPED]):
        port = moves[POPPED, entry, 0]
        fifo, tile = mesh.fifo[port], port // PORTS
        fifo[FIRST] = fifo[FIRST] + 1 if fifo[FIRST] + 1 < depth else 0
        fifo[COUNT] -= 1
        mesh.router[tile, OCCUPANCY] -= 1
        if fifo[COUNT] > 0:
            mesh.router[tile, port % PORTS] = mesh.masks[fifo[FLIT + fifo[FIRST]] >> 1, tile]
    kept = 0
    for entry in range(numbers[ACTIVE]):
        tile = moves[ACTIVE, entry, 0]
        moves[ACTIVE, kept, 0] = tile
        kept += mesh.router[tile, OCCUPANCY] > 0
    numbers[ACTIVE] = kept
    for entry in range(numbers[PUSHED]):
        port, flit = moves[PUSHED, entry, 0], moves[PUSHED, entry, 1]
        fifo, tile = mesh.fifo[port], port // PORTS
        place = fifo[FIRST] + fifo[COUNT]
        fifo[FLIT + (place if place < depth else place - depth)] = flit
        fifo[COUNT] += 1
        if fifo[COUNT] == 1:
            mesh.router[tile, port % PORTS] = mesh.masks[flit >> 1, tile]
        if mesh.router[tile, OCCUPANCY] == 0:
            moves[ACTIVE, numbers[ACTIVE], 0] = tile
            numbers[ACTIVE] += 1
        mesh.router[tile, OCCUPANCY] += 1
    numbers[PUSHED] = numbers[POPPED] = numbers[ARRIVED] = 0
