"""One self-contained HTML page: no scripts, no fonts, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from neuromorphic_llm.errors import DataError
from neuromorphic_llm.report import plots
from neuromorphic_llm.report.documentation import write_documentation
from neuromorphic_llm.report.floor import floor_plan_svg, legend_html
from neuromorphic_llm.report.opening import opening_html
from neuromorphic_llm.report.parts import figure, kind_mark, table_html
from neuromorphic_llm.report.sentences import shown_summary, summaries_note
from neuromorphic_llm.report.tables import (
    UNITS,
    area_table,
    breakdown_table,
    chip_table,
    context_table,
    counted_token,
    energy_parts,
    latency_table,
    quality_table,
    speed_and_energy_table,
    steps_table,
    variants_table,
)
from neuromorphic_llm.text_file import LIMITS, FileRefusedError, read_bytes, write_text
from neuromorphic_llm.units import format_bytes

_OLD_RUN = "This run was made before this was computed; make it again for it."


def write_page(folder: Path) -> Path:
    """Write FOLDER/report.html from FOLDER/report.json alone, and the pages that it links to in FOLDER/report-docs; the path of the page.

    Raises DataError if report.json is missing, is not the result of `nmllm run`, or lacks something that the page shows.
    """
    source = folder / "report.json"
    again = f"make it again with nmllm run -o {folder}"
    try:
        report = json.loads(read_bytes(source, LIMITS["json"]))
    except FileRefusedError as error:
        raise DataError(f"{error}, the output folder of nmllm run") from error
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}); give the output folder of nmllm run") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON ({error}); {again}") from error
    if not isinstance(report, dict) or report.get("command") != "run":
        raise DataError(f"{source} is not the result of nmllm run; {again}")
    try:
        page = html_page(report)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # Whatever is wrong with the content shows as one of these.
        raise DataError(f"{source} does not fit this version's page ({type(error).__name__}: {error}); {again}") from error
    write_documentation(folder)
    write_text(folder / "report.html", page)
    return folder / "report.html"


def html_page(report: Mapping[str, Any]) -> str:
    """The page for the content of report.json."""
    css = files("neuromorphic_llm.report").joinpath("page.css").read_text(encoding="utf-8")
    title = f"{escape(report['model'])} as a spiking network"
    body = [
        f"<h1>{title}</h1>",
        '<p class="note">One pretrained language model, run as it is and as a spiking network on a simulated memristive chip.</p>',
        opening_html(report),
        "<h2>Summaries</h2>",
        _summaries(report),
        "<h2>Quality</h2>",
        table_html(quality_table(report)),
        _quality(report),
        table_html(variants_table(report)),
        "<h2>Speed and energy</h2>",
        table_html(speed_and_energy_table(report)),
        _comparison(report),
        "<h2>Energy over the context</h2>",
        _context(report),
        "<h2>Where the energy goes</h2>",
        table_html(breakdown_table(report)),
        _breakdown(report),
        "<h2>Where the time goes</h2>",
        _latency(report),
        "<h2>Layers</h2>",
        _layers(report),
        "<h2>Chip</h2>",
        table_html(chip_table(report)),
        table_html(area_table(report)) if "area_mm2" in report["compile"] else "",  # earlier reports have none
        _floor(report),
        "<h2>Steps of this run</h2>",
        table_html(steps_table(report)),
        _origin(report),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{css}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _quality(report: Mapping[str, Any]) -> str:
    caption = (
        f"Perplexity against spikes at other prices of a spike, first {report['quality']['tokens']:,} tokens of the same text. "
        "Broken lines: the dense model with 8-bit weights and fewer bits or inputs in front of its linear layers, by plain rounding."
    )
    return figure(plots.quality_plot(report["quality"]), "perplexity against spikes per activation", caption, "measured")


def _summaries(report: Mapping[str, Any]) -> str:
    cards = []
    for key, title, kind in (("dense", "Dense model, PyTorch", "measured"), ("spiking", "Spiking network, simulated chip", "simulated")):
        shown = shown_summary(report, key)
        text = escape(shown.text) or "<i>(nothing but an end of text)</i>"
        remark = f'<p class="note">{escape(shown.remark)}</p>' if shown.remark else ""
        cards.append(f'<div class="summary"><h3>{title} {kind_mark(kind)}</h3><p>{text}</p>{remark}</div>')
    note = f'<p class="note">{escape(summaries_note(report))}</p>'
    article = f"<details><summary>The article</summary><p>{escape(report['article'])}</p></details>"
    return f'<div class="summaries">{"".join(cards)}</div>{note}{article}'


def _comparison(report: Mapping[str, Any]) -> str:
    references = report["references"]

    def exact(value: float) -> dict[str, float]:
        return {"low": value, "nominal": value, "high": value}

    kinds = ["estimated"]
    rivals = {
        "int8": ("INT8 digital, registers (estimated)", plots.GREEN),
        "int8_improved": ("INT8 digital, improved (estimated)", plots.GREEN),
        "int8_sram": ("INT8 digital, SRAM (estimated)", plots.GREEN),
        "fp16": ("FP16 digital (estimated)", plots.ORANGE),
        "bit_serial_crossbar": ("bit-serial crossbars (estimated)", plots.BLUE),
    }
    rows = [("this chip (estimated)", report["simulate"]["chip_energy_j_per_token"], plots.BLUE)]
    rows += [(name, references[key]["energy_j_per_token"], colour) for key, (name, colour) in rivals.items() if key in references]
    if report["baseline"]["energy_j_per_token"] is not None:
        rows.append((f"{report['baseline']['device']} (measured)", exact(report["baseline"]["energy_j_per_token"]), plots.GREY))
        kinds.append("measured")
    for record in references["gpu"]:
        rows.append((f"{record['device']} (recorded)\n{record['mode']}", exact(record["energy_j_per_token"]), plots.PURPLE))
    if references["gpu"]:
        kinds.append("recorded")
    caption = f"Energy of a {counted_token(report)}, nominal (point) within its low and high bound (line), on a logarithmic scale."
    if len(kinds) > 1:
        caption += " Scopes differ: chip and DRAM accesses for the estimates, a whole processor or board for the others."
    return figure(plots.ranges_plot(rows, "energy per token", "comparison"), "energy per token of chip and references", caption, *kinds)


def _breakdown(report: Mapping[str, Any]) -> str:
    rows = [(name, part, plots.BLUE) for name, part in energy_parts(report)]
    caption = "Chip energy by part, nominal (point) within its low and high bound (line), on a logarithmic scale."
    return figure(plots.ranges_plot(rows, f"energy per {counted_token(report)}", "breakdown"), "chip energy by part", caption, "estimated")


def _context(report: Mapping[str, Any]) -> str:
    points = report.get("energy_over_context")
    if not points:
        return f'<p class="note">{_OLD_RUN if points is None else "The prompt is too short for it."}</p>'
    caption = (
        "Energy of a decoded token over the visible tokens, nominal (lines) within low and high bounds (areas); both axes logarithmic."
    )
    name = "energy per decoded token over visible tokens, of the chip and of three digital references"
    return figure(plots.context_plot(points), name, caption, "estimated") + table_html(context_table(points))


def _latency(report: Mapping[str, Any]) -> str:
    latency = report.get("latency")
    if not latency:
        return f'<p class="note">{escape(str(report.get("latency_reason", _OLD_RUN)))}</p>'
    caption = "Cycles that a decoded token spends in every layer, by what it is doing or waiting for there."
    picture = figure(plots.latency_plot(latency["stages"], UNITS), "cycles of a decoded token by layer and unit", caption, "simulated")
    return table_html(latency_table(report)) + picture


def _layers(report: Mapping[str, Any]) -> str:
    layers = report["layers"]
    figures = [
        figure(
            plots.spikes_plot(report["eval"]["spikes_per_input_by_site"]),
            "spikes per input of every crossbar site by layer",
            "Mean spikes per input of every crossbar site: qkv, output (of attention), gate_up, down (feed-forward), and the LM head.",
            "measured",
        ),
        figure(
            plots.cosine_plot(layers["cosine"]),
            "cosine to the dense model by layer",
            "Cosine between the residual streams of the spiking and the dense model after each layer; 1 is the same direction.",
            "measured",
        ),
    ]
    if layers["raster"]:
        caption = (
            f"Spikes of the prompt's last token in layer {layers['raster_layer']}: orange +1, blue -1; phase 0 is the most significant."
        )
        name = f"spike raster of layer {layers['raster_layer']}"
        figures.append(figure(plots.raster_plot(layers["raster"]), name, caption, layers["kind"]))
    return "".join(figures)


def _floor(report: Mapping[str, Any]) -> str:
    svg = floor_plan_svg(report["floorplan"], report["simulate"]["spikes_per_token_by_site"])
    caption = (
        "Floor plan: colour is the part of the network, the number its stage (a layer; the last is the head), and the stronger the colour "
        f"the more synaptic operations per {counted_token(report)}. Vector tiles do norms, attention and spike coding; "
        "they and the host have no synapses."
    )
    return f'<p class="note legend">{legend_html(report["floorplan"])}</p>' + figure(svg, "floor plan of the chip", caption, "simulated")


def _origin(report: Mapping[str, Any]) -> str:
    """Date, machine and versions of the run."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version is not None)
    graphics = machine["gpu"] or "no GPU"
    return (
        f"<footer>{escape(report['started'][:10])}, {report['wall_s']:,.0f} s. {escape(versions)}. {escape(machine['cpu'])}, "
        f"{machine['threads']} threads, {format_bytes(machine['memory_bytes'])}, {escape(graphics)}. Seed {report['seed']}, "
        f"converted for {report['arguments']['spikes']:g} spikes per activation.</footer>"
    )
