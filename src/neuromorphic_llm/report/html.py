"""One self-contained HTML page: no scripts, no fonts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from neuromorphic_llm.report import plots
from neuromorphic_llm.report.floor import floor_plan_svg, legend_html
from neuromorphic_llm.report.tables import (
    KINDS,
    Table,
    breakdown_table,
    chip_table,
    energy_text,
    quality_table,
    speed_and_energy_table,
    steps_table,
)


def html_page(report: Mapping[str, Any]) -> str:
    """The page for the content of report.json."""
    css = files("neuromorphic_llm.report").joinpath("page.css").read_text(encoding="utf-8")
    title = f"{escape(report['model'])} as a spiking network"
    body = [
        f"<h1>{title}</h1>",
        '<p class="note">One pretrained model, run as it is and as a spiking network on a simulated memristive chip.</p>',
        _headline(report),
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
        "<h2>How to read the figures</h2>",
        "<dl>" + "".join(f"<dt>{_kind(kind)}</dt><dd>{escape(text)}</dd>" for kind, text in KINDS.items()) + "</dl>",
        "<h2>Steps of this run</h2>",
        _table(steps_table(report)),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{css}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _kind(kind: str) -> str:
    return f'<span class="kind {kind}">{kind}</span>' if kind in KINDS else escape(kind)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{_kind(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}'


def _figure(svg: str, caption: str, kind: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)} {_kind(kind)}</figcaption></figure>"


def _headline(report: Mapping[str, Any]) -> str:
    simulated, perplexity = report["simulate"], report["perplexity"]
    figures = [
        ("perplexity, dense to spiking", f"{perplexity['dense']:.2f} → {perplexity['spiking']:.2f}", "measured"),
        ("spikes per activation", f"{report['eval']['spikes_per_activation']:.2f}", "measured"),
        ("chip, tokens/s", f"{simulated['chip_tokens_per_s']:,.0f}", "simulated"),
        ("chip energy a token", energy_text(simulated["chip_energy_j_per_token"]), "estimated"),
    ]
    cards = [f'<div class="figure"><span>{name}</span><b>{escape(value)}</b>{_kind(kind)}</div>' for name, value, kind in figures]
    return f'<div class="figures">{"".join(cards)}</div>'


def _quality(report: Mapping[str, Any]) -> str:
    caption = f"Quality against spikes, first {report['quality']['tokens']:,} tokens of the same text."
    return _figure(plots.quality_plot(report["quality"]), caption, "measured")


def _summaries(report: Mapping[str, Any]) -> str:
    cards = []
    for key, title, kind in (("dense", "Dense model, PyTorch", "measured"), ("spiking", "Spiking network, simulated chip", "simulated")):
        text = escape(report["summary"][key]) or "<i>(nothing but an end of text)</i>"
        cards.append(f'<div class="summary"><h3>{title} {_kind(kind)}</h3><p>{text}</p></div>')
    article = f"<details><summary>The article</summary><p>{escape(report['article'])}</p></details>"
    return f'<div class="summaries">{"".join(cards)}</div>{article}'


def _comparison(report: Mapping[str, Any]) -> str:
    references = report["references"]

    def exact(value: float) -> dict[str, float]:
        return {"low": value, "nominal": value, "high": value}

    rows = [
        ("this chip (estimated)", report["simulate"]["chip_energy_j_per_token"], plots.BLUE),
        ("INT8 digital, registers (estimated)", references["int8"]["energy_j_per_token"], plots.GREEN),
        ("INT8 digital, SRAM (estimated)", references["int8_sram"]["energy_j_per_token"], plots.GREEN),
        ("FP16 digital (estimated)", references["fp16"]["energy_j_per_token"], plots.ORANGE),
    ]
    if report["baseline"]["energy_j_per_token"] is not None:
        rows.append((f"{report['baseline']['device']} (measured)", exact(report["baseline"]["energy_j_per_token"]), plots.GREY))
    for record in references["gpu"]:
        rows.append((f"{record['device']}, {record['mode']} (recorded)", exact(record["energy_j_per_token"]), plots.PURPLE))
    caption = "Energy of a decoded token; scopes differ: chip and DRAM accesses against whole boards. Bars carry their low and high bounds."
    return _figure(plots.ranges_plot(rows, "J a token", "comparison"), caption, "estimated")


def _breakdown(report: Mapping[str, Any]) -> str:
    parts = report["simulate"]["energy_breakdown_j"]
    rows = [(name, part, plots.BLUE) for name, part in sorted(parts.items(), key=lambda item: -item[1]["nominal"])]
    return _figure(plots.ranges_plot(rows, "J a decoded token", "breakdown"), "Chip energy by part, low to high.", "estimated")


def _layers(report: Mapping[str, Any]) -> str:
    layers = report["layers"]
    figures = [
        _figure(plots.spikes_plot(report["eval"]["spikes_per_input_by_site"]), "Mean spikes per input of every crossbar site.", "measured"),
        _figure(plots.cosine_plot(layers["cosine"]), "Cosine of the residual stream to the dense model's, after each layer.", "measured"),
    ]
    if layers["raster"]:
        caption = f"Spikes of the prompt's last token in layer {layers['raster_layer']}: orange +1, blue -1; most significant phase on top."
        figures.append(_figure(plots.raster_plot(layers["raster"]), caption, "simulated"))
    return "".join(figures)


def _floor(report: Mapping[str, Any]) -> str:
    svg = floor_plan_svg(report["floorplan"], report["simulate"]["spikes_per_token_by_site"])
    caption = "Floor plan: numbers are stages (the last is the head), strong colour means many synaptic operations in decode."
    return f"<div>{legend_html()}</div>" + _figure(svg, caption, "simulated")
