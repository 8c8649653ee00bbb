"""The command line itself: help, exit codes, one-line errors, the JSON result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from neuromorphic_llm.cli import main as command_line
from neuromorphic_llm.cli.common import CommandRun, console, status
from neuromorphic_llm.cli.main import COMMANDS, run_command_line
from neuromorphic_llm.cli.outputs import check_writable_file
from neuromorphic_llm.errors import CheckpointError, UsageError

NMLLM = [sys.executable, "-m", "neuromorphic_llm.cli"]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A command `probe ACTION` that ends in every possible way; returns the seeds with which it ran."""
    ran: list[int] = []

    def command(run: CommandRun, action: str) -> None:
        """A command for tests."""
        ran.append(run.seed)
        if action == "error":
            raise CheckpointError("the file\nis damaged; fetch it again")
        if action == "usage":
            raise UsageError("no such thing; choose another")
        if action == "bug":
            raise ZeroDivisionError("division by zero")
        if action == "interrupt":
            raise KeyboardInterrupt
        run.result({"value": float("nan") if action == "nan" else 1.5, **({"seed": 1} if action == "clash" else {})})

    module = types.SimpleNamespace(EXAMPLES="nmllm probe ok\nnmllm probe error", command=command)
    monkeypatch.setitem(sys.modules, "neuromorphic_llm.cli.probe", module)
    monkeypatch.setitem(command_line.COMMANDS, "probe", "For tests.")
    return ran


@pytest.mark.parametrize(
    ("action", "code", "line"),
    [
        ("ok", 0, ""),
        ("error", 1, "nmllm: error: the file is damaged; fetch it again"),
        ("usage", 2, "nmllm: error: no such thing; choose another"),
        ("bug", 1, "nmllm: error: internal error: ZeroDivisionError: division by zero; run with --debug for the traceback"),
        ("interrupt", 130, "nmllm: error: interrupted"),
    ],
)
def test_exit_codes(probe: list[int], capsys: pytest.CaptureFixture[str], action: str, code: int, line: str) -> None:
    assert run_command_line(["probe", action]) == code
    assert capsys.readouterr().err.strip() == line
    assert probe == [0]


