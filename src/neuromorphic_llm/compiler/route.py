"""Route: XY multicast trees for everything that travels on the mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.routes import Route, routes_of
from neuromorphic_llm.chip.topology import LINK_PORTS, LOCAL, MeshTopology
from neuromorphic_llm.compiler.module import Module, RouteTable, stages_of
from neuromorphic_llm.errors import CompileError


@dataclass(frozen=True)
class RoutePass:
    """Lay every route as an XY tree and check that it reaches its destinations, each once."""

    name: str = "route"

    def apply(self, module: Module) -> Module:
        """The module with its route table, in the order of formats.md."""
        routes = list_routes(module)
        masks = np.stack([module.spec.topology.tree_mask(route.source, route.destinations) for route in routes])
        verify_routes(routes, masks, module.spec.topology)
        return replace(module, routes=RouteTable(tuple(routes), masks))


def list_routes(module: Module) -> list[Route]:
    """Every route of a placed module, in the order of formats.md."""
    return routes_of(stages_of(module), module.weights.config)


def verify_routes(routes: list[Route], masks: NDArray[np.uint8], topology: MeshTopology) -> None:
    """CompileError unless each route is a tree on the mesh that reaches exactly its destinations."""
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
            for port in LINK_PORTS:
                if mask[tile] & port:
                    beyond = topology.neighbour(tile, port)
                    if beyond is None:
                        fault = f"leaves the mesh at tile {tile}"
                    else:
                        pending.append(beyond)
        if not fault and reached != set(route.destinations):
            fault = f"reaches tiles {sorted(reached)}, expected {sorted(route.destinations)}"
        if not fault and set(np.flatnonzero(mask).tolist()) - visited:
            fault = "has ports set on tiles that it never visits"
        if fault:
            raise CompileError(f"route {route.kind} {route.label} from tile {route.source} {fault}")
