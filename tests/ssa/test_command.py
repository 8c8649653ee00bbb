"""`nmllm ssa` and the benchmark beside it: what they refuse and write, and how steps are fitted to a time."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.ssa.config import SsaConfig, SsaTuneConfig
from neuromorphic_llm.ssa.fine_tune import STATE
from neuromorphic_llm.ssa.replace import replaced

SMALL = ["--tokens", "32", "--window", "16", "--layer-steps", "1", "--steps", "1", "--text", "text.txt"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder with a short text."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("A river runs to the sea. " * 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--leak", "0"], "leak must lie in (0, 1], got 0.0"),
        (["--reset", "none"], "reset must be one of soft, hard"),
        (["--surrogate", "step"], "surrogate must be one of sigmoid, atan, fast-sigmoid"),
        (["--time-steps", "0"], "time_steps must lie in 1..1024"),
        (["--spikes", "0"], "spikes must be positive"),
        (["--text", "nothing.txt"], "--text nothing.txt cannot be read"),
        (["--task", "cnn_dailymail"], "not a language-model task"),
    ],
)
def test_refuses(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["ssa", "random-tiny", *options]) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()) and "Traceback" not in error


def test_other_families_are_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from neuromorphic_llm.ssa import replace

    monkeypatch.delitem(replace.FAMILIES, "llama")
    assert run_command_line(["ssa", "random-tiny", *SMALL]) == 1
    assert "replaces that of gpt2 decoders; this is 'llama'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_prints_rows_and_keeps_the_fine_tuning(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["ssa", "random-tiny", *SMALL, "--folder", "run", "--spikes", "1", "--json", "result.json"]) == 0
    rows = json.loads(Path("result.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["dense", "ssa-replaced", "ssa", "ours-attention", "ours"]
    assert (Path("run") / STATE).is_file()
    printed = capsys.readouterr().out
    assert "random-tiny: attention, dense and spiking" in printed and "ours-att." in printed
    assert "…" not in printed and all(len(line) <= 80 for line in printed.splitlines())


@pytest.mark.slow
def test_the_default_window_fits_the_model(checkpoint_folder: Path) -> None:
    """The model holds fewer positions than the usual window."""
    Path("text.txt").write_text("A river runs to the sea. " * 80)
    line = ["--tokens", "64", "--layer-steps", "1", "--steps", "1", "--text", "text.txt", "--spikes", "1"]
    assert run_command_line(["ssa", str(checkpoint_folder), *line]) == 0


@pytest.fixture
def benchmark() -> ModuleType:
    """benchmarks/ssa_table.py."""
    path = Path(__file__).parents[2] / "benchmarks" / "ssa_table.py"
    specification = importlib.util.spec_from_file_location("ssa_table", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_steps_fit_the_time(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, benchmark: ModuleType) -> None:
    student = replaced(dense, checkpoint.config, SsaConfig(2), windows.tolist())
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    recipes = [benchmark.timed_recipe(dense, student, windows, SsaTuneConfig(batch=2), seconds) for seconds in (1e-6, 600.0)]
    assert (recipes[0].layer_steps, recipes[0].steps) == (1, 1)
    assert recipes[1].layer_steps > 100 and recipes[1].steps > 100 and recipes[1].batch == 2
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())


def test_reads_text_and_lines_of_json(benchmark: ModuleType) -> None:
    Path("lines.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert benchmark.read_text(Path("lines.jsonl")) == "one\n\ntwo"
    assert benchmark.read_text(Path("text.txt")).startswith("A river")
