"""The table of `nmllm eval`: names with units, no keys of the JSON result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuromorphic_llm.cli.eval import print_figures
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.evaluation.evaluate import FIGURES
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.random_decoder import random_decoder

SMALL = ["--limit-tokens", "64", "--window", "32"]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_command_line(["eval", *arguments]) == 0
    return capsys.readouterr().out


def test_dense_model_has_no_spikes_and_the_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    printed = shown(capsys, "random-tiny", *SMALL)
    assert "a dense model has no spikes" in printed and "spikes per activation" not in printed
    assert "_" not in printed and "perplexity per word" in printed


def test_network_against_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = load_checkpoint("random-tiny")
    SpikingNetwork(random_decoder(0, config=tiny.config), tokenizer_files=tiny.tokenizer_files).save(tmp_path / "network")
    printed = shown(capsys, str(tmp_path / "network"), *SMALL, "--against", "random-tiny").split("\n", 1)[1]
    absent = {"rouge1", "rouge2", "rougeL"}
    assert all(label in printed for key, (label, _) in FIGURES.items() if key not in absent)
    assert "nats per token" in printed and "%" in printed and "has no spikes" not in printed


@pytest.mark.parametrize(
    ("relative", "error", "expected"),
    [(-0.026, 0.04, "-2.6% ± 4.0%"), (-0.026, None, "-2.6% ± unknown"), (None, None, "the reference's is 0")],
)
def test_paired_difference(relative: float | None, error: float | None, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    difference = {"relative": relative, "relative_standard_error": error}
    print_figures("a network", {"task": "x", "rougeL": 0.16, "reference": {"rougeL": 0.17}, "difference": {"rougeL": difference}})
    printed = capsys.readouterr().out
    assert "16.0%" in printed and "17.0%" in printed and expected in printed


@pytest.mark.parametrize(
    ("task", "option"),
    [
        ("cnn_dailymail", "--window=32"),
        ("cnn_dailymail", "--limit-tokens=64"),
        ("default", "--max-new-tokens=4"),
        ("default", "--limit-documents=4"),
        ("piqa", "--limit-tokens=64"),
        ("zero-shot", "--max-new-tokens=4"),
    ],
)
def test_an_option_of_the_other_kind_of_task_is_refused(task: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["eval", "random-tiny", "--task", task, option]) == 2
    assert option.split("=")[0] in capsys.readouterr().err


def test_zero_shot_accuracies_beside_a_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"query": "A river runs to the", "choices": ["sea.", "lamp."], "gold": gold} for gold in (0, 1, 1)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    line = ["random-tiny", "--task", "piqa", "--data", str(tmp_path / "q.jsonl"), "--against", "random-tiny"]
    printed = shown(capsys, *line, "--json", str(tmp_path / "r.json"))
    result = json.loads((tmp_path / "r.json").read_text())
    # The same question three times with other right answers: one or two of them are met.
    assert result["tasks"]["piqa"]["acc"] in (pytest.approx(1 / 3), pytest.approx(2 / 3)) and result["tasks"]["piqa"]["documents"] == 3
    assert result["reference"]["tasks"]["piqa"]["acc"] == result["tasks"]["piqa"]["acc"] and "average" not in result
    assert result["tasks"]["piqa"]["difference"]["acc_norm"]["difference"] == 0.0
    assert "acc_norm" in printed and "+0.00 ± 0.00" in printed


def test_zero_shot_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMLLM_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["eval", "random-tiny", "--task", "zero-shot"]) == 1
    error = capsys.readouterr().err
    assert "hellaswag.jsonl" in error and error.count("\n") == 1
