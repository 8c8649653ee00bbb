"""The chip's floor plan as inline SVG, every synapse tile as strong as it was active."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from neuromorphic_llm.compiler.floorplan import COLOURS, parts_of

_PITCH, _SIZE = 30, 27


def tile_activity(tiles: Sequence[Mapping[str, Any]], spikes_by_site: Mapping[str, float]) -> list[float | None]:
    """Synaptic operations per token of every tile (spikes of its site times its columns); None where there are no synapses."""
    return [None if tile["site"] is None else spikes_by_site.get(tile["site"], 0.0) * tile["columns"] for tile in tiles]


def floor_plan_svg(tiles: Sequence[Mapping[str, Any]], spikes_by_site: Mapping[str, float]) -> str:
    """SVG of the mesh: colour is the part of the network, its strength the activity, the number the stage.

    tiles: FloorplanTile as JSON objects; spikes_by_site: mean spikes per token by site name.
    """
    activity = tile_activity(tiles, spikes_by_site)
    most = max((value for value in activity if value), default=1.0)
    width = (1 + max(tile["x"] for tile in tiles)) * _PITCH
    height = (1 + max(tile["y"] for tile in tiles)) * _PITCH
    shapes = [_tile(tile, value, most) for tile, value in zip(tiles, activity, strict=True)]
    return f'<svg class="floor" viewBox="0 0 {width} {height}">{"".join(shapes)}</svg>'


def legend_html(tiles: Sequence[Mapping[str, Any]]) -> str:
    """Colours of the parts of these tiles."""
    box = f'<svg class="floor" viewBox="0 0 {_SIZE} {_SIZE}" aria-hidden="true">'
    parts = parts_of(tile["part"] for tile in tiles)
    return "".join(f'<span class="key">{box}{_square(0, 0, part, 1.0)}</svg>{escape(part)}</span>' for part in parts)


def _tile(tile: Mapping[str, Any], activity: float | None, most: float) -> str:
    x, y = tile["x"] * _PITCH, tile["y"] * _PITCH
    # Never so strong that the dark number on it is hard to read.
    opacity = 1.0 if activity is None else 0.2 + 0.6 * activity / most
    holds = tile["part"] if tile["site"] is None else f"{tile['site']}, {tile['columns']} columns"
    detail = "" if activity is None else f", {activity:,.0f} synaptic operations per token"
    title = escape(f"tile {tile['index']} ({tile['x']}, {tile['y']}): {holds}{detail}")
    label = "" if tile["stage"] is None else str(tile["stage"])
    text = f'<text x="{x + _SIZE / 2}" y="{y + _SIZE / 2 + 4}" text-anchor="middle">{label}</text>'
    return f"<g><title>{title}</title>{_square(x, y, tile['part'], opacity)}{text if label else ''}</g>"


def _square(x: int, y: int, part: str, opacity: float) -> str:
    """A tile; on white, so that it looks the same on a light and on a dark page."""
    place = f'x="{x}" y="{y}" width="{_SIZE}" height="{_SIZE}" rx="3"'
    if part == "unused":
        return f'<rect {place} class="unused"/>'
    return f'<rect {place} fill="#ffffff"/><rect {place} fill="{COLOURS[part]}" fill-opacity="{opacity:.2f}"/>'
