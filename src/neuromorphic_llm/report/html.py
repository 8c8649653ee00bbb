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
from neuromorphic_llm.report.floor import floor_plan_svg, legend_html
from neuromorphic_llm.report.tables import (
    KINDS,
    Table,
    breakdown_table,
    chip_table,
    counted_token,
    energy_parts,
    quality_table,
    speed_and_energy_table,
    steps_table,
)
from neuromorphic_llm.text_file import write_text
from neuromorphic_llm.units import format_bytes, format_si


def write_page(folder: Path) -> Path:
    """Write FOLDER/report.html from FOLDER/report.json alone; the path of the page.

    Raises DataError if report.json is missing, is not the result of `nmllm run`, or lacks something that the page shows.
    """
    source = folder / "report.json"
    again = f"make it again with nmllm run -o {folder}"
    try:
        report = json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}); give the output folder of nmllm run") from error
    except ValueError as error:
        raise DataError(f"{source} is not JSON ({error}); {again}") from error
    if not isinstance(report, dict) or report.get("command") != "run":
        raise DataError(f"{source} is not the result of nmllm run; {again}")
    try:
        page = html_page(report)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # Whatever is wrong with the content shows as one of these.
        raise DataError(f"{source} does not fit this version's page ({type(error).__name__}: {error}); {again}") from error
    write_text(folder / "report.html", page)
    return folder / "report.html"


