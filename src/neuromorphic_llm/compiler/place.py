"""Place: a vector tile for every stage and a synapse tile for every region, with short ways between them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from neuromorphic_llm.chip.spec import NocSpec
from neuromorphic_llm.chip.topology import HOST_TILE, MeshTopology
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.graph.ir import Graph, Node

EXPECTED_SPIKES = 1.5
"""Spikes per input that the cost of a spike route assumes; only the balance against value routes depends on it."""


@dataclass(frozen=True)
class Place:
    """Fill the mesh along the snake order, then swap tiles as long as the expected flit-hops of a token fall.

    `swaps` is the number of proposals per tile; the same seed gives the same placement.
    """

    seed: int = 0
    swaps: int = 60
    name: str = "place"

    def apply(self, module: Module) -> Module:
        """The module with `tiles` on every linear node and the stages' vector tiles."""
        placement = _Placement(module)
        placement.improve(random.Random(self.seed), self.swaps)
        tiles = {node.name: tuple(chosen) for node, chosen in zip(module.graph.linear_nodes(), placement.tiles, strict=True)}
        nodes = [node.with_attributes(tiles=tiles[node.name]) if node.name in tiles else node for node in module.graph.nodes]
        return replace(module, graph=module.graph.with_nodes(nodes, vector_tiles=tuple(placement.vector)))


class _Placement:
    """Tiles of stages and regions, and the cost in expected flit-hops per token."""

    def __init__(self, module: Module) -> None:
        spec, graph = module.spec, module.graph
        self.topology = spec.topology
        self.distance = self.topology.distance
        linear = graph.linear_nodes()
        self.stage = [node.stage for node in linear]
        self.sites: list[list[int]] = [[] for _ in range(graph.stages)]
        for site, stage in enumerate(self.stage):
            self.sites[stage].append(site)
        sizes = {node.name: node.type.size for node in graph.nodes}
        self.spike_flits = [sizes[node.operands[0]] * EXPECTED_SPIKES / spec.flit_events for node in linear]
        self.value_flits = [_value_flits(node, spec.noc) for node in linear]
        self.residual_flits = module.weights.config.hidden_size / spec.noc.values_per_flit + 1  # and a credit back
        self.tiles, self.vector = _snake_fill(graph, self.topology)
        self.owner: dict[int, tuple[int, int]] = {}  # synapse tile -> site and region
        for site, tiles in enumerate(self.tiles):
            self.owner |= {tile: (site, number) for number, tile in enumerate(tiles)}

    def site_cost(self, site: int) -> float:
        vector, tiles = self.vector[self.stage[site]], self.tiles[site]
        cost = self.spike_flits[site] * self.topology.tree_links(vector, tiles)
        return cost + sum(flits * self.distance(tile, vector) for tile, flits in zip(tiles, self.value_flits[site], strict=True))

    def stage_cost(self, stage: int) -> float:
        """Cost of a stage's sites and of the residual routes at both its ends; the last stage's ends at the host."""
        before = self.vector[stage - 1] if stage else HOST_TILE
        cost = self.residual_flits * self.distance(before, self.vector[stage])
        if stage + 1 < len(self.vector):
            cost += self.residual_flits * self.distance(self.vector[stage], self.vector[stage + 1])
        else:
            cost += self.distance(self.vector[stage], HOST_TILE)
        return cost + sum(self.site_cost(site) for site in self.sites[stage])

    def improve(self, choice: random.Random, swaps: int) -> None:
        synapse, vector = self.topology.synapse_tiles(), self.topology.vector_tiles()
        near = {tile: [other for other in synapse if 0 < self.distance(tile, other) <= 4] for tile in synapse}
        used = list(self.owner)
        for _ in range(swaps * len(used)):
            tile = choice.choice(used)
            if tile in self.owner and near[tile]:
                self.try_synapse_swap(tile, choice.choice(near[tile]))
            if choice.random() < 0.1:
                self.try_vector_swap(choice.randrange(len(self.vector)), choice.choice(vector))
                used = list(self.owner)

    def try_synapse_swap(self, tile: int, other: int) -> None:
        first, second = self.owner[tile], self.owner.get(other)
        sites = {first[0]} if second is None else {first[0], second[0]}
        before = sum(self.site_cost(site) for site in sites)
        self.swap(tile, other)
        if sum(self.site_cost(site) for site in sites) >= before:
            self.swap(tile, other)

    def swap(self, tile: int, other: int) -> None:
        first, second = self.owner.pop(tile, None), self.owner.pop(other, None)
        for owner, target in ((first, other), (second, tile)):
            if owner is not None:
                self.tiles[owner[0]][owner[1]] = target
                self.owner[target] = owner

    def try_vector_swap(self, stage: int, tile: int) -> None:
        other = self.vector.index(tile) if tile in self.vector else None
        stages = {stage} if other is None else {stage, other}
        before, old = sum(self.stage_cost(number) for number in stages), self.vector[stage]
        self.move_vector(stage, tile, other, old)
        if sum(self.stage_cost(number) for number in stages) >= before:
            self.move_vector(stage, old, other, tile)

    def move_vector(self, stage: int, tile: int, other: int | None, tile_of_other: int) -> None:
        self.vector[stage] = tile
        if other is not None and other != stage:
            self.vector[other] = tile_of_other


def _value_flits(node: Node, noc: NocSpec) -> list[float]:
    """Result flits of each region: its values, or the largest logit and its index."""
    if node.attributes.get("epilogue") == "argmax":
        return [float(noc.value_flits(2))] * len(node.integers("regions"))
    columns_per_value = 2 if node.attributes.get("epilogue") == "gate" else 1
    return [columns / columns_per_value / noc.values_per_flit for columns in node.integers("regions")]


def _snake_fill(graph: Graph, topology: MeshTopology) -> tuple[list[list[int]], list[int]]:
    """Regions along the snake order of synapse tiles; each stage takes the free vector tile nearest to the middle of its regions."""
    synapse, vector = iter(topology.synapse_tiles()), topology.vector_tiles()
    tiles: list[list[int]] = [[next(synapse) for _ in node.integers("regions")] for node in graph.linear_nodes()]
    chosen: list[int] = []
    for stage in range(graph.stages):
        own = [tile for node, places in zip(graph.linear_nodes(), tiles, strict=True) if node.stage == stage for tile in places]
        chosen.append(topology.nearest([tile for tile in vector if tile not in chosen], own))
    return tiles, chosen
