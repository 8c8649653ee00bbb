"""Benchmarks import and write their JSON; rows are kept, refused and gone on from; text files are read."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from neuromorphic_llm.cli.result import ENVELOPE
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.evaluation.language_model import EncodedText
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from table_run import Rows, add_json, data_folder, key_of, read_text, table_parser

FOLDER = Path(__file__).parents[1] / "benchmarks"
SHARED = ("table_run", "checkout_steps", "checkout_fingerprint")
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if path.stem not in SHARED)
KEY = {"version": "1", "window": 8, "limit_tokens": None, "spikes": 1.0}


def load(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, specification.name, module)  # dataclasses look for their module there
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmark_has_a_command_line(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(load(path, monkeypatch).main)


def test_functional_speed_writes_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(FOLDER / "functional_speed.py", monkeypatch)
    result = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["functional_speed.py", "random-tiny", "--tokens", "2", "--runs", "1", "--json", str(result)])
    module.main()
    content = json.loads(result.read_text())
    assert set(content) == {*ENVELOPE, "model", "device", "conversion_s", "rows", "kind"}
    assert len(content["rows"]) == 2
    for row in content["rows"]:
        assert row["ratio"] == row["functional_tokens_per_s"] / row["dense_tokens_per_s"] > 0


def rows_in(path: Path | None, key: dict[str, Any] = KEY, command: str = "table") -> Rows:
    return Rows(command, argparse.Namespace(model="nano", json=path), key)


def test_rows_are_written_and_gone_on_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.json"
    rows = rows_in(path)
    assert rows.missing(["a", "b"]) == ["a", "b"]
    rows.keep({"name": "a", "perplexity": 1 / 3, "spikes": None, "tried": [1, 2]})
    assert capsys.readouterr().out == "name: a, perplexity: 0.33333, spikes: None\n"
    content = json.loads(path.read_text())
    assert set(content) == {*ENVELOPE, "measured_for", "rows", "kind"} and content["command"] == "table"
    again = rows_in(path)
    assert "a" in again and again.missing(["a", "b"]) == ["b"]
    again.keep({"name": "b", "reason": "too few spikes"})
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["a", "b"]
    assert list(rows_in(path)) == list(again)


@pytest.mark.parametrize("name", [*KEY, "another"])
def test_rows_of_another_key_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.json"
    rows_in(path).keep({"name": "a"})
    with pytest.raises(SystemExit, match=rf"^{path} holds rows of another {name}; give another file$"):
        rows_in(path, KEY | {name: "other"})


def test_files_without_rows_of_the_command_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    rows_in(path).keep({"name": "a"})
    with pytest.raises(SystemExit, match="holds rows of table, not of other"):
        rows_in(path, command="other")
    for content in ("no JSON", "[]", "{}", '{"command": "table", "measured_for": {}, "rows": [1]}'):
        path.write_text(content)
        with pytest.raises(SystemExit, match="holds no rows of table"):
            rows_in(path)
    path.write_text("")  # a file made by mktemp
    assert list(rows_in(path)) == list(rows_in(None)) == list(rows_in(tmp_path / "absent.json")) == []


def test_key_says_what_was_evaluated(tmp_path: Path) -> None:
    checkpoint: Checkpoint = load_checkpoint("random-tiny")
    arguments = table_parser("", window=16).parse_args(["random-tiny", "--limit-tokens", "3"])
    key, other = (key_of(arguments, checkpoint, EncodedText(ids, 1), spikes=1.5) for ids in ((1, 2, 3), (1, 2, 4)))
    assert set(key) == {"version", "checkpoint", "text", "task", "limit_tokens", "window", "device", "spikes"}
    assert key["checkpoint"] == checkpoint.content_hash and key["window"] == 16 and key["limit_tokens"] == 3
    assert {name for name in key if key[name] != other[name]} == {"text"}


def test_json_must_be_writable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = table_parser("")
    add_json(parser)
    assert parser.parse_args(["nano", "--json", str(tmp_path / "a.json")]).json == tmp_path / "a.json"
    with pytest.raises(SystemExit):
        parser.parse_args(["nano", "--json", str(tmp_path / "absent" / "a.json")])
    assert "does not exist" in capsys.readouterr().err


def test_ablation_goes_on_after_a_variant_without_the_spikes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(FOLDER / "ablation_table.py", monkeypatch)
    path = tmp_path / "ablation.json"
    options = ["--limit-tokens", "16", "--window", "16", "--rows", "fisher", "teal", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["ablation_table.py", "random-tiny", *options])

    def unmet(*_: Any) -> None:
        raise ConversionError("1 spikes cannot be met")

    monkeypatch.setattr(module.Ablation, "matched", unmet)
    monkeypatch.setattr(module, "calibrate_checkpoint", lambda *_, **__: None)
    monkeypatch.setattr(module, "convert", lambda *_, **__: SimpleNamespace(weights=None))
    module.main()
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["dense", "fisher", "teal"]
    assert all(row["reason"] == "1 spikes cannot be met" for row in rows[1:])
    monkeypatch.setattr(module, "calibrate_checkpoint", None)  # nothing is left to make
    module.main()
    assert json.loads(path.read_text())["rows"] == rows


def test_neurobench_refuses_more_tokens_than_there_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = load(FOLDER / "neurobench_table.py", monkeypatch)
    monkeypatch.setattr(module, "import_neurobench", lambda: None)
    for options, message in ((["--windows", "5", "--tokens", "128"], "is 640, the text has 512 tokens"), (["--tokens", "0"], "at least 1")):
        monkeypatch.setattr(sys, "argv", ["neurobench_table.py", "random-tiny", *options])
        with pytest.raises(SystemExit, match="2"):
            module.main()
        assert message in capsys.readouterr().err


def test_texts_are_read_as_by_the_commands(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"text": "one"}\n{"article": "two", "highlights": "x"}\n')
    assert read_text(path) == "one\n\ntwo"
    path.write_text('{"text": "one"}\n{')
    with pytest.raises(SystemExit, match=r"lines\.jsonl, line 2 is not JSON"):
        read_text(path)


def test_data_folder_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMLLM_CACHE", "/nowhere")
    monkeypatch.setattr("neuromorphic_llm.evaluation.data_folder.IS_CHECKOUT", False)
    for value, folder in (("/data", "/data"), ("", "/nowhere/data")):
        monkeypatch.setenv("NMLLM_DATA", value)
        assert data_folder() == Path(folder)
