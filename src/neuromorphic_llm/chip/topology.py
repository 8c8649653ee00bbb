"""Topology: where the tiles of a chip lie, which of them are neighbours, and the ways between them (docs/reference/timing.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

NORTH, EAST, SOUTH, WEST, LOCAL = 1, 2, 4, 8, 16
"""Output ports as bits of a mask, in the order of the router's ports."""

HOST_TILE = 0

LINK_PORTS = (NORTH, EAST, SOUTH, WEST)

_STEPS: Mapping[int, tuple[int, int]] = MappingProxyType({NORTH: (0, -1), EAST: (1, 0), SOUTH: (0, 1), WEST: (-1, 0)})


@dataclass(frozen=True)
class MeshTopology:
    """Tiles on a grid, numbered row by row, with a link to each neighbour; flits go along x first, then along y.

    Nothing else knows of coordinates: a chip of another shape, or several chips, are another class with these methods.
    """

    width: int
    height: int
    vector_period: int
    vector_offset: int

    @property
    def tiles(self) -> int:
        """Number of positions."""
        return self.width * self.height

    def position(self, tile: int) -> tuple[int, int]:
        """Column and row of a tile."""
        return tile % self.width, tile // self.width

    def distance(self, a: int, b: int) -> int:
        """Links on the way from one tile to another."""
        width = self.width
        return abs(a % width - b % width) + abs(a // width - b // width)

    def nearest(self, candidates: Iterable[int], tiles: Iterable[int]) -> int:
        """The candidate that lies nearest to the middle of `tiles`; the first one of several."""
        places = [self.position(tile) for tile in tiles]
        middle_x = sum(x for x, _ in places) / len(places)
        middle_y = sum(y for _, y in places) / len(places)

        def away(tile: int) -> float:
            x, y = self.position(tile)
            return abs(x - middle_x) + abs(y - middle_y)

        return min(candidates, key=away)

    def neighbour(self, tile: int, port: int) -> int | None:
        """Tile at the other end of a link; None at the border."""
        (x, y), (dx, dy) = self.position(tile), _STEPS[port]
        inside = 0 <= x + dx < self.width and 0 <= y + dy < self.height
        return (y + dy) * self.width + x + dx if inside else None

    def snake_order(self) -> list[int]:
        """Tiles along the boustrophedon order: even rows left to right, odd rows right to left."""
        order = []
        for y in range(self.height):
            row = range(self.width) if y % 2 == 0 else range(self.width - 1, -1, -1)
            order += [y * self.width + x for x in row]
        return order

    def vector_tiles(self) -> list[int]:
        """Vector tiles in snake order (never the host tile)."""
        return [t for s, t in enumerate(self.snake_order()) if s % self.vector_period == self.vector_offset and t != HOST_TILE]

    def synapse_tiles(self) -> list[int]:
        """Synapse tiles in snake order."""
        vector = set(self.vector_tiles())
        return [t for t in self.snake_order() if t != HOST_TILE and t not in vector]

    def tree_mask(self, source: int, destinations: Iterable[int]) -> NDArray[np.uint8]:
        """Output ports of every tile for the XY tree from `source` to all destinations: uint8 [tiles]."""
        mask = np.zeros(self.tiles, dtype=np.uint8)
        for destination in destinations:
            x, y = self.position(source)
            to_x, to_y = self.position(destination)
            while x != to_x:
                mask[y * self.width + x] |= EAST if to_x > x else WEST
                x += 1 if to_x > x else -1
            while y != to_y:
                mask[y * self.width + x] |= SOUTH if to_y > y else NORTH
                y += 1 if to_y > y else -1
            mask[destination] |= LOCAL
        return mask

    def tree_links(self, source: int, destinations: Iterable[int]) -> int:
        """Links of that tree, counted without laying it."""
        width = self.width
        source_x, source_y = source % width, source // width
        columns: dict[int, tuple[int, int]] = {}
        for tile in destinations:
            x, y = tile % width, tile // width
            low, high = columns.get(x, (source_y, source_y))
            columns[x] = (min(low, y), max(high, y))
        return max(source_x, *columns) - min(source_x, *columns) + sum(high - low for low, high in columns.values())

    @property
    def extent(self) -> tuple[int, int]:
        """Columns and rows of a picture in which every tile takes the place of its `position`."""
        return self.width, self.height
