"""The page from report.json alone: whole, valid, accessible, and honest about what it does not have."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.report.html import html_page
from neuromorphic_llm.report.tables import KINDS, all_tables

RANGE = {"low": 1e-6, "nominal": 2e-6, "high": 5e-6}
TILE = {"y": 0, "stage": 0}
REPORT: dict[str, Any] = {
    "command": "run",
    "seed": 0,
    "started": "2026-11-22T12:00:00+00:00",
    "wall_s": 12.0,
    "arguments": {"max_new_tokens": 8, "spikes": 1.5},
    "versions": {"neuromorphic-llm": "0.1.0", "numba": None},
    "machine": {"cpu": "a processor", "threads": 2, "memory_bytes": 2**34, "gpu": None},
    "model": "a <model>",
    "article": "An article & more.",
    "prompt_tokens": 5,
    "summary": {"dense": "Short.", "spiking": ""},
    "perplexity": {"dense": 20.0, "spiking": 21.0},
    "compile": {
        "tiles": 3,
        "tiles_available": 4,
        "crossbars": 2,
        "crossbars_available": 8,
        "utilisation": 0.5,
        "sram_bytes": 4096,
        "dram_bytes": 2048,
        "max_context": 64,
    },
    "simulate": {
        "token_ids": [1, 2],
        "chip": "nano",
        "clock_hz": 5e8,
        "counted_phase": "decode",
        "cycles_per_token": 1000.0,
        "prefill_s": 1e-3,
        "chip_tokens_per_s": 5e5,
        "chip_energy_j_per_token": RANGE,
        "energy_scope": "chip",
        "energy_breakdown_j": {"cells": RANGE, "another part": {"low": 0.0, "nominal": 0.0, "high": 0.0}},
        "synaptic_operations_per_token": 100.0,
        "spikes_per_activation": 1.5,
        "spikes_per_token_by_site": {"layers.0.qkv": 4.0},
        "wall_tokens_per_s": 10.0,
    },
    "baseline": {
        "dtype": "float32",
        "device": "a processor",
        "tokens_per_s": 2.0,
        "energy_j_per_token": None,
        "energy_j_per_token_reason": "no counter is readable",
        "energy_scope": "package",
    },
    "eval": {
        "task": "default",
        "tokens": 64,
        "window": 32,
        "kl_to_dense": 0.01,
        "top1_agreement": 0.9,
        "spikes_per_activation": 1.5,
        "query_spikes_per_value": 1.8,
        "probability_spikes_per_pair": 1.0,
        "spikes_per_input_by_site": {"layers.0.qkv": 1.0, "layers.0.output": 1.2, "head": 1.5},
    },
    "layers": {"cosine": [0.99], "raster": {"layers.0.qkv": [[0, 1], [-1, 0]]}, "raster_layer": 0, "kind": "measured"},
    "quality": {
        "tokens": 32,
        "dense": 20.0,
        "spiking": [{"perplexity": 21.0, "spikes_per_activation": 1.5}, {"perplexity": 22.0, "spikes_per_activation": 1.0}],
        "quantised": [{"name": name, "perplexity": value} for name, value in (("INT8", 20.5), ("INT6", 30.0), ("half", 40.0))],
    },
    "references": {"context": 6, **{name: {"energy_j_per_token": RANGE} for name in ("int8", "int8_sram", "fp16")}, "gpu": []},
    "floorplan": [
        {"index": 0, "x": 0, "part": "host", "site": None, "columns": 0, "y": 0, "stage": None},
        {"index": 1, "x": 1, "part": "qkv", "site": "layers.0.qkv", "columns": 10, **TILE},
        {"index": 2, "x": 2, "part": "unused", "site": None, "columns": 0, "y": 0, "stage": None},
    ],
    "steps": [{"name": "convert", "reused": True, "wall_s": 0.02}],
}
VOID = {"meta", "path", "use", "rect", "image"}


class Structure(HTMLParser):
    """Checks that tags nest, and collects ids, header cells and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headers: list[str] = []
        self.unnamed: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "th":
            self.headers.append("")
        if tag == "svg" and not ({"aria-label", "aria-hidden"} & set(values)):
            self.unnamed.append(str(values))

    def handle_startendtag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attributes if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "th":
            self.headers[-1] += data


def test_page_is_well_formed() -> None:
    structure = Structure()
    structure.feed(html_page(REPORT))
    assert structure.open == [] and structure.unnamed == []
    assert len(structure.ids) == len(set(structure.ids))
    assert structure.headers and all(header.strip() for header in structure.headers)


def test_text_is_escaped_and_absences_are_explained() -> None:
    page = html_page(REPORT)
    assert "a &lt;model&gt;" in page and "An article &amp; more." in page and "<model>" not in page
    assert "nothing but an end of text" in page
    assert "no counter is readable" in page and "their speed is not simulated" in page
    assert "another part" in page


def test_every_row_fills_its_columns_and_says_where_figures_come_from() -> None:
    for table in all_tables(REPORT):
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
    assert "cycles a prompt token" in page and "decoded token" not in page


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
