"""Pages of the reference beside a report: they are there, their links lead somewhere, and they are well formed."""

from __future__ import annotations

import json
import re
from pathlib import Path

from example_report import REPORT
from page_structure import Structure

from neuromorphic_llm.report.documentation import documentation_page, write_documentation
from neuromorphic_llm.report.html import html_page, write_page
from neuromorphic_llm.report.words import PAGES


def test_every_link_of_a_report_leads_to_a_page_beside_it(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    write_page(tmp_path)
    links = re.findall(r'href="(report-docs/[^"]+)"', html_page(REPORT))
    assert len(links) == len(PAGES) and all((tmp_path / link).is_file() for link in links)
    assert (tmp_path / "report-docs" / "rtl" / "index.html").is_file()
    for page in (tmp_path / "report-docs").rglob("*.html"):
        for link in re.findall(r'href="([^"#]+)"', page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_pages_are_well_formed(tmp_path: Path) -> None:
    pages = write_documentation(tmp_path)
    assert {"energy.html", "evaluation.html", "timing.html", "numerics.html"} <= {page.name for page in pages}
    for page in pages:
        structure = Structure()
        structure.feed(page.read_text())
        assert structure.open == [], page.name
        assert "<table>" not in page.read_text() or '<div class="scroll documentation-table"' in page.read_text()


def test_links_of_a_page() -> None:
    text = "# A page\n\n[a](energy.md) [b](../reference/energy.md#chip) [c](../results/x.md) [d](https://example.org) [e](other.md)\n"
    page = documentation_page(text, "timing", {"timing", "energy"}, "")
    assert "<title>A page</title>" in page and page.count('<a href="energy.html">') == 2 and '<a href="https://example.org">d</a>' in page
    assert "results" not in page and "other.md" not in page and " c " in page


def test_links_of_a_page_in_a_folder() -> None:
    text = "# A page\n\n[a](../energy.md) [b](rtl-page.md#head) [c](../../results/energy.md) [d](energy.md) [e](../../energy.md)\n"
    page = documentation_page(text, "rtl/index", {"energy", "rtl/index", "rtl/rtl-page"}, "")
    assert re.findall(r'href="([^"]*)"', page) == ["../../report.html", "../energy.html", "rtl-page.html"]
