"""Pages of the reference as HTML beside a report, so that its links lead somewhere wherever the folder goes."""

from __future__ import annotations

import posixpath
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
    pages = {path.relative_to(_SOURCE).with_suffix("").as_posix(): path for path in sorted(_SOURCE.rglob("*.md"))}
    css = files("neuromorphic_llm.report").joinpath("page.css").read_text(encoding="utf-8")
    written = []
    for name, page in pages.items():
        place = folder / DOCUMENTATION / f"{name}.html"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, documentation_page(page.read_text(encoding="utf-8"), name, set(pages), css))
        written.append(place)
    return written


def documentation_page(markdown: str, name: str, names: set[str], css: str) -> str:
    """HTML of the Markdown page `name`, such as rtl/index; links to the pages `names` lead to their HTML, other relative links are text."""
    body = MarkdownIt("commonmark").enable("table").render(markdown)
    body = _LINK.sub(lambda link: _linked(link[1], link[2], name, names), body)
    body = body.replace("<table>", '<div class="scroll documentation-table" tabindex="0"><table class="wide">').replace(
        "</table>", "</table></div>"
    )
    title = markdown.partition("\n")[0].lstrip("# ").strip()
    report = "../" * (1 + name.count("/")) + "report.html"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{css}</style></head><body><main class="documentation">'
        f'<p class="note"><a href="{report}">the report</a></p>{body}</main></body></html>\n'
    )


def _linked(address: str, text: str, name: str, names: set[str]) -> str:
    """Link of the page `name`: to the HTML of a page of the reference, as it is to the web or within the page, else its text."""
    here = posixpath.dirname(f"reference/{name}")
    page = posixpath.normpath(posixpath.join(here, address.partition("#")[0]))
    if page in {f"reference/{each}.md" for each in names}:
        return f'<a href="{posixpath.relpath(page.removesuffix(".md"), here)}.html">{text}</a>'
    return f'<a href="{address}">{text}</a>' if address.startswith(("https://", "#")) else text
