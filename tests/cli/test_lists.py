"""`nmllm models`, `chips` and `tasks`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuromorphic_llm.cli.main import run_command_line

PACKAGE = Path(__file__).parents[2] / "src" / "neuromorphic_llm"


def listed(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Entries of a list command's JSON by their names."""
    path = folder / "result.json"
    assert run_command_line([name, "--json", str(path)]) == 0
    return {entry["name"]: entry for entry in json.loads(path.read_text())[name]}


def test_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NMLLM_CACHE", str(tmp_path / "cache"))
    models = listed("models", tmp_path)
    assert {name: model["kind"] for name, model in models.items()} == {
        "smollm2-135m": "fetched",
        "nano": "built-in",
        "random-tiny": "random",
    }
    assert Path(models["nano"]["folder"]) == PACKAGE / "models" / "nano"
    assert models["smollm2-135m"]["folder"] is None and models["smollm2-135m"]["download_bytes"] == 92_871_040
    printed = " ".join(capsys.readouterr().out.split())
    assert "nmllm fetch" in printed and "in the package" in printed and "made on the spot" in printed
    folder = tmp_path / "cache" / "smollm2-135m" / "folder"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS").touch()
    assert Path(listed("models", tmp_path)["smollm2-135m"]["folder"]) == folder
    assert "in the cache" in " ".join(capsys.readouterr().out.split())


def test_chips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chips = listed("chips", tmp_path)
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (PACKAGE / "chip" / "configs").glob("*.yaml")}
    assert set(chips) == set(files) == {"nano", "nano2", "nc1", "nc2"}
    for name, chip in chips.items():
        for field, value in files[name].items():
            listed_value = chip["spec"][field]
            if isinstance(value, dict):
                assert listed_value == {**listed_value, **value}
            else:
                assert listed_value == (float(value) if field == "clock_hz" else value)
    # nano: 16 crossbars of 64 x 64 cells a tile, two cells a weight (the chip file), on 18 tiles (compiler.md).
    assert chips["nano"]["synapse_tiles"] == 18 and chips["nano"]["weights"] == 18 * 16 // 2 * 64 * 64
    printed = capsys.readouterr().out
    assert "589,824" in printed and "222,560,256" in printed


def test_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NMLLM_DATA", str(tmp_path))
    tasks = listed("tasks", tmp_path)
    assert {"default", "wikitext2", "cnn_dailymail", "lambada", "zero-shot"} <= set(tasks)
    assert tasks["default"]["file"] is None and tasks["wikitext2"]["data"] is None
    assert tasks["zero-shot"]["members"] == ["hellaswag", "piqa", "arc_easy", "lambada"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "comes with the package" in printed and "not here:" in printed
    path = tmp_path / "wikitext-2" / "wiki.test.raw"
    path.parent.mkdir()
    path.write_text("text")
    assert Path(listed("tasks", tmp_path)["wikitext2"]["data"]) == path
