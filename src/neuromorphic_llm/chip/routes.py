"""The routes of a placed network and the ports that each takes (docs/reference/formats.md, timing.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program, Stage
from neuromorphic_llm.chip.topology import HOST_TILE, LOCAL
from neuromorphic_llm.reference.config import DecoderConfig


@dataclass(frozen=True)
class Route:
    """One route: what travels on it, from which tile to which tiles."""

    kind: str  # spike, value, residual, credit, token or logits
    label: str
    source: int
    destinations: tuple[int, ...]


def routes_of(stages: Sequence[Stage], config: DecoderConfig) -> list[Route]:
    """Every route of placed stages, in the order of formats.md."""
    sites = [
        (config.sites[site].name, stage.vector_tile, regions)
        for stage in stages
        for site, regions in zip(stage.sites, stage.regions, strict=True)
    ]
    tiles = [HOST_TILE, *(stage.vector_tile for stage in stages)]
    routes = [Route("spike", name, tile, tuple(region.tile for region in regions)) for name, tile, regions in sites]
    for name, tile, regions in sites:
        routes += [Route("value", f"{name}.{n}", region.tile, (tile,)) for n, region in enumerate(regions)]
    routes += [Route("residual", str(stage), tiles[stage], (tiles[stage + 1],)) for stage in range(len(stages))]
    routes += [Route("credit", str(stage), tiles[stage + 1], (tiles[stage],)) for stage in range(len(stages))]
    routes.append(Route("token", "next", tiles[-1], (HOST_TILE,)))
    routes += [Route("logits", f"head.{n}", region.tile, (HOST_TILE,)) for n, region in enumerate(sites[-1][2])]
    return routes


def router_stages(program: Program) -> list[tuple[int, ...]]:
    """Stages whose routes enter the router of each tile (timing.md, Power gating); none of the host tile's, which is always on."""
    routes, used = program.routes, program.route_masks != 0  # [routes, tiles]
    served: list[tuple[int, ...]] = [()] * program.spec.topology.tiles
    for number, stage in enumerate(program.stages):
        own = [routes.residual[number], routes.credit[number]]
        for site in stage.sites:
            own += [routes.spike[site], *routes.value[site]]
        if number == len(program.stages) - 1:
            own.append(routes.token)
        for tile in np.flatnonzero(used[np.array(own)].any(axis=0)):
            served[tile] += (number,)
    served[HOST_TILE] = ()
    return served


def wire_hops(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Links that one flit of each route crosses: int64 [routes]."""
    links = np.bitwise_count(masks & np.uint8(LOCAL - 1))
    return np.asarray(links.sum(axis=1, dtype=np.int64))


def entry_bits(routes: int) -> int:
    """Bits of an entry of a routing table: five output ports, and the number of one of `routes` routes as key (compiler.md)."""
    return 5 + routes.bit_length()
