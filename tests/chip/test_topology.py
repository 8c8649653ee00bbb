"""Topology of a mesh: places, neighbours, kinds of tiles, trees."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuromorphic_llm.chip.topology import EAST, LINK_PORTS, LOCAL, NORTH, SOUTH, WEST, MeshTopology

MESH = MeshTopology(width=3, height=2, vector_period=3, vector_offset=1)
OPPOSITE = {NORTH: SOUTH, SOUTH: NORTH, EAST: WEST, WEST: EAST}

meshes = st.builds(MeshTopology, st.integers(1, 7), st.integers(1, 7), st.integers(2, 5), st.integers(0, 1))


def test_a_small_mesh() -> None:
    assert (MESH.tiles, MESH.extent, MESH.position(5)) == (6, (3, 2), (2, 1))
    assert MESH.snake_order() == [0, 1, 2, 5, 4, 3]
    assert (MESH.vector_tiles(), MESH.synapse_tiles()) == ([1, 4], [2, 5, 3])
    assert [MESH.neighbour(1, port) for port in (NORTH, EAST, SOUTH, WEST)] == [None, 2, 4, 0]
    assert MESH.distance(0, 5) == 3
    assert MESH.nearest([4, 1], [0, 2]) == 1
    assert MESH.tree_mask(0, [2, 4]).tolist() == [EAST, EAST | SOUTH, LOCAL, 0, LOCAL, 0]
    assert MESH.tree_links(0, [2, 4]) == 3


@given(meshes)
def test_links_go_both_ways(mesh: MeshTopology) -> None:
    for tile in range(mesh.tiles):
        for port in LINK_PORTS:
            beyond = mesh.neighbour(tile, port)
            if beyond is not None:
                assert mesh.neighbour(beyond, OPPOSITE[port]) == tile and mesh.distance(tile, beyond) == 1


@given(meshes)
def test_the_snake_goes_from_neighbour_to_neighbour_over_every_tile(mesh: MeshTopology) -> None:
    order = mesh.snake_order()
    assert sorted(order) == list(range(mesh.tiles))
    assert all(mesh.distance(a, b) == 1 for a, b in pairwise(order))
    assert sorted([0, *mesh.vector_tiles(), *mesh.synapse_tiles()]) == sorted(order)


@given(meshes, st.data())
def test_trees_reach_their_destinations_by_shortest_ways(mesh: MeshTopology, data: st.DataObject) -> None:
    tiles = st.integers(0, mesh.tiles - 1)
    source, destinations = data.draw(tiles), data.draw(st.sets(tiles, min_size=1))
    mask = mesh.tree_mask(source, destinations)
    assert set(np.flatnonzero(mask & LOCAL).tolist()) == destinations
    assert int(np.bitwise_count(mask & np.uint8(LOCAL - 1)).sum()) == mesh.tree_links(source, destinations)
    assert mesh.tree_links(source, [next(iter(destinations))]) == mesh.distance(source, next(iter(destinations)))
