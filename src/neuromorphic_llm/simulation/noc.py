"""Cycle-exact mesh of routers, compiled (docs/reference/timing.md, Network on chip). Only routers that hold flits are visited."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.topology import LINK_PORTS
from neuromorphic_llm.kernel_cache import kernel

if TYPE_CHECKING:  # the kernels do not depend on it
    from neuromorphic_llm.chip.program import Program

compiled = kernel(_nrt=False)
"""Decorator for functions that allocate nothing: without it every call would count references of all tables, atomically."""

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
    tiles = spec.topology.tiles
    links = np.zeros((tiles, 4), np.int32)
    for port, mask in enumerate(LINK_PORTS):
        beyond = (spec.topology.neighbour(tile, mask) for tile in range(tiles))
        # Routes never leave the mesh, so the links of border tiles that lead nowhere are never used
        links[:, port] = [PORTS * (tile or 0) + (port + 2) % 4 for tile in beyond]
    return Mesh(
        masks=np.ascontiguousarray(program.route_masks),
        links=links,
        fifo=np.zeros((PORTS * tiles, FLIT + spec.noc.fifo_depth), np.int32),
        router=np.zeros((tiles, OCCUPANCY + 1), np.int32),
        moves=np.zeros((4, PORTS * tiles, 2), np.int32),
        numbers=np.zeros(7, np.int64),
    )


@compiled
def inject(mesh: Mesh, tile: int, flit: int) -> bool:
    """Push a flit into a tile's local input if that has room at the start of this cycle; after `arbitrate`, before `commit`."""
    port = PORTS * tile + LOCAL
    if mesh.fifo[port, COUNT] >= mesh.fifo.shape[1] - FLIT:
        return False
    entry = mesh.numbers[PUSHED]
    mesh.moves[PUSHED, entry, 0] = port
    mesh.moves[PUSHED, entry, 1] = flit
    mesh.numbers[PUSHED] = entry + 1
    mesh.numbers[FLITS] += 1
    return True


@compiled
def arbitrate(mesh: Mesh) -> None:
    """One cycle of every router from the state at its start; what moves is listed in Mesh.moves."""
    links, fifo, router, moves = mesh.links, mesh.fifo, mesh.router, mesh.moves
    depth = fifo.shape[1] - FLIT
    pushed = popped = arrived = refused = 0
    for entry in range(mesh.numbers[ACTIVE]):
        tile = moves[ACTIVE, entry, 0]
        wanted = router[tile, 0] | router[tile, 1] | router[tile, 2] | router[tile, 3] | router[tile, 4]
        for output in range(PORTS):
            if not wanted >> output & 1:
                continue
            source = router[tile, POINTER + output]
            while not router[tile, source] >> output & 1:
                source = source + 1 if source < LOCAL else 0
            port = PORTS * tile + source
            flit = fifo[port, FLIT + fifo[port, FIRST]]
            if output == LOCAL:
                moves[ARRIVED, arrived, 0] = tile
                moves[ARRIVED, arrived, 1] = flit
                arrived += 1
            else:
                target = links[tile, output]
                if fifo[target, COUNT] >= depth:
                    refused += 1
                    continue
                moves[PUSHED, pushed, 0] = target
                moves[PUSHED, pushed, 1] = flit
                pushed += 1
            router[tile, source] ^= 1 << output
            router[tile, POINTER + output] = source + 1 if source < LOCAL else 0
            if router[tile, source] == 0:
                moves[POPPED, popped, 0] = port
                popped += 1
    mesh.numbers[PUSHED] = pushed
    mesh.numbers[POPPED] = popped
    mesh.numbers[ARRIVED] = arrived
    mesh.numbers[HOPS] += pushed
    mesh.numbers[LINK_STALLS] += refused


@compiled
def commit(mesh: Mesh) -> None:
    """The clock edge: remove popped flits, add pushed ones, and list the routers that hold flits now."""
    masks, fifo, router, moves, numbers = mesh.masks, mesh.fifo, mesh.router, mesh.moves, mesh.numbers
    depth = fifo.shape[1] - FLIT
    for entry in range(numbers[POPPED]):
        port = moves[POPPED, entry, 0]
        tile = port // PORTS
        first = fifo[port, FIRST] + 1 if fifo[port, FIRST] + 1 < depth else 0
        fifo[port, FIRST] = first
        fifo[port, COUNT] -= 1
        router[tile, OCCUPANCY] -= 1
        if fifo[port, COUNT] > 0:
            router[tile, port - PORTS * tile] = masks[fifo[port, FLIT + first] >> 1, tile]
    active = 0
    for entry in range(numbers[ACTIVE]):
        tile = moves[ACTIVE, entry, 0]
        moves[ACTIVE, active, 0] = tile
        active += router[tile, OCCUPANCY] > 0
    for entry in range(numbers[PUSHED]):
        port, flit = moves[PUSHED, entry, 0], moves[PUSHED, entry, 1]
        tile = port // PORTS
        place = fifo[port, FIRST] + fifo[port, COUNT]
        fifo[port, FLIT + (place if place < depth else place - depth)] = flit
        fifo[port, COUNT] += 1
        if fifo[port, COUNT] == 1:
            router[tile, port - PORTS * tile] = masks[flit >> 1, tile]
        if router[tile, OCCUPANCY] == 0:
            moves[ACTIVE, active, 0] = tile
            active += 1
        router[tile, OCCUPANCY] += 1
    numbers[ACTIVE] = active
