"""Pieces of the page: marks, tables, figures, boxes that scroll."""

from __future__ import annotations

from html import escape

from neuromorphic_llm.report.tables import KINDS, Table


def kind_mark(kind: str) -> str:
    """The mark of a kind of figure; other text as it is."""
    return f'<span class="kind {kind}">{kind}</span>' if kind in KINDS else escape(kind)


def scroll(content: str, name: str) -> str:
    """A box of its own for what may be wider than the screen; the keyboard can scroll it too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">{content}</div>'


def table_html(table: Table) -> str:
    """A table with its note. On narrow screens a row becomes a card, so every cell knows its column; roles keep it a table for readers."""
    head = "".join(f'<th scope="col" role="columnheader">{escape(column)}</th>' for column in table.columns)
    rows = "".join(_row(table.columns, row) for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    wide = ' class="wide"' if len(table.columns) > 5 else ""
    content = (
        f'<table{wide} role="table" aria-label="{escape(table.title)}"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table>'
    )
    return scroll(content, table.title) + note


def _row(columns: tuple[str, ...], row: tuple[str, ...]) -> str:
    first = f'<th scope="row" role="rowheader" data-column="{escape(columns[0])}">{kind_mark(row[0])}</th>'
    cells = (
        f'<td role="cell"{"" if cell else " class=empty"} data-column="{escape(column)}">{kind_mark(cell)}</td>'
        for column, cell in zip(columns[1:], row[1:], strict=True)
    )
    return f'<tr role="row">{first}{"".join(cells)}</tr>'


def figure(svg: str, name: str, caption: str, *kinds: str) -> str:
    """A picture with a short name for those who cannot see it, and its caption."""
    picture = svg.replace("<svg", f'<svg role="img" aria-label="{escape(name)}"', 1)
    marks = " ".join(kind_mark(kind) for kind in kinds)
    return f"<figure>{scroll(picture, name)}<figcaption>{escape(caption)} {marks}</figcaption></figure>"
