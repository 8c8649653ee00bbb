"""The chip's floor plan as inline SVG, every synapse tile as strong as it was active."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from neuromorphic_llm.compiler.floorplan import COLOURS

_PITCH, _SIZE = 30, 27


def tile_activity(tiles: Sequence[Mapping[str, Any]], spikes_by_site: Mapping[str, float]) -> list[float | None]:
    """Synaptic operations a token of every tile (spikes of its site times its columns); None where there are no synapses."""
    return [None if tile["site"] is None else spikes_by_site.get(tile["site"], 0.0) * tile["columns"] for tile in tiles]


def floor_plan_svg(tiles: Sequence[Mapping[str, Any]], spikes_by_site: Mapping[str, float]) -> str:
    """SVG of the mesh: colour is the part of the network, opacity the activity, the number the stage.

    tiles: FloorplanTile as JSON objects; spikes_by_site: mean spikes a token by site name.
    """
    activity = tile_activity(tiles, spikes_by_site)
    most = max((value for value in activity if value), default=1.0)
    width = (1 + max(tile["x"] for tile in tiles)) * _PITCH
    height = (1 + max(tile["y"] for tile in tiles)) * _PITCH
    shapes = [_tile(tile, value, most) for tile, value in zip(tiles, activity, strict=True)]
    return f'<svg class="floor" viewBox="0 0 {width} {height}" role="img" aria-label="floor plan">{"".join(shapes)}</svg>'


def legend_html() -> str:
    """Colours of the parts."""
    return "".join(f'<span class="key"><i style="background:{colour}"></i>{escape(part)}</span>' for part, colour in COLOURS.items())


def _tile(tile: Mapping[str, Any], activity: float | None, most: float) -> str:
    x, y = tile["x"] * _PITCH, tile["y"] * _PITCH
    opacity = 1.0 if activity is None else 0.25 + 0.75 * activity / most
    holds = tile["part"] if tile["site"] is None else f"{tile['site']}, {tile['columns']} columns"
    detail = "" if activity is None else f", {activity:,.0f} synaptic operations a token"
    if tile["part"] == "unused":
        opacity = 0.2
    label = "" if tile["stage"] is None else str(tile["stage"])
    title = escape(f"tile {tile['index']} ({tile['x']}, {tile['y']}): {holds}{detail}")
    fill = COLOURS[str(tile["part"])]
    return (
        f"<g><title>{title}</title>"
        f'<rect x="{x}" y="{y}" width="{_SIZE}" height="{_SIZE}" rx="3" fill="{fill}" fill-opacity="{opacity:.2f}"/>'
        f'<text x="{x + _SIZE / 2}" y="{y + _SIZE / 2 + 3}" text-anchor="middle">{label}</text></g>'
    )
