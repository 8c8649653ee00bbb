"""The report in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from neuromorphic_llm.report.sentences import shown_summary, summaries_note
from neuromorphic_llm.report.tables import Table, all_tables
from neuromorphic_llm.report.verdict import headline, sentences


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """The verdict, both summaries side by side, then the tables."""
    console.print(Text(f"Verdict: {headline(report)}", style="bold"))
    for subject, text, kind in sentences(report):
        console.print(Text(f"{subject} ({kind}): {text}"))
    width = max((console.width - 4) // 2, 30)
    panels = []
    for key, title in (("dense", "dense model, PyTorch"), ("spiking", "spiking network on the simulated chip")):
        shown = shown_summary(report, key)
        panels.append(Panel(Text(shown.text or "(nothing but an end of text)"), title=title, subtitle=shown.remark or None, width=width))
    console.print(Columns(panels, padding=(0, 1)))
    console.print(Text(summaries_note(report)))
    for table in all_tables(report):
        print_table(table, console)


def print_table(table: Table, console: Console) -> None:
    """One table."""
    console.print(_rich(table))


def _rich(table: Table) -> RichTable:
    shown = RichTable(title=table.title, caption=table.note or None, title_justify="left", caption_justify="left")
    for column in table.columns:
        shown.add_column(column, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown
