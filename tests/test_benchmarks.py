"""Benchmarks import, and the one with a JSON result writes it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from neuromorphic_llm.cli.result import ENVELOPE

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


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
    module = load(next(path for path in BENCHMARKS if path.stem == "functional_speed"), monkeypatch)
    result = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["functional_speed.py", "random-tiny", "--tokens", "2", "--runs", "1", "--json", str(result)])
    module.main()
    content = json.loads(result.read_text())
    assert set(content) == {*ENVELOPE, "model", "device", "conversion_s", "rows", "kind"}
    assert len(content["rows"]) == 2
    for row in content["rows"]:
        assert row["ratio"] == row["functional_tokens_per_s"] / row["dense_tokens_per_s"] > 0
