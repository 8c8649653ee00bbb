"""`nmllm pareto`: combinations of options, what is written, failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.cli.pareto import parse_configs
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.pipeline import pareto


def test_every_combination_with_compensations_fastest() -> None:
    configs = parse_configs("signed-digit:phases=10,burst:gamma=7", "1, all", "fisher", "none,gptq+bias", 3)
    assert len(configs) == 8
    assert configs[0] == ConvertConfig(phases=10, spikes=1.0, seed=3)
    assert configs[1].compensation == ("gptq", "bias") and configs[1].spikes == 1.0
    assert (configs[2].spikes, configs[2].price) == (None, 0.0)
    assert configs[4].code == "burst" and configs[4].code_parameters == (("gamma", 7),)


def test_the_same_point_twice_is_one() -> None:
    assert len(parse_configs("signed-digit", "1,1.0", "fisher", "none", 0)) == 1


@pytest.mark.parametrize(
    ("codes", "spikes", "allocations", "compensations", "message"),
    [
        ("signed-digt", "1", "fisher", "none", "did you mean 'signed-digit'"),
        ("signed-digit:phases=x", "1", "fisher", "none", "phases"),
        ("burst:gama=7", "1", "fisher", "none", "did you mean 'gamma'"),
        ("signed-digit", "one", "fisher", "none", "no number"),
        ("signed-digit", "0", "fisher", "none", "positive"),
        ("signed-digit", "1,,2", "fisher", "none", "empty"),
        ("signed-digit", "1", "fischer", "none", "did you mean 'fisher'"),
        ("signed-digit", "1", "fisher", "gpt", "'gpt'"),
    ],
)
def test_wrong_names_and_numbers(codes: str, spikes: str, allocations: str, compensations: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_configs(codes, spikes, allocations, compensations, 0)


def test_files_and_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pareto, "calibration_windows", lambda tokenizer, **_: [calibration_windows(tokenizer)[0][:128]])
    line = [
        "pareto",
        "random-tiny",
        "-o",
        str(tmp_path / "out"),
        "--limit-tokens",
        "32",
        "--window",
        "32",
        "--json",
        str(tmp_path / "r.json"),
    ]
    assert run_command_line([*line, "--spikes", "1,900"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "failed: " not in shown and "900 spikes per activation cannot be met" in shown and "all of them are kept" in shown
    result = json.loads((tmp_path / "r.json").read_text())
    table = (tmp_path / "out" / "pareto.md").read_text()
    reached = result["points"][0]["spikes_per_activation"]
    assert f"| signed-digit, 14 phases, fisher | {reached:.3f} |" in table
    assert json.loads((tmp_path / "out" / "pareto.json").read_text())["points"] == result["points"]
    assert (tmp_path / "out" / "pareto.svg").read_text().startswith("<svg")
    assert run_command_line([*line, "--spikes", "1,all", "--tolerance", "1e-7"]) == 0
    assert "| signed-digit, fisher, 1 spikes |  | failed: 1 spikes per activation (reached " in (tmp_path / "out" / "pareto.md").read_text()
    assert run_command_line([*line, "--spikes", "1", "--tolerance", "1e-7"]) == 1
    assert "no point could be made" in capsys.readouterr().err
    assert json.loads((tmp_path / "r.json").read_text())["points"][0]["failed"]
    assert run_command_line([*line, "--task", "cnn_dailymail"]) == 2


def test_a_window_that_the_model_cannot_hold_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "pareto"
    assert run_command_line(["pareto", "random-tiny", "-o", str(output), "--window", "100000"]) == 2
    assert "--window must lie in 2..2048, the context of the model; got 100000" in capsys.readouterr().err and not output.exists()