def test_debug_shows_the_traceback(probe: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["probe", "bug", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["prob"], ["probe"], ["probe", "ok", "--seed", "x"], ["probe", "ok", "--sed", "1"]])
def test_wrong_usage_is_one_line(probe: list[int], capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run_command_line(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("nmllm: error: ") and error.count("\n") == 1
    assert not probe


def test_json_result(probe: list[int], tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert run_command_line(["probe", "ok", "--json", str(path), "--seed", "7"]) == 0
    assert probe == [7]
    result = json.loads(path.read_text())
    assert result["command"] == "probe" and result["value"] == 1.5 and result["arguments"] == {"action": "ok"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("action", "reason"), [("nan", "result.value is nan, not a finite number"), ("clash", "'seed' belongs to the envelope")]
)
def test_json_result_is_refused(probe: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str, reason: str) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    assert run_command_line(["probe", action, "--json", str(path)]) == 1
    assert reason in capsys.readouterr().err
    assert path.read_text() == "old"
    assert probe == [0]


def test_a_failed_command_writes_no_result(probe: list[int], tmp_path: Path) -> None:
    assert run_command_line(["probe", "error", "--json", str(tmp_path / "result.json")]) == 1
    assert not list(tmp_path.iterdir())
    assert probe == [0]


def test_json_place_is_checked_before_the_work(probe: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["probe", "ok", "--json", str(tmp_path / "missing" / "result.json")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert run_command_line(["probe", "ok", "--json", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert not probe


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not with chmod: root may write anywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="is not writable"):
        check_writable_file(tmp_path / "result.json", "--json")


def test_help_lists_every_command_and_loads_none() -> None:
    program = (
        "import sys; from neuromorphic_llm.cli.main import run_command_line; run_command_line(['--help']); "
        "sys.exit(str({'torch', 'transformers', 'numba'} & set(sys.modules) or ''))"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    # The budget is one second; twice that on a busy machine.
    assert time.perf_counter() - start < 2
    assert result.stderr.strip() == ""
    assert all(name in result.stdout for name in COMMANDS)


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for arguments in ([], ["--help"]):
        assert run_command_line(arguments) == 0
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1] and "Usage: nmllm" in printed[0].out and printed[0].err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_nmllm(shell: str) -> None:
    command = [sys.executable, "-m", "neuromorphic_llm.cli"]
    result = subprocess.run(command, env=os.environ | {"_NMLLM_COMPLETE": f"source_{shell}"}, capture_output=True, text=True, check=True)
    assert "nmllm" in result.stdout and f"_NMLLM_COMPLETE=complete_{shell}" in result.stdout and result.stderr == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nmllm si", ["simulate"]),
        ("nmllm ", list(COMMANDS)),
        ("nmllm simulate --backend ", ["functional", "cycle", "rtl"]),
        ("nmllm simulate --max-n", ["--max-new-tokens"]),
    ],
)
def test_completions(words: str, expected: list[str]) -> None:
    variables = {"_NMLLM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-m", "neuromorphic_llm.cli"]
    result = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert result.stdout.split() == expected and result.stderr == ""


def test_help_of_a_command_shows_examples(probe: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["probe", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "nmllm probe ok" in shown and "--json" in shown and "--seed" in shown and "--debug" in shown
    assert not probe


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_the_common_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--json", "--seed", "--debug", "Examples")), shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--version"]) == 0
    assert capsys.readouterr().out.strip().count(".") == 2


def test_exit_code_reaches_the_shell() -> None:
    result = subprocess.run([*NMLLM, "fetch", "smolm2-135"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("nmllm: error: no model is known as 'smolm2-135' (did you mean 'smollm2-135m'?)")
    assert result.stderr.count("\n") == 1


def test_json_may_go_to_a_device(probe: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    # The folder of a device need not be writable.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run_command_line(["probe", "ok", "--json", str(tmp_path / "pipe")]) == 0
    assert json.loads(os.read(reader, 65536))["value"] == 1.5
    os.close(reader)


def test_json_and_output_must_differ(tmp_path: Path) -> None:
    place = tmp_path / "a"
    arguments = {"output": tmp_path / "." / "a"}
    with pytest.raises(UsageError, match="--json and --output are both"), CommandRun("probe", place, 0, False, arguments):
        raise AssertionError("the work must not begin")


def test_json_leaves_inputs_and_artefacts_alone(tmp_path: Path) -> None:
    data, artefact = tmp_path / "data.jsonl", tmp_path / "network"
    data.touch()
    artefact.mkdir()
    (artefact / "artefact.json").touch()
    for place, arguments, message in (
        (data, {"model": str(data)}, "--json and --model are both"),
        (artefact / "artefact.json", {}, "lies in .*network, an artefact, whose files are its own"),
        (artefact / "result.json", {}, "an artefact"),
    ):
        with pytest.raises(UsageError, match=message), CommandRun("probe", place, 0, False, arguments):
            raise AssertionError("the work must not begin")


@pytest.mark.parametrize("seed", ["-1", str(2**63)])
def test_a_seed_outside_64_bits_is_wrong_usage(probe: list[int], capsys: pytest.CaptureFixture[str], seed: str) -> None:
    assert run_command_line(["probe", "ok", "--seed", seed]) == 2
    assert "--seed" in capsys.readouterr().err and not probe


def test_a_full_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([*NMLLM, "fetch", "--list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("nmllm: error: output: No space left on device; ") and result.stderr.count("\n") == 1


def test_a_closed_output_is_no_traceback() -> None:
    command = [sys.executable, "-c", "import os, sys; os.close(1); os.execv(sys.argv[1], sys.argv[1:])", *NMLLM, "fetch", "nothing"]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1 and result.stderr.startswith("nmllm: error: no model is known as 'nothing'")
    assert result.stderr.count("\n") == 1


def test_a_name_with_brackets_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with status("loading [/b]"):
        console.print("chip [/b]")
    assert "chip [/b]" in capsys.readouterr().out
