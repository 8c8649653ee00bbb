"""`nmllm compile` end to end on a small network."""

import json
from pathlib import Path

import pytest

from neuromorphic_llm.chip.program_io import load_program
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.random_decoder import random_decoder


@pytest.fixture
def network(tmp_path: Path) -> Path:
    SpikingNetwork(random_decoder(0), tokenizer_files={"tokenizer.json": b"{}"}).save(tmp_path / "network")
    return tmp_path / "network"


def test_writes_program_result_and_picture(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, picture, output = tmp_path / "result.json", tmp_path / "plan.svg", tmp_path / "program"
    arguments = ["compile", str(network), "--chip", "nano", "-o", str(output), "--json", str(result), "--picture", str(picture)]
    assert run_command_line([*arguments, "--time-passes", "--print-between-passes"]) == 0
    printed = capsys.readouterr().out
    assert "--- after fold ---\ngraph {" in printed
    assert "Mapping on chip nano" in printed and "choose-slices" in printed
    content = json.loads(result.read_text())
    assert content["command"] == "compile" and content["chips"] == 1 and content["wall_s"] > 0
    assert content["tiles"] == 13 and content["crossbars"] > 0 and 0 < content["utilisation"] < 1 and content["sram_bytes"] > 0
    assert list(content["pass_seconds"])[:3] == ["build", "legalise", "fold"]
    assert picture.read_text().startswith("<svg")
    assert load_program(output).tokenizer_files == {"tokenizer.json": b"{}"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network", "plan.svg", "program", "result.json"]


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"--chip": "nc11"}, 2, "no chip is called 'nc11'; did you mean 'nc1'?"),
        ({"--picture": "missing/plan.svg"}, 2, "does not exist"),
        ({"network": "nowhere"}, 1, "nowhere is not a folder"),
        ({"-o": "occupied"}, 1, "choose another output folder"),
        ({"-o": None}, 2, "Missing option"),
        ({"--picture": "program"}, 2, "--picture and --output are both program"),
        ({"--json": "program"}, 2, "--json and --output are both program"),
        ({"--picture": "plan.svg", "--json": "plan.svg"}, 2, "--json and --picture are both plan.svg"),
    ],
)
def test_bad_input_is_one_line(
    network: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str | None],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "notes.txt").write_text("keep me")
    chosen = {"network": str(network), "--chip": "nano", "-o": "program", **changes}
    arguments = ["compile", str(chosen.pop("network"))]
    for option, value in chosen.items():
        arguments += [option, value] if value is not None else []
    assert run_command_line(arguments) == code
    error = capsys.readouterr().err
    assert message in error and error.startswith("nmllm: error: ") and error.count("\n") == 1
    assert not (tmp_path / "program").exists()


def test_a_chip_too_small_leaves_nothing_behind(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chip = tmp_path / "small.yaml"
    chip.write_text("mesh: {width: 3, height: 3, vector_period: 4, vector_offset: 1}\n")
    assert run_command_line(["compile", str(network), "--chip", str(chip), "-o", str(tmp_path / "program")]) == 1
    assert "needs 9 synapse tiles (the chip has 6) and 3 vector tiles (the chip has 2); 2 such chips" in capsys.readouterr().err
    assert not (tmp_path / "program").exists()


def test_an_interrupt_leaves_nothing_half_written(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neuromorphic_llm.artefact.save_file", interrupt)
    assert run_command_line(["compile", str(network), "--chip", "nano", "-o", str(tmp_path / "program")]) == 130
    assert capsys.readouterr().err.endswith("nmllm: error: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["network"]


def test_a_damaged_network_is_refused(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = network / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-10])
    assert run_command_line(["compile", str(network), "--chip", "nano", "-o", str(tmp_path / "program")]) == 1
    assert "does not match its hash" in capsys.readouterr().err
    assert not (tmp_path / "program").exists()


def test_the_network_itself_is_no_output_folder(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (network / "artefact.json").read_bytes()
    assert run_command_line(["compile", str(network), "--chip", "nano", "-o", str(network)]) == 1
    error = capsys.readouterr().err
    assert "holds neuromorphic-llm-network, which neuromorphic-llm-program does not replace" in error and error.count("\n") == 1
    assert (network / "artefact.json").read_bytes() == before