def html_page(report: Mapping[str, Any]) -> str:
    """The page for the content of report.json."""
    css = files("neuromorphic_llm.report").joinpath("page.css").read_text(encoding="utf-8")
    title = f"{escape(report['model'])} as a spiking network"
    body = [
        f"<h1>{title}</h1>",
        '<p class="note">One pretrained model, run as it is and as a spiking network on a simulated memristive chip.</p>',
        _headline(report),
        "<dl>" + "".join(f"<dt>{_kind(kind)}</dt><dd>{escape(text)}</dd>" for kind, text in KINDS.items()) + "</dl>",
        "<h2>Summaries</h2>",
        _summaries(report),
        "<h2>Quality</h2>",
        _table(quality_table(report)),
        _quality(report),
        "<h2>Speed and energy</h2>",
        _table(speed_and_energy_table(report)),
        _comparison(report),
        "<h2>Where the energy goes</h2>",
        _table(breakdown_table(report)),
        _breakdown(report),
        "<h2>Layers</h2>",
        _layers(report),
        "<h2>Chip</h2>",
        _table(chip_table(report)),
        _floor(report),
        "<h2>Steps of this run</h2>",
        _table(steps_table(report)),
        _origin(report),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{css}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _kind(kind: str) -> str:
    return f'<span class="kind {kind}">{kind}</span>' if kind in KINDS else escape(kind)


def _scroll(content: str, name: str) -> str:
    """A box of its own for what may be wider than the screen; the keyboard can scroll it too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">{content}</div>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{_kind(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    content = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return _scroll(content, table.title) + note


def _figure(svg: str, name: str, caption: str, *kinds: str) -> str:
    """A picture with a short name for those who cannot see it, and its caption."""
    picture = svg.replace("<svg", f'<svg role="img" aria-label="{escape(name)}"', 1)
    marks = " ".join(_kind(kind) for kind in kinds)
    return f"<figure>{_scroll(picture, name)}<figcaption>{escape(caption)} {marks}</figcaption></figure>"


def _headline(report: Mapping[str, Any]) -> str:
    simulated, perplexity, evaluated = report["simulate"], report["perplexity"], report["eval"]
    energy, token = simulated["chip_energy_j_per_token"], counted_token(report)
    int8 = format_si(report["references"]["int8"]["energy_j_per_token"]["nominal"], "J")
    spread = f"{format_si(energy['low'], 'J')} to {format_si(energy['high'], 'J')}; INT8 digital {int8}"
    context = f"chip {simulated['chip']}, {report['references']['context']:,} visible tokens"
    text = f"{evaluated['tokens']:,} tokens of task {evaluated['task']}"
    figures = [
        ("perplexity, dense → spiking", f"{perplexity['dense']:.2f} → {perplexity['spiking']:.2f}", text, "measured"),
        ("spikes per activation", f"{evaluated['spikes_per_activation']:.2f}", text, "measured"),
        (f"speed, {token}s", f"{simulated['chip_tokens_per_s']:,.0f} tokens/s", context, "simulated"),
        (f"energy a {token}", format_si(energy["nominal"], "J"), spread, "estimated"),
    ]
    cards = [
        f'<div class="figure"><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(detail)}</small>{_kind(kind)}</div>'
        for name, value, detail, kind in figures
    ]
    return f'<div class="figures">{"".join(cards)}</div>'


def _quality(report: Mapping[str, Any]) -> str:
    caption = (
        f"Perplexity against spikes at other prices of a spike, first {report['quality']['tokens']:,} tokens of the same text. "
        "Broken lines: the dense model with 8-bit weights, inputs of its linear layers rounded to 8 or 6 bits or cut to the largest half."
    )
    return _figure(plots.quality_plot(report["quality"]), "perplexity against spikes per activation", caption, "measured")


def _summaries(report: Mapping[str, Any]) -> str:
    cards = []
    for key, title, kind in (("dense", "Dense model, PyTorch", "measured"), ("spiking", "Spiking network, simulated chip", "simulated")):
        text = escape(report["summary"][key]) or "<i>(nothing but an end of text)</i>"
        cards.append(f'<div class="summary"><h3>{title} {_kind(kind)}</h3><p>{text}</p></div>')
    limit = f'<p class="note">Greedy decoding, at most {report["arguments"]["max_new_tokens"]:,} tokens; the same prompt for both.</p>'
    article = f"<details><summary>The article</summary><p>{escape(report['article'])}</p></details>"
    return f'<div class="summaries">{"".join(cards)}</div>{limit}{article}'


def _comparison(report: Mapping[str, Any]) -> str:
    references = report["references"]

    def exact(value: float) -> dict[str, float]:
        return {"low": value, "nominal": value, "high": value}

    kinds = ["estimated"]
    rows = [
        ("this chip (estimated)", report["simulate"]["chip_energy_j_per_token"], plots.BLUE),
        ("INT8 digital, registers (estimated)", references["int8"]["energy_j_per_token"], plots.GREEN),
        ("INT8 digital, SRAM (estimated)", references["int8_sram"]["energy_j_per_token"], plots.GREEN),
        ("FP16 digital (estimated)", references["fp16"]["energy_j_per_token"], plots.ORANGE),
    ]
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
    return _figure(plots.ranges_plot(rows, "energy a token", "comparison"), "energy a token of chip and references", caption, *kinds)


def _breakdown(report: Mapping[str, Any]) -> str:
    rows = [(name, part, plots.BLUE) for name, part in energy_parts(report)]
    caption = "Chip energy by part, nominal (point) within its low and high bound (line), on a logarithmic scale."
    return _figure(plots.ranges_plot(rows, f"energy a {counted_token(report)}", "breakdown"), "chip energy by part", caption, "estimated")


def _layers(report: Mapping[str, Any]) -> str:
    layers = report["layers"]
    figures = [
        _figure(
            plots.spikes_plot(report["eval"]["spikes_per_input_by_site"]),
            "spikes per input of every crossbar site by layer",
            "Mean spikes per input of every crossbar site: qkv, output (of attention), gate_up, down (feed-forward), and the LM head.",
            "measured",
        ),
        _figure(
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
        figures.append(_figure(plots.raster_plot(layers["raster"]), name, caption, layers["kind"]))
    return "".join(figures)


def _floor(report: Mapping[str, Any]) -> str:
    svg = floor_plan_svg(report["floorplan"], report["simulate"]["spikes_per_token_by_site"])
    caption = (
        "Floor plan: colour is the part of the network, the number its stage (a layer; the last is the head), and the stronger the colour "
        f"the more synaptic operations a {counted_token(report)}. Vector tiles do norms, attention and spike coding; "
        "they and the host have no synapses."
    )
    return f'<p class="note legend">{legend_html()}</p>' + _figure(svg, "floor plan of the chip", caption, "simulated")


def _origin(report: Mapping[str, Any]) -> str:
    """When, where and with what the run was made."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version is not None)
    graphics = machine["gpu"] or "no GPU"
    return (
        f"<footer>{escape(report['started'][:10])}, {report['wall_s']:,.0f} s. {escape(versions)}. {escape(machine['cpu'])}, "
        f"{machine['threads']} threads, {format_bytes(machine['memory_bytes'])}, {escape(graphics)}. Seed {report['seed']}, "
        f"converted for {report['arguments']['spikes']:g} spikes per activation.</footer>"
    )
