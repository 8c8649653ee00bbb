"""Plots and the floor plan as parts of one page."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from neuromorphic_llm.report import plots
from neuromorphic_llm.report.floor import floor_plan_svg, tile_activity
from neuromorphic_llm.report.tables import energy_text

RANGE = {"low": 1e-7, "nominal": 2e-7, "high": 5e-7}
QUALITY = {
    "dense": 20.0,
    "spiking": [
        {"name": "a", "perplexity": 21.0, "spikes_per_activation": 1.5},
        {"name": "b", "perplexity": 25.0, "spikes_per_activation": 1.0},
    ],
    "quantised": [{"name": name, "perplexity": value} for name, value in (("INT8", 20.5), ("INT6", 30.0), ("half", 40.0))],
}
PICTURES = {
    "energy": lambda: plots.ranges_plot(
        [("cells", RANGE, plots.BLUE), ("noc", {"low": 0.0, "nominal": 0.0, "high": 0.0}, plots.BLUE)], "J", "energy"
    ),
    "spikes": lambda: plots.spikes_plot({"layers.0.qkv": 1.0, "layers.0.down": 0.5, "layers.1.mine": 0.7, "head": 2.0}),
    "cosine": lambda: plots.cosine_plot([0.99, 0.95]),
    "raster": lambda: plots.raster_plot({"layers.0.qkv": [[0, 1, -1], [1, 0, 0]]}),
    "quality": lambda: plots.quality_plot(QUALITY),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_well_formed_and_self_contained(name: str) -> None:
    svg = PICTURES[name]()
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg") and "<metadata" not in svg and "currentColor" in svg and plots._TEXT not in svg
    references = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    assert references <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_pictures_share_no_ids() -> None:
    ids = [set(re.findall(r'\bid="([^"]+)"', make())) for make in PICTURES.values()]
    assert len(set.union(*ids)) == sum(map(len, ids))


def test_pictures_are_reproducible() -> None:
    assert PICTURES["spikes"]() == PICTURES["spikes"]()


def test_floor_plan_activity() -> None:
    common = {"y": 0, "stage": 0}
    tiles = [
        {"index": 0, "x": 0, "kind": "host", "part": "host", "site": None, "columns": 0, **common},
        {"index": 1, "x": 1, "kind": "synapse", "part": "qkv", "site": "layers.0.qkv", "columns": 10, **common},
        {"index": 2, "x": 2, "kind": "synapse", "part": "down", "site": "layers.0.down", "columns": 20, **common},
    ]
    spikes = {"layers.0.qkv": 4.0, "layers.0.down": 1.0}
    assert tile_activity(tiles, spikes) == [None, 40.0, 20.0]
    svg = floor_plan_svg(tiles, spikes)
    assert ElementTree.fromstring(svg).attrib["viewBox"] == "0 0 90 30"
    assert "layers.0.qkv, 10 columns, 40 synaptic operations per token" in svg
    assert re.findall(r'fill-opacity="([^"]+)"', svg) == ["1.00", "0.80", "0.50"]


def test_raster_loses_no_spike() -> None:
    svg = plots.raster_plot({"layers.0.down": [[column % 2 for column in range(3000)]]})
    encoded = re.search(r"base64,([^\"]+)", svg)
    assert encoded is not None
    image = np.array(Image.open(io.BytesIO(base64.b64decode(encoded[1]))).convert("RGBA"))
    strong = image[image.shape[0] // 2, :, 3] > 128
    assert np.count_nonzero(strong[1:] & ~strong[:-1]) == 1500


def test_energy_text_has_its_bounds() -> None:
    assert energy_text(RANGE) == "200 nJ (100 nJ to 500 nJ)"
