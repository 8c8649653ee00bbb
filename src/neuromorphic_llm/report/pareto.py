"""Table and plot of `nmllm pareto`: quality against spikes, energy and phases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from neuromorphic_llm.report.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, grid, svg_figure
from neuromorphic_llm.report.tables import Table, energy_text

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
Point = Mapping[str, Any]
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def method(point: Point) -> str:
    """Settings that a series of points shares: code with its parameters and phases, allocation, compensation."""
    parameters = "".join(f" {name}={value}" for name, value in point["code_parameters"].items())
    phases = f", {point['phases']} phases" if "phases" in point else ""
    return ", ".join((f"{point['code']}{parameters}{phases}", point["allocation"], *point["compensation"]))


def pareto_table(result: Mapping[str, Any]) -> Table:
    """Every point, in the order of spikes; points that could not be made come last, with their reason."""
    made = sorted((point for point in result["points"] if not point["failed"]), key=lambda point: point["spikes_per_activation"])
    rows = [("dense", "", f"{result['dense']['perplexity']:.2f}", "", "", "", "")]
    for point in made:
        change = point["perplexity"] / result["dense"]["perplexity"] - 1
        energy = point["chip_energy_j_per_token"]
        rows.append(
            (
                method(point),
                f"{point['spikes_per_activation']:.3f}",
                f"{point['perplexity']:.2f} ({change:+.1%})",
                f"{point['kl_to_dense']:.4f}",
                f"{point['top1_agreement']:.1%}",
                "-" if energy is None else energy_text(energy),
                "yes" if point["frontier"] else "",
            )
        )
    for point in result["points"]:
        if point["failed"]:
            amount = "all spikes" if point["asked_spikes"] is None else f"{point['asked_spikes']:g} spikes"
            rows.append((f"{method(point)}, {amount}", "", f"failed: {point['failed']}", "", "", "", ""))
    columns = ("method", "spikes", "perplexity", "KL, nats", "top-1", "energy per token", "best")
    reasons = {point["chip_energy_j_per_token_reason"] for point in made if point["chip_energy_j_per_token"] is None}
    notes = [
        "Quality and spikes are measured, energies estimated. best: no other point has fewer spikes and a lower perplexity.",
        *(f"No energy: {reason}." for reason in sorted(reasons)),
    ]
    notes += [f"{method(point)}: {point['note']}." for point in made if point.get("note")]
    return Table(f"{result['model']}, task {result['task']}, {result['tokens']:,} tokens", columns, tuple(rows), " ".join(notes))


def markdown(table: Table) -> str:
    """The table as Markdown, with its title and note."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = line(["---"] * len(table.columns))
    return "\n".join((f"# {table.title}", "", line(table.columns), rule, *map(line, table.rows), "", table.note, ""))


def _spikes(point: Point) -> float:
    return float(point["spikes_per_activation"])


def _energy(point: Point) -> float:
    return float(point["chip_energy_j_per_token"]["nominal"])


def pareto_plot(result: Mapping[str, Any]) -> str | None:
    """Perplexity over spikes and, where a chip gave energies, over energy; one line per method. None if no point could be made."""
    made = [point for point in result["points"] if not point["failed"]]
    if not made:
        return None
    energies = [point for point in made if point["chip_energy_j_per_token"] is not None]
    panels: list[tuple[str, list[Point], Callable[[Point], float]]] = [("spikes per activation", made, _spikes)]
    if energies:
        panels.append(("energy per decoded token", energies, _energy))
    methods = list(dict.fromkeys(method(point) for point in made))
    with svg_figure(1.0 + 2.6 * len(panels) + 0.17 * len(methods), "pareto") as picture:
        rows = picture.figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (label, points, value) in zip(rows, panels, strict=True):
            for number, name in enumerate(methods):
                line = sorted((value(point), point["perplexity"]) for point in points if method(point) == name)
                if line:
                    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number // len(_COLOURS) % len(_MARKERS)]
                    axes.plot(*zip(*line, strict=True), marker=marker, markersize=4, linewidth=1.2, color=colour, label=name)
            axes.axhline(result["dense"]["perplexity"], color=GREY, linewidth=1, linestyle="--", label="dense")
            axes.set_xlabel(label)
            _perplexity_axis(axes)
        rows[-1].xaxis.set_major_formatter(EngFormatter("J") if energies else ScalarFormatter())
        handles, names = rows[0].get_legend_handles_labels()
        picture.figure.legend(handles, names, fontsize=7, ncols=1, loc="outside upper left")
    return picture.svg


def _perplexity_axis(axes: Axes) -> None:
    axes.set_ylabel("perplexity")
    axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    axes.yaxis.set_major_locator(MaxNLocator(6) if top < 5 * bottom else LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    grid(axes, "both")
