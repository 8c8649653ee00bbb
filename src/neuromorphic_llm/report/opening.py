"""Beginning of the page: the verdict, four figures, the terms, how to repeat it, where to read more."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from neuromorphic_llm.report.documentation import DOCUMENTATION
from neuromorphic_llm.report.parts import kind_mark
from neuromorphic_llm.report.tables import KINDS, counted_token, load
from neuromorphic_llm.report.verdict import headline, repeat_command, sentences
from neuromorphic_llm.report.words import PAGES, TERMS
from neuromorphic_llm.units import format_si


def opening_html(report: Mapping[str, Any]) -> str:
    """Everything above the summaries."""
    items = "".join(f"<li><b>{subject}.</b> {escape(text)} {kind_mark(kind)}</li>" for subject, text, kind in sentences(report))
    return "".join(
        (
            f'<section class="verdict"><h2>Verdict</h2><p class="lead">{escape(headline(report))}</p><ul>{items}</ul></section>',
            _figures(report),
            "<h2>What the words mean</h2>",
            _definitions({escape(term): meaning for term, meaning in TERMS.items()}),
            "<h3>Marks of the figures</h3>",
            _definitions({kind_mark(kind): meaning for kind, meaning in KINDS.items()}),
            "<h2>Repeat it, read more</h2>",
            f"<p>This run is repeated by</p><pre><code>{escape(repeat_command(report))}</code></pre>",
            _links(),
        )
    )


def _definitions(terms: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<div><dt>{term}</dt><dd>{escape(meaning)}</dd></div>" for term, meaning in terms.items()) + "</dl>"


def _links() -> str:
    items = "".join(f'<li><a href="{DOCUMENTATION}/{name}.html">{name}</a>: {escape(answers)}</li>' for name, answers in PAGES.items())
    return f'<p>Definitions, in the folder {DOCUMENTATION} beside this page:</p><ul class="links">{items}</ul>'


def _figures(report: Mapping[str, Any]) -> str:
    simulated, perplexity, evaluated = report["simulate"], report["perplexity"], report["eval"]
    energy, token = simulated["chip_energy_j_per_token"], counted_token(report)
    int8 = format_si(report["references"]["int8"]["energy_j_per_token"]["nominal"], "J")
    spread = f"{format_si(energy['low'], 'J')} to {format_si(energy['high'], 'J')}; INT8 in registers {int8}"
    context = f"chip {simulated['chip']}, {report['references']['context']:,} visible tokens{load(report)}"
    text = f"{evaluated['tokens']:,} tokens of task {evaluated['task']}"
    figures = [
        ("perplexity, dense → spiking", f"{perplexity['dense']:.2f} → {perplexity['spiking']:.2f}", text, "measured"),
        ("spikes per activation", f"{evaluated['spikes_per_activation']:.2f}", text, "measured"),
        (f"speed, {token}s", f"{simulated['chip_tokens_per_s']:,.0f} tokens/s", context, "simulated"),
        (f"energy per {token}", format_si(energy["nominal"], "J"), spread, "estimated"),
    ]
    cards = [
        f'<div class="figure"><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(detail)}</small>{kind_mark(kind)}</div>'
        for name, value, detail, kind in figures
    ]
    return f'<div class="figures">{"".join(cards)}</div>'
