"""Route: XY multicast trees for everything that travels on the mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.routes import EAST, LOCAL, NORTH, SOUTH, WEST, Route, route_mask, routes_of
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.module import Module, RouteTable, stages_of
from neuromorphic_llm.errors import CompileError


@dataclass(frozen=True)
class RoutePass:
    """Lay every route as an XY tree and check that it reaches its destinations, each once."""

    name: str = "route"

    def apply(self, module: Module) -> Module:
        """The module with its route table, in the order of formats.md."""
        routes = list_routes(module)
        masks = np.stack([route_mask(route.source, route.destinations, module.spec) for route in routes])
        verify_routes(routes, masks, module.spec)
        return replace(module, routes=RouteTable(tuple(routes), masks))


def list_routes(module: Module) -> list[Route]:
    """Every route of a placed module, in the order of formats.md."""
    return routes_of(stages_of(module), module.weights.config)


def verify_routes(routes: list[Route], masks: NDArray[np.uint8], spec: ChipSpec) -> None:
    """CompileError unless each route is a tree on the mesh that reaches exactly its destinations."""
    width, height = spec.mesh_width, spec.mesh_height
    steps = {NORTH: (0, -1), EAST: (1, 0), SOUTH: (0, 1), WEST: (-1, 0)}
    for route, mask in zip(routes, masks, strict=True):
        reached: set[int] = set()
        visited: set[int] = set()
        pending = [route.source]
        fault = ""
        while pending and not fault:
            tile = pending.pop()
            if tile in visited:
                fault = f"comes to tile {tile} twice"
            visited.add(tile)
            if mask[tile] & LOCAL:
                reached.add(tile)
            for port, (dx, dy) in steps.items():
                if mask[tile] & port:
                    x, y = tile % width + dx, tile // width + dy
                    if not (0 <= x < width and 0 <= y < height):
                        fault = f"leaves the mesh at tile {tile}"
                    pending.append(y * width + x)
        if not fault and reached != set(route.destinations):
            fault = f"reaches tiles {sorted(reached)}, expected {sorted(route.destinations)}"
        if not fault and set(np.flatnonzero(mask).tolist()) - visited:
            fault = "has ports set on tiles that it never visits"
        if fault:
            raise CompileError(f"route {route.kind} {route.label} from tile {route.source} {fault}")
