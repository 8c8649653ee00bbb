"""The page from report.json alone: whole, valid, accessible, and honest about what it does not have."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from example_report import REPORT, with_curves
from page_structure import Structure

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.report.html import html_page
from neuromorphic_llm.report.tables import KINDS, all_tables, area_table, context_table, speed_and_energy_table


@pytest.mark.parametrize("report", [REPORT, with_curves()], ids=["old", "new"])
def test_page_is_well_formed(report: dict[str, Any]) -> None:
    structure = Structure()
    structure.feed(html_page(report))
    assert structure.open == [] and structure.unnamed == []
    assert len(structure.ids) == len(set(structure.ids))
    assert structure.headers and all(header.strip() for header in structure.headers)


def test_text_is_escaped_and_absences_are_explained() -> None:
    page = html_page(REPORT)
    assert "a &lt;model&gt;" in page and "An article &amp; more." in page and "<model>" not in page
    assert "nothing but an end of text" in page
    assert "no counter is readable" in page and "their speed is not simulated" in page
    assert "another part" in page


@pytest.mark.parametrize("report", [REPORT, with_curves()], ids=["old", "new"])
def test_every_row_fills_its_columns_and_says_where_figures_come_from(report: dict[str, Any]) -> None:
    for table in all_tables(report):
        for row in table.rows:
            assert len(row) == len(table.columns), row
            assert row[-1] in KINDS or "not measured" in row, row
            assert not {"-", "nan"} & set(row)


def test_measured_and_recorded_energy_are_marked() -> None:
    report = copy.deepcopy(REPORT)
    report["baseline"]["energy_j_per_token"] = 3.0
    record = {
        "device": "a GPU",
        "mode": "batch 1",
        "recorded": "2026",
        "tokens_per_s": 4,
        "energy_j_per_token": 2.0,
        "scope": "whole board",
    }
    report["references"]["gpu"] = [record]
    page = html_page(report)
    caption = next(text for text in re.findall(r"<figcaption>(.*?)</figcaption>", page) if "Scopes differ" in text)
    assert re.findall(r'class="kind (\w+)"', caption) == ["estimated", "measured", "recorded"]
    assert "GPU: whole board." in page and "energy: package." in page


def test_a_run_that_decoded_nothing_speaks_of_prompt_tokens() -> None:
    report = copy.deepcopy(REPORT)
    report["simulate"]["counted_phase"] = "prefill"
    page = html_page(report)
    assert "cycles per prompt token" in page and "decoded token" not in page


def test_what_an_old_run_lacks_is_said() -> None:
    page = html_page(REPORT)
    assert page.count("This run was made before this was computed") == 2 and "Without intervals" in page
    page = html_page({**REPORT, "energy_over_context": [], "latency": None, "latency_reason": "nothing was decoded, and so on"})
    assert "The prompt is too short for it." in page and "nothing was decoded, and so on" in page


def test_curves_and_latency_are_shown_with_their_sum() -> None:
    page = html_page(with_curves())
    assert page.count("<figure>") == 9 and "made before" not in page
    assert "16 tokens" in page and "2 µJ (1 µJ to 5 µJ)" in page and ">1.00<" in page
    rows = dict(re.findall(r'data-column="where the cycles go">(.*?)</th><td role="cell" data-column="cycles">([\d,]+)<', page))
    assert len(rows) == 7 and rows["total"] == "1,000" == f"{sum(int(cycles) for name, cycles in rows.items() if name != 'total'):,}"


def test_every_rival_has_a_row_and_a_column() -> None:
    report = with_curves()
    energies = [row[0] for row in speed_and_energy_table(report).rows]
    assert sum("digital" in name for name in energies) == 4 and "this chip's crossbars, bit-serial INT8 inputs" in energies
    curve = context_table(report["energy_over_context"])
    assert curve.columns[1:-1] == (
        "this chip",
        "INT8, registers",
        "INT8, improved",
        "INT8, SRAM",
        "FP16, registers",
        "bit-serial crossbars",
        "chip / INT8, registers",
        "chip / INT8, improved",
    )
    assert len(speed_and_energy_table(REPORT).rows) == len(energies) - 2


def test_areas_are_shown_of_parts_that_have_one() -> None:
    assert area_table(with_curves()).rows == (
        ("cells with their share of drivers and wires", "1,540 mm² (600 mm² to 8,720 mm²)", "estimated"),
        ("this chip", "1,540 mm² (600 mm² to 8,720 mm²)", "estimated"),
        ("INT8 digital, weights in registers", "1,540 mm² (600 mm² to 8,720 mm²)", "estimated"),
    )
    assert "8,720 mm²" in html_page(with_curves()) and "8,720 mm²" not in html_page(REPORT)


def test_intervals_are_shown_where_there_are_any() -> None:
    report = copy.deepcopy(REPORT)
    report["eval"] |= {
        "perplexity_interval": {"low": 20.1, "high": 22.2},
        "reference_perplexity_interval": {"low": 19.0, "high": 21.0},
        "perplexity_ratio_interval": {"low": 1.03, "high": 1.07},
        "intervals": {"method": "paired percentile bootstrap of blocks", "level": 0.95, "blocks": 40, "resamples": 10000, "seed": 0},
    }
    page = html_page(report)
    assert "21.00 (20.10 to 22.20)" in page and "20.00 (19.00 to 21.00)" in page and "+5.00% (+3.0% to +7.0%)" in page
    assert "95% intervals, paired percentile bootstrap of blocks, 40 blocks" in page and "Without intervals" not in page
    for name in ("perplexity_interval", "reference_perplexity_interval", "perplexity_ratio_interval"):
        report["eval"][name] = None
    assert "no interval was computed" in html_page(report)


def test_variants_and_how_windows_begin() -> None:
    report = copy.deepcopy(REPORT)
    report["quality"]["spiking"][1] |= {"name": "spike price x 4", "perplexity_ratio_interval": {"low": 1.08, "high": 1.12}}
    page = html_page(report)
    assert "spiking network, spike price x 4" in page and "+10.0% (+8.0% to +12.0%)" in page and "dense model, INT8" in page
    assert "nothing is calibrated or searched" in page and "beginning-of-sequence" not in page
    report["eval"]["bos_token"] = None
    assert "without a beginning-of-sequence token" in html_page(report)
    report["eval"]["bos_token"] = "<bos>"
    assert "begin with the token &lt;bos&gt;" in html_page(report)


def test_cells_know_their_columns_so_that_a_phone_shows_all_of_them() -> None:
    page = html_page(REPORT)
    assert '<td role="cell" data-column="energy per token">' in page and 'role="columnheader"' in page and 'role="rowheader"' in page
    for row in re.findall(r'<tr role="row">(.*?)</tr>', page):
        assert row.startswith(('<th scope="row"', '<th scope="col"')), row


def write(folder: Path, content: str) -> Path:
    (folder / "report.json").write_text(content)
    return folder


def test_command_writes_the_page_from_the_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, json.dumps(REPORT))
    assert run_command_line(["report", str(folder), "--json", str(tmp_path / "result.json")]) == 0
    assert (folder / "report.html").read_text() == html_page(REPORT)
    assert str(folder / "report.html") in capsys.readouterr().out.replace("\n", "")
    assert json.loads((tmp_path / "result.json").read_text())["page"] == str(folder / "report.html")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ('{"command": ', "is not JSON"),
        ("[]", "is not the result of nmllm run"),
        (json.dumps(REPORT | {"command": "eval"}), "is not the result of nmllm run"),
        (json.dumps({key: value for key, value in REPORT.items() if key != "summary"}), "KeyError: 'summary'"),
        (json.dumps(REPORT | {"floorplan": []}), "does not fit"),
        (json.dumps(REPORT | {"steps": 1}), "does not fit"),
    ],
)
def test_command_refuses_what_is_no_report(tmp_path: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        write(tmp_path, content)
    assert run_command_line(["report", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0] and "nmllm run" in lines[0]
    assert not (tmp_path / "report.html").exists()
