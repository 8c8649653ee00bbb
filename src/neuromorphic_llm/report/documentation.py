"""Pages of the reference as HTML beside a report, so that its links lead somewhere wherever the folder goes."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files
from pathlib import Path

from markdown_it import MarkdownIt

from neuromorphic_llm.repository import REPOSITORY
from neuromorphic_llm.text_file import write_text

DOCUMENTATION = "report-docs"
"""Folder beside the page; not `docs`, which may be the user's."""

_SOURCE = REPOSITORY / "docs" / "reference"
_LINK = re.compile(r'<a href="([^"]*)">(.*?)</a>', re.DOTALL)


def write_documentation(folder: Path) -> list[Path]:
    """Write FOLDER/report-docs/NAME.html for every page of docs/reference; their paths. NeuromorphicLLMError for an unwritable place."""
    pages = sorted(_SOURCE.glob("*.md"))
    target = folder / DOCUMENTATION
    target.mkdir(exist_ok=True)
    css = files("neuromorphic_llm.report").joinpath("page.css").read_text(encoding="utf-8")
    names = {page.stem for page in pages}
    written = []
    for page in pages:
        place = target / f"{page.stem}.html"
        write_text(place, documentation_page(page.read_text(encoding="utf-8"), names, css))
        written.append(place)
    return written


def documentation_page(markdown: str, names: set[str], css: str) -> str:
    """A Markdown page as HTML; links to the pages `names` lead to their HTML, other relative links are left as text."""
    body = MarkdownIt("commonmark").enable("table").render(markdown)
    body = _LINK.sub(lambda link: _linked(link[1], link[2], names), body)
    body = body.replace("<table>", '<div class="scroll documentation-table" tabindex="0"><table class="wide">').replace(
        "</table>", "</table></div>"
    )
    title = markdown.partition("\n")[0].lstrip("# ").strip()
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{css}</style></head><body><main class="documentation">'
        f'<p class="note"><a href="../report.html">the report</a></p>{body}</main></body></html>\n'
    )


def _linked(address: str, text: str, names: set[str]) -> str:
    page = re.fullmatch(r"(?:\.\./reference/)?(\w+)\.md(#.*)?", address)
    if page and page[1] in names:
        return f'<a href="{page[1]}.html">{text}</a>'
    return f'<a href="{address}">{text}</a>' if address.startswith(("https://", "#")) else text
