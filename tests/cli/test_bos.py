"""--bos of the commands on a small checkpoint whose tokenizer begins texts with a token, dense and spiking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bos_checkpoints import STORY, save_checkpoint

from neuromorphic_llm.cli.main import run_command_line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bos")
    save_checkpoint(root / "template", "template")
    save_checkpoint(root / "none", "none")
    (root / "story.txt").write_text(STORY * 40)
    (root / "documents.jsonl").write_text('{"id": "a", "article": "A river runs to the sea.", "highlights": "A river."}\n')
    return root


def run(folder: Path, *line: str) -> dict[str, Any]:
    assert run_command_line([*line, "--json", str(folder / "result.json")]) == 0, line
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_commands_say_with_what_texts_begin(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    text = ["--data", "story.txt", "--window", "16", "--limit-tokens", "64"]
    converted = run(folder, "convert", "template", "-o", "network", "--calibration", "story.txt")
    assert converted["bos_token"] == "<bos>" and converted["calibration_tokens"] > 0
    assert run(folder, "convert", "template", "-o", "plain", "--calibration", "story.txt", "--bos", "never")["bos_token"] is None
    capsys.readouterr()
    for model in ("template", "network"):
        with_it = run(folder, "eval", model, *text, "--against", "template")
        assert "<bos>" in capsys.readouterr().out
        without = run(folder, "eval", model, *text, "--against", "template", "--bos", "never")
        assert (with_it["bos_token"], without["bos_token"]) == ("<bos>", None)
        # 64 tokens in windows of 15 and of 16, every one predicted but the first of a window without the token.
        assert (with_it["tokens"], with_it["predicted_tokens"], without["predicted_tokens"]) == (64, 64, 60)
        assert with_it["perplexity"] != without["perplexity"] and with_it["arguments"]["bos"] == "auto"
    dense, spiking = (run(folder, "eval", model, *text) for model in ("template", "network"))
    compared = run(folder, "eval", "network", *text, "--against", "template")
    assert compared["reference_perplexity"] == dense["perplexity"] and compared["perplexity"] == spiking["perplexity"]


def test_training_text_and_bad_choices(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    tuned = ["--text", "story.txt", "--tokens", "64", "--window", "16", "--batch", "2"]
    assert run(folder, "finetune", "template", "-o", "tuned", *tuned)["bos_token"] == "<bos>"
    assert run_command_line(["finetune", "template", "-o", "tuned", *tuned, "--bos", "never"]) == 1
    assert "is of a run with another bos" in capsys.readouterr().err
    assert run_command_line(["eval", "none", "--bos", "always"]) == 2
    assert "--bos always: the tokenizer names no beginning-of-sequence token" in capsys.readouterr().err
    assert run_command_line(["eval", "none", "--bos", "perhaps"]) == 2
