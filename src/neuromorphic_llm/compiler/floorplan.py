"""The floor plan of a program: what every tile of the mesh does, as data and as an SVG picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.topology import HOST_TILE

COLOURS = {
    "host": "#4a4a4a",
    "vector": "#a9a9a9",
    "qkv": "#3b76c4",
    "output": "#a88a00",
    "gate_up": "#2f8f6b",
    "down": "#c9711c",
    "head": "#a05fb0",
    "other": "#b5485c",
    "unused": "#e4e4e4",
}
"""Fill colour of tiles by their part; hues differ, so that a weaker shade of one is not taken for another. Sites of blocks from outside the
package are `other`."""

_DARK = ("host", "qkv", "gate_up", "head", "other")
_PITCH, _SIZE, _MARGIN = 44, 40, 12


@dataclass(frozen=True)
class FloorplanTile:
    """One tile: its part (a key of COLOURS) and, if it is used, its stage, site and columns."""

    index: int
    x: int
    y: int
    kind: str  # host, vector or synapse
    part: str
    stage: int | None = None
    site: str | None = None
    columns: int = 0


def floorplan(program: Program) -> list[FloorplanTile]:
    """Tiles of the chip in the order of their index."""
    topology, config = program.spec.topology, program.weights.config
    vector = set(topology.vector_tiles())
    used: dict[int, FloorplanTile] = {}
    for number, stage in enumerate(program.stages):
        tile = stage.vector_tile
        used[tile] = FloorplanTile(tile, *topology.position(tile), "vector", "vector", number)
        for regions in stage.regions:
            for region in regions:
                site, tile = config.sites[region.site], region.tile
                part = site.role if site.role in COLOURS else "other"
                used[tile] = FloorplanTile(tile, *topology.position(tile), "synapse", part, number, site.name, region.columns)
    tiles = [FloorplanTile(HOST_TILE, *topology.position(HOST_TILE), "host", "host")]
    for tile in range(HOST_TILE + 1, topology.tiles):
        kind = "vector" if tile in vector else "synapse"
        tiles.append(used.get(tile, FloorplanTile(tile, *topology.position(tile), kind, "unused")))
    return tiles


def parts_of(found: Iterable[str]) -> list[str]:
    """Parts that there are, in the order of COLOURS."""
    there = set(found)
    return [part for part in COLOURS if part in there]


def floorplan_svg(program: Program) -> str:
    """The floor plan as a self-contained SVG document; hovering over a tile names what it holds."""
    spec, tiles = program.spec, floorplan(program)
    parts = parts_of(tile.part for tile in tiles)
    across, down = spec.topology.extent
    width = max(across * _PITCH, len(parts) * 76) + 2 * _MARGIN
    height = down * _PITCH + 2 * _MARGIN + 56
    title = f"{spec.name}: {across} x {down} tiles; numbers are layers, H is the head"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="{_MARGIN + 12}" fill="#222222">{escape(title)}</text>',
    ]
    for number, part in enumerate(parts):
        x, y = _MARGIN + 76 * number, _MARGIN + 22
        lines.append(f'<rect x="{x}" y="{y}" width="12" height="12" rx="2" fill="{COLOURS[part]}"/>')
        lines.append(f'<text x="{x + 16}" y="{y + 10}" fill="#222222">{part}</text>')
    lines += [_tile_svg(tile, len(program.stages) - 1) for tile in tiles]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _tile_svg(tile: FloorplanTile, head_stage: int) -> str:
    x, y = _MARGIN + tile.x * _PITCH, _MARGIN + 48 + tile.y * _PITCH
    label = "" if tile.stage is None else "H" if tile.stage == head_stage else str(tile.stage)
    holds = f"{tile.site}, {tile.columns} columns" if tile.site else tile.part if tile.stage is None else f"stage {tile.stage}"
    border = ' stroke="' + COLOURS["vector"] + '" stroke-width="2"' if tile.kind == "vector" and tile.stage is None else ""
    text = "#ffffff" if tile.part in _DARK else "#222222"
    return (
        f"<g><title>tile {tile.index} ({tile.x}, {tile.y}), {tile.kind}: {escape(holds)}</title>"
        f'<rect x="{x}" y="{y}" width="{_SIZE}" height="{_SIZE}" rx="4" fill="{COLOURS[tile.part]}"{border}/>'
        f'<text x="{x + _SIZE // 2}" y="{y + _SIZE // 2 + 4}" text-anchor="middle" fill="{text}">{label}</text></g>'
    )
