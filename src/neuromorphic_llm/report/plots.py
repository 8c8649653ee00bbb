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

from neuromorphic_llm.compiler.floorplan import COLOURS

_TEXT = "#123456"  # replaced by the page's text colour
# At least 3:1 on the light and on the dark page.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#3b76c4", "#c9711c", "#2f8f6b", "#a05fb0", "#8a8a8a"
_MARKERS = {"qkv": "o", "output": "s", "gate_up": "^", "down": "D"}
_WIDTH = 4.0  # inches; small, so that text stays legible where a phone shows the whole picture


class _Drawing:
    """A figure and, once drawn, its SVG."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.svg = ""


@contextmanager
def svg_figure(height: float, salt: str, dpi: float = 100) -> Iterator[_Drawing]:
    """Collect one figure (height in inches) and write it as an SVG element when the context ends; dpi is that of its images."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": "sans-serif",
        "font.size": 9,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
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
        drawing = _Drawing(Figure(figsize=(_WIDTH, height), dpi=dpi, layout="constrained"))
        yield drawing
        file = io.StringIO()
        FigureCanvasSVG(drawing.figure).print_svg(file, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = file.getvalue()
    # A style element inside a picture would apply to the whole page.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    # The page decides on the size.
    text = re.sub(r"^<svg [^>]*>", lambda tag: re.sub(r' (?:width|height)="[^"]*"', "", tag[0]), text)
    # Ids must differ between the pictures of one page.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{salt}-", text)
    drawing.svg = text.replace(_TEXT, "currentColor")


def grid(axes: Axes, axis: Any = "x") -> None:
    axes.grid(True, axis=axis, color=GREY, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)


def ranges_plot(rows: Sequence[tuple[str, Mapping[str, float], str]], label: str, salt: str) -> str:
    """Nominal values within their bounds on a logarithmic axis: (name, {low, nominal, high} in J, colour), values above zero."""
    rows = [row for row in rows if row[1]["nominal"] > 0]
    lowest, highest = min(values["low"] for _, values, _ in rows), max(values["high"] for _, values, _ in rows)
    with svg_figure(0.7 + (0.36 if any("\n" in name for name, _, _ in rows) else 0.26) * len(rows), salt) as drawing:
        axes = drawing.figure.add_subplot()
        for place, (_, values, colour) in enumerate(rows):
            axes.plot([values["low"], values["high"]], [place, place], color=colour, linewidth=5, alpha=0.5, solid_capstyle="butt")
            axes.plot([values["nominal"]], [place], "o", color=colour, markersize=7)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_xscale("log")
        axes.set_xlim(lowest / 1.5, highest * 1.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if highest > 1e2 * lowest else (1.0, 3.0)))
        axes.xaxis.set_major_formatter(EngFormatter("J"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(label)
        grid(axes, "both")
    return drawing.svg


def context_plot(points: Sequence[Mapping[str, Any]], over: str = "context") -> str:
    """Energy of a decoded token over the `context`, or the `sequences` in flight, of chip and references: nominal lines within bounds."""
    series = {
        "chip": ("this chip", BLUE, "o", "-"),
        "int8": ("INT8, registers", GREEN, "s", "--"),
        "int8_improved": ("INT8, improved", GREEN, "P", "-"),
        "int8_sram": ("INT8, SRAM", PURPLE, "^", "-."),
        "fp16": ("FP16, registers", ORANGE, "D", ":"),
        "bit_serial_crossbar": ("bit-serial crossbars", GREY, "v", "-."),
    }
    series = {key: drawn for key, drawn in series.items() if f"{key}_energy_j_per_token" in points[0]}  # earlier reports have fewer
    places = [point[over] for point in points]
    with svg_figure(3.6, "context") as drawing:
        axes = drawing.figure.add_subplot()
        for key, (name, colour, marker, dashes) in series.items():
            low, nominal, high = ([point[f"{key}_energy_j_per_token"][bound] for point in points] for bound in ("low", "nominal", "high"))
            axes.fill_between(places, low, high, color=colour, alpha=0.1, linewidth=0)
            axes.plot(places, nominal, marker=marker, markersize=4, linewidth=1.5, linestyle=dashes, color=colour, label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(EngFormatter("J"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel({"context": "visible tokens", "sequences": "sequences in flight"}[over])
        axes.set_ylabel("energy per decoded token")
        drawing.figure.legend(fontsize=8, ncols=2, loc="outside upper left")
        grid(axes, "both")
    return drawing.svg


def latency_plot(stages: Sequence[Mapping[str, float]], labels: Mapping[str, str]) -> str:
    """Cycles a decoded token spends in every layer and in the head, stacked by unit."""
    colours = {"synapse": BLUE, "attention": ORANGE, "encode": GREEN, "vector": PURPLE}
    places = range(len(stages))
    with svg_figure(3.3, "latency") as drawing:
        axes = drawing.figure.add_subplot()
        below = np.zeros(len(stages))
        for name, colour in colours.items():
            cycles = np.array([stage[name] for stage in stages])
            axes.bar(places, cycles, bottom=below, width=0.8, color=colour, label=labels[name])
            below += cycles
        axes.set_xlabel("layer; the last bar is the head")
        axes.set_ylabel("cycles")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawing.figure.legend(fontsize=8, ncols=1, loc="outside upper left")
        grid(axes, "y")
    return drawing.svg


def spikes_plot(spikes_by_site: Mapping[str, float]) -> str:
    """Mean spikes per input of every crossbar site, by layer; names are `layers.L.SITE` and `head`."""
    with svg_figure(2.8, "spikes") as drawing:
        axes = drawing.figure.add_subplot()
        for site in dict.fromkeys(name.rpartition(".")[2] for name in spikes_by_site if name != "head"):
            series = {int(name.split(".")[1]): value for name, value in spikes_by_site.items() if name.endswith(f".{site}")}
            colour, marker = COLOURS.get(site, COLOURS["other"]), _MARKERS.get(site, "v")
            axes.plot(list(series), list(series.values()), marker=marker, markersize=3.5, linewidth=1.2, color=colour, label=site)
        if "head" in spikes_by_site:
            axes.axhline(spikes_by_site["head"], color=COLOURS["head"], linewidth=1, linestyle="--", label="head")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("layer")
        axes.set_ylabel("spikes per input")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawing.figure.legend(fontsize=8, ncols=3, loc="outside upper left")
        grid(axes, "y")
    return drawing.svg


def cosine_plot(cosine: Sequence[float]) -> str:
    """Cosine similarity of the residual stream after each layer."""
    with svg_figure(2.2, "cosine") as drawing:
        axes = drawing.figure.add_subplot()
        axes.plot(range(len(cosine)), cosine, marker="o", markersize=3, linewidth=1.2, color=BLUE)
        axes.set_ylim(1 - 1.25 * max(1 - min(cosine), 1e-6), 1.0)
        axes.set_xlabel("layer")
        axes.set_ylabel("cosine to dense")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        grid(axes, "y")
    return drawing.svg


def raster_plot(raster: Mapping[str, Sequence[Sequence[int]]]) -> str:
    """Spike raster: one panel per site, phases downward (most significant first), inputs across; colour is the sign."""
    colours = ListedColormap([BLUE, "#80808010", ORANGE])
    most = max(len(digits[0]) for digits in raster.values())
    # Two pixels for an input at least, or spikes would be lost.
    with svg_figure(0.3 + 1.25 * len(raster), "raster", dpi=max(100.0, 2 * most / (0.8 * _WIDTH))) as drawing:
        panels = drawing.figure.subplots(len(raster), 1, squeeze=False)[:, 0]
        for axes, (name, digits) in zip(panels, raster.items(), strict=True):
            image = np.array(digits)
            axes.imshow(image, aspect="auto", cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
            axes.set_title(f"{name}: {int(np.abs(image).sum()):,} spikes of {image.shape[1]:,} inputs", fontsize=9, loc="left")
            axes.set_ylabel("phase")
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        panels[-1].set_xlabel("input")
    return drawing.svg


def quality_plot(quality: Mapping[str, Any]) -> str:
    """Perplexity of the network over spikes per activation, beside the dense model and its quantised forms."""
    with svg_figure(3.9, "quality") as drawing:
        axes = drawing.figure.add_subplot()
        points = sorted((point["spikes_per_activation"], point["perplexity"]) for point in quality["spiking"])
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=1.2, color=BLUE, label="spiking, other prices of a spike")
        own = quality["spiking"][0]
        axes.plot([own["spikes_per_activation"]], [own["perplexity"]], "o", markersize=9, color=BLUE, label="this network")
        axes.axhline(quality["dense"], color=_TEXT, linewidth=1, label="dense")
        for point, (colour, dashes) in zip(quality["quantised"], ((GREEN, "--"), (ORANGE, "-."), (PURPLE, ":")), strict=True):
            axes.axhline(point["perplexity"], color=colour, linewidth=1.4, linestyle=dashes, label=f"dense, {point['name']}")
        axes.set_yscale("log")
        bottom, top = axes.get_ylim()
        axes.yaxis.set_major_locator(MaxNLocator(6) if top < 5 * bottom else LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("spikes per activation")
        axes.set_ylabel("perplexity")
        drawing.figure.legend(fontsize=8, ncols=1, loc="outside upper left")
        grid(axes, "both")
    return drawing.svg
