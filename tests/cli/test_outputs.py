"""Outputs are checked before the work: nothing is written into an artefact or over what a command reads, and no file is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.random_decoder import random_decoder


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    SpikingNetwork(random_decoder(0), tokenizer_files={"tokenizer.json": b"{}"}).save("net")
    Path("link").symlink_to("net")
    Path("words.txt").write_text("A river runs to the sea. " * 40)
    Path("chip.yaml").write_text("rows: 64\n")
    return tmp_path / "net"


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


WRITERS = {
    "compile": ["compile", "net", "--chip", "nano", "-o", "{}"],
    "convert": ["convert", "random-tiny", "-o", "{}"],
    "calibration": ["convert", "random-tiny", "-o", "other", "--save-calibration", "{}"],
    "finetune": ["finetune", "nano", "-o", "{}", "--tokens", "1k"],
    "state": ["finetune", "nano", "-o", "other", "--state", "{}", "--tokens", "1k"],
    "export": ["export", "net", "--site", "head", "-o", "{}"],
    "run": ["run", "random-tiny", "--chip", "nano", "-o", "{}"],
    "pareto": ["pareto", "random-tiny", "-o", "{}"],
    "ssa": ["ssa", "random-tiny", "--folder", "{}"],
    "report": ["report", "{}"],
    "picture": ["compile", "net", "--chip", "nano", "-o", "other", "--picture", "{}"],
    "trace": ["cosim", "net", "--prompt", "a", "--trace", "{}"],
    "json": ["codes", "--json", "{}"],
    "fetch": ["fetch", "--list", "--json", "{}"],
    "eval": ["eval", "nano", "--json", "{}"],
}
"""Every output of every command."""


@pytest.mark.parametrize("place", ["net/x", "net/../net/x", "link/x", "net/tokenizer/./deep/x"])
@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written_into_an_artefact(network: Path, name: str, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing(network)
    if name == "report":
        Path("net/x").mkdir()
    code = run_command_line([part.format(place) for part in WRITERS[name]])
    error = capsys.readouterr().err
    assert code in (1, 2) and error.startswith("nmllm: error: ") and error.count("\n") == 1
    assert f" lies in {network}, an artefact, whose files are its own" in error
    assert listing(network) == before and not Path("other").exists()


@pytest.mark.parametrize("name", ["convert", "compile", "export", "run", "pareto", "state", "report", "ssa", "calibration"])
@pytest.mark.parametrize("place", ["net", "net/.", "link", "link/../net", "net/tokenizer/.."])
def test_an_artefact_with_files_of_the_user_stays(network: Path, name: str, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    (network / "notes.txt").write_text("mine")
    before = listing(network)
    assert run_command_line([part.format(place) for part in WRITERS[name]]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("nmllm: error: ") and error.count("\n") == 1
    assert ("holds notes.txt, which is no part of its artefact; move that away" in error) == (name == "convert")
    assert listing(network) == before


@pytest.mark.parametrize("stranger", ["x/artefact.json", "tokenizer/notes.txt", ".hidden", "empty/", "tensors.safetensors/", "a link"])
def test_what_an_artefact_does_not_list(network: Path, stranger: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = network / stranger
    if stranger == "a link":
        path.symlink_to("/etc")
    elif stranger.endswith("/"):
        path.unlink() if path.is_file() else None
        path.mkdir()
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert run_command_line(["convert", "random-tiny", "-o", "net"]) == 1
    assert "which is no part of its artefact" in capsys.readouterr().err
    assert path.is_dir() if stranger.endswith("/") else os.path.lexists(path)


def test_a_file_that_comes_during_the_work_stays(
    network: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import save_file

    before = SpikingNetwork.load(network).content_hash

    def slow(*arguments: object) -> None:
        (network / "notes.txt").write_text("mine")
        save_file(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("neuromorphic_llm.artefact.save_file", slow)
    assert run_command_line(["convert", "random-tiny", "--lambda", "0", "-o", "net"]) == 1
    assert "holds notes.txt" in capsys.readouterr().err
    assert (network / "notes.txt").read_text() == "mine" and SpikingNetwork.load(network).content_hash == before
    assert sorted(os.listdir()) == ["chip.yaml", "link", "net", "words.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compile", "net", "--chip", "chip.yaml", "-o", "o", "--picture", "chip.yaml"], "--picture and --chip are both chip.yaml"),
        (["compile", "net", "--chip", "chip.yaml", "-o", "o", "--json", "chip.yaml"], "--json and --chip are both chip.yaml"),
        (["compile", "net", "-o", "o", "--picture", "o/p.svg"], "the folder"),
        (["compile", "net", "-o", "empty", "--picture", "empty/p.svg"], "--picture empty/p.svg lies in --output empty"),
        (["compile", "net", "-o", "empty", "--json", "empty/r.json"], "--json empty/r.json lies in --output empty"),
        (["finetune", "nano", "-o", "o", "--text", "words.txt", "--json", "words.txt"], "--json and --text are both words.txt"),
        (["convert", "random-tiny", "-o", "o", "--calibration", "words.txt", "--json", "words.txt"], "--json and --calibration are both"),
        (["convert", "random-tiny", "-o", "o", "--save-calibration", "o/c"], "--save-calibration o/c lies in --output o"),
        (["convert", "random-tiny", "-o", "o/n", "--save-calibration", "o"], "--output o/n lies in --save-calibration o"),
        (["simulate", "p", "--prompt-file", "words.txt", "--json", "./words.txt"], "--json and --prompt-file are both words.txt"),
        (["convert", "model", "-o", "o", "--json", "model/config.json"], "is a file of model, which the command reads"),
        (["report", "page", "--json", "page/report.json"], "is a file of page, which the command reads"),
    ],
)
def test_outputs_are_beside_each_other_and_what_is_read(
    network: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "model", "page"):
        Path(name).mkdir()
    Path("model/config.json").write_text("{}")
    Path("page/report.json").write_text(json.dumps({"command": "run"}))
    before = listing(network.parent)
    assert run_command_line(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert listing(network.parent) == before


def test_an_earlier_result_is_written_again(network: Path) -> None:
    # Beside the files of the folder that the command reads.
    Path("page").mkdir()
    Path("page/codes.json").write_text(json.dumps({"command": "codes"}))
    assert run_command_line(["codes", "--json", "page/codes.json"]) == 0
    assert json.loads(Path("page/codes.json").read_text())["command"] == "codes"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("report", "fetch")])
def test_a_place_that_cannot_be_written_is_noticed_before_the_work(network: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line([part.format("/proc/x") for part in WRITERS[name]]) in (1, 2)
    error = capsys.readouterr().err
    assert "cannot be written: /proc is not writable" in error and "/proc/x" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["run", "pareto"])
def test_files_of_a_run_that_cannot_be_written(network: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(f"out/{'report' if name == 'run' else 'pareto'}.json").mkdir(parents=True)
    assert run_command_line([part.format("out") for part in WRITERS[name]]) == 2
    assert "json is a folder; give a file name" in capsys.readouterr().err
