"""Plots as inline SVG: text takes the page's colour, so that they read in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

_TEXT = "#123456"  # replaced by the page's text colour
BLUE, ORANGE, GREEN, PURPLE, GREY = "#3b76c4", "#d9822b", "#2f8f6b", "#a05fb0", "#8a8a8a"
SITE_COLOURS = {"qkv": BLUE, "output": "#59a5d8", "gate_up": GREEN, "down": ORANGE}


class _Drawing:
    """A figure and, once drawn, its SVG."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.svg = ""


@contextmanager
def _drawing(width: float, height: float, salt: str) -> Iterator[_Drawing]:
    """Collect one figure (size in inches) and write it as an SVG element when the context ends."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": _TEXT,
        "axes.labelcolor": _TEXT,
        "axes.edgecolor": _TEXT,
        "xtick.color": _TEXT,
        "ytick.color": _TEXT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
    with mpl.rc_context(style):
        drawing = _Drawing(Figure(figsize=(width, height), layout="constrained"))
        yield drawing
        file = io.StringIO()
        FigureCanvasSVG(drawing.figure).print_svg(file, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    # Ids must differ between the pictures of one page.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{salt}-", text)
    drawing.svg = text.replace(_TEXT, "currentColor")


def _grid(axes: Axes, axis: Any = "x") -> None:
    axes.grid(True, axis=axis, color=GREY, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)


def ranges_plot(rows: Sequence[tuple[str, Mapping[str, float], str]], label: str, salt: str) -> str:
    """Horizontal bars with bounds on a logarithmic axis: (name, {low, nominal, high}, colour), values above zero."""
    rows = [row for row in rows if row[1]["nominal"] > 0]
    with _drawing(7.2, 0.9 + 0.3 * len(rows), salt) as drawing:
        axes = drawing.figure.add_subplot()
        nominal = [values["nominal"] for _, values, _ in rows]
        errors = np.array([[v["nominal"] - v["low"], v["high"] - v["nominal"]] for _, v, _ in rows]).T
        axes.barh([name for name, _, _ in rows], nominal, color=[colour for _, _, colour in rows], height=0.65)
        axes.errorbar(nominal, range(len(rows)), xerr=errors, fmt="none", ecolor=_TEXT, elinewidth=1, capsize=3)
        axes.set_xscale("log")
        axes.set_xlim(left=min(v["low"] for _, v, _ in rows) / 2)
        wide = max(v["high"] for _, v, _ in rows) > 1e3 * min(v["low"] for _, v, _ in rows)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
        axes.xaxis.set_major_formatter(EngFormatter("J"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.invert_yaxis()
        axes.set_xlabel(label)
        _grid(axes)
    return drawing.svg


def spikes_plot(spikes_by_site: Mapping[str, float]) -> str:
    """Mean spikes per input of every crossbar site, by layer; names are `layers.L.SITE` and `head`."""
    with _drawing(7.2, 2.8, "spikes") as drawing:
        axes = drawing.figure.add_subplot()
        for site, colour in SITE_COLOURS.items():
            series = {int(name.split(".")[1]): value for name, value in spikes_by_site.items() if name.endswith(f".{site}")}
            axes.plot(list(series), list(series.values()), marker="o", markersize=3, linewidth=1.2, color=colour, label=site)
        if "head" in spikes_by_site:
            axes.axhline(spikes_by_site["head"], color=PURPLE, linewidth=1, linestyle="--", label="head")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("layer")
        axes.set_ylabel("spikes per input")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawing.figure.legend(ncols=5, loc="outside upper center")
        _grid(axes, "y")
    return drawing.svg


def cosine_plot(cosine: Sequence[float]) -> str:
    """Cosine similarity of the residual stream after each layer."""
    with _drawing(7.2, 2.2, "cosine") as drawing:
        axes = drawing.figure.add_subplot()
        axes.plot(range(len(cosine)), cosine, marker="o", markersize=3, linewidth=1.2, color=BLUE)
        axes.set_ylim(1 - 1.25 * max(1 - min(cosine), 1e-6), 1.0)
        axes.set_xlabel("layer")
        axes.set_ylabel("cosine to dense")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _grid(axes, "y")
    return drawing.svg


def raster_plot(raster: Mapping[str, Sequence[Sequence[int]]]) -> str:
    """Spike raster: one panel a site, phases downward (most significant first), inputs across; colour is the sign."""
    colours = ListedColormap([BLUE, "#80808010", ORANGE])
    with _drawing(7.2, 0.3 + 1.25 * len(raster), "raster") as drawing:
        panels = drawing.figure.subplots(len(raster), 1, squeeze=False)[:, 0]
        for axes, (name, digits) in zip(panels, raster.items(), strict=True):
            image = np.array(digits)
            axes.imshow(image, aspect="auto", cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
            axes.set_title(f"{name}: {int(np.abs(image).sum())} spikes of {image.shape[1]} inputs", fontsize=9, loc="left")
            axes.set_ylabel("phase")
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        panels[-1].set_xlabel("input")
    return drawing.svg


def quality_plot(quality: Mapping[str, Any]) -> str:
    """Perplexity of the network over spikes per activation, beside the dense model and its quantised forms."""
    with _drawing(7.2, 3.0, "quality") as drawing:
        axes = drawing.figure.add_subplot()
        points = sorted((point["spikes_per_activation"], point["perplexity"]) for point in quality["spiking"])
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=1.2, color=BLUE, label="spiking, other spike prices")
        own = quality["spiking"][0]
        axes.plot([own["spikes_per_activation"]], [own["perplexity"]], "o", markersize=9, color=BLUE, label="this network")
        axes.axhline(quality["dense"], color=_TEXT, linewidth=1, label="dense")
        for point, colour in zip(quality["quantised"], (GREEN, ORANGE, PURPLE), strict=True):
            axes.axhline(point["perplexity"], color=colour, linewidth=1, linestyle="--", label=point["name"])
        axes.set_yscale("log")
        bottom, top = axes.get_ylim()
        axes.yaxis.set_major_locator(MaxNLocator(6) if top < 5 * bottom else LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("spikes per activation")
        axes.set_ylabel("perplexity")
        drawing.figure.legend(fontsize=8, loc="outside right upper")
        _grid(axes, "both")
    return drawing.svg
