"""`nmllm convert` on the small random checkpoint."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.conversion.allocation.prices import Allocation
from neuromorphic_llm.conversion.allocation.search import SearchInput
from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.models.files import RawCheckpoint, write_folder
from neuromorphic_llm.models.llama import hugging_face_config
from neuromorphic_llm.network.spiking import SpikingNetwork


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a short text for calibration."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("A river runs to the sea. " * 12)
    return tmp_path


def run(*arguments: str, output: str = "network") -> dict[str, Any]:
    assert run_command_line(["convert", "random-tiny", "-o", output, "--json", "result.json", *arguments]) == 0
    content: dict[str, Any] = json.loads(Path("result.json").read_text())
    return content


def test_writes_a_network_and_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    content = run("--spikes", "1.2", "--calibration", "text.txt")
    assert "Spiking network network" in capsys.readouterr().out
    network = SpikingNetwork.load("network")
    assert content["command"] == "convert" and content["network_hash"] == network.content_hash
    assert content["spikes_per_activation"] == pytest.approx(1.2, rel=0.02)
    assert content["parameters"] == network.weights.parameters and content["parts"] == "all"
    assert content["calibration_tokens"] == 300 and content["price"] > 0
    assert network.tokenizer()("A")["input_ids"] == [65]
    assert sorted(path.name for path in Path().iterdir()) == ["network", "result.json", "text.txt"]


def test_options_reach_the_network() -> None:
    content = run("--lambda", "0", "--code", "rate", "--phases", "20", "--parts", "feed-forward", "--calibration", "text.txt")
    weights = SpikingNetwork.load("network").weights
    assert content["code"]["name"] == weights.code.name == "rate" and weights.code.phases == 20
    assert content["price"] == 0 and not weights.head.spiking and weights.layers[0].down.spiking


def test_queries_have_a_budget_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    run("--calibration", "text.txt", "--query-spikes", "0.5")
    network = SpikingNetwork.load("network")
    assert network.provenance["options"]["query_spikes"] == 0.5
    decoder = network.functional()
    decoder.forward(torch.tensor([list(Path("text.txt").read_bytes())]))
    assert decoder.statistics.query_spikes_per_value() == pytest.approx(0.5, rel=0.05)
    for arguments, message in (
        (["--query-spikes", "0"], "query_spikes must be positive"),
        (["--query-spikes", "1", "--parts", "feed-forward"], "leaves attention dense"),
    ):
        capsys.readouterr()
        assert run_command_line(["convert", "random-tiny", "-o", "other", *arguments]) == 2
        assert message in capsys.readouterr().err and not Path("other").exists()


def test_codes_without_a_stop_rule_by_default_keep_all_spikes() -> None:
    assert run("--code", "bit-planes", "--calibration", "text.txt")["price"] == 0


def test_a_calibration_is_kept_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("--calibration", "text.txt", "--save-calibration", "calibration")
    monkeypatch.setattr("neuromorphic_llm.conversion.convert.calibrate", lambda *_, **__: pytest.fail("calibrated again"))
    second = run("--calibration", "calibration", "--spikes", "1.2", output="other")
    assert second["calibration_tokens"] == first["calibration_tokens"]
    assert second["network_hash"] != first["network_hash"]


def test_an_existing_network_is_replaced() -> None:
    first = run("--lambda", "0", "--calibration", "text.txt")
    assert run("--lambda", "1e-7", "--calibration", "text.txt")["network_hash"] != first["network_hash"]
    assert SpikingNetwork.load("network").content_hash != first["network_hash"]


def binary() -> str:
    Path("binary.txt").write_bytes(b"\xff\xfe\x00")
    return "binary.txt"


def short() -> str:
    Path("short.txt").write_text("x")
    return "short.txt"


def empty_folder() -> str:
    Path("folder").mkdir()
    return "folder"


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (binary, "binary.txt is not UTF-8 text"),
        (short, "fewer than two tokens"),
        (empty_folder, "folder holds no artefact.json"),
        (lambda: "wikitxt2", "wikitext2"),
        (lambda: "x" * 300, "x cannot be read (File name too long); give a text file, a task or a calibration folder"),
    ],
)
def test_bad_calibration(calibration: Callable[[], str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command_line(["convert", "random-tiny", "-o", "network", "--calibration", calibration()])
    error = capsys.readouterr().err
    assert code in (1, 2) and message in error and error.count("\n") == 1
    assert not Path("network").exists()


def test_a_calibration_text_that_cannot_be_read(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Not with chmod: root may read anything.
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "text.txt")

    monkeypatch.setattr("neuromorphic_llm.text_file.read_bytes", refuse)
    assert run_command_line(["convert", "random-tiny", "-o", "network", "--calibration", "text.txt"]) == 2
    error = capsys.readouterr().err
    assert "--calibration text.txt cannot be read (Permission denied); give a text file" in error and error.count("\n") == 1


def test_a_calibration_text_from_a_pipe() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        stream.write("A river runs to the sea. " * 12)
    assert run("--lambda", "0", "--calibration", f"/dev/fd/{reader}")["calibration_tokens"] == 300
    os.close(reader)


def test_calibration_of_another_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    run("--lambda", "0", "--calibration", "text.txt", "--save-calibration", "calibration")
    checkpoint = load_checkpoint("random-tiny")
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name != "lm_head.weight"}
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2
    write_folder(RawCheckpoint(hugging_face_config(checkpoint.config), tensors, checkpoint.tokenizer_files), Path("model"))
    assert run_command_line(["convert", "model", "-o", "other", "--calibration", "calibration"]) == 1
    assert "made for another checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--spikes", "1", "--lambda", "0.1"], 2, "--spikes and --lambda are both given"),
        (["--spikes", "0"], 2, "spikes must be positive"),
        (["--lambda", "-1"], 2, "must not be negative"),
        (["--parts", "head"], 2, "parts must be one of all, feed-forward, attention"),
        (["--code", "signed-digits"], 2, "signed-digit"),
        (["--phases", "99"], 2, "phases"),
        (["--spikes", "9"], 1, "9 spikes per activation cannot be met"),
        (["--device", "tpu"], 2, "tpu"),
        (["--device", "cuda"], 2, "cuda"),
        (["--calibration", "absent.txt"], 2, "--calibration absent.txt: no such file or folder, and no task of that name"),
        (["--save-calibration", "network"], 2, "--save-calibration and --output are both network"),
        (["--save-calibration", "network/calibration"], 2, "lies in --output network, which is written as a whole"),
        (["--save-calibration", "."], 2, "--output network lies in --save-calibration"),
    ],
)
def test_bad_options_are_one_line(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if arguments == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert run_command_line(["convert", "random-tiny", "-o", "network", "--calibration", "text.txt", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("network").exists()


@pytest.mark.parametrize("model", ["smolm2-135", "nowhere"])
def test_no_model(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["convert", model, "-o", "network"]) == 1
    assert model in capsys.readouterr().err


def test_a_checkpoint_with_nan(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = load_checkpoint("random-tiny")
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name != "lm_head.weight"}
    tensors["model.norm.weight"] = torch.full((64,), torch.nan)
    write_folder(RawCheckpoint(hugging_face_config(checkpoint.config), tensors, checkpoint.tokenizer_files), Path("model"))
    assert run_command_line(["convert", "model", "-o", "network"]) == 1
    assert "model.norm.weight' holds NaN" in capsys.readouterr().err
    assert not Path("network").exists()


def test_output_that_is_something_else(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the work, not after minutes of it."""
    monkeypatch.setattr("neuromorphic_llm.models.checkpoint.load_checkpoint", lambda _: pytest.fail("loaded the model"))
    Path("notes").mkdir()
    Path("notes", "keep.txt").write_text("keep me")
    for output, message in (("notes", "notes exists and is not an artefact"), ("text.txt", "text.txt exists and is not an artefact")):
        assert run_command_line(["convert", "random-tiny", "-o", output]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert Path("notes", "keep.txt").read_text() == "keep me"


def test_output_that_cannot_be_written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Not with chmod: root may write anywhere.
    monkeypatch.setattr("os.access", lambda *_: False)
    assert run_command_line(["convert", "random-tiny", "-o", "new/network", "--calibration", "text.txt"]) == 1
    assert "is not writable; choose another output folder" in capsys.readouterr().err
    assert not Path("new").exists()


def test_output_below_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["convert", "random-tiny", "-o", "text.txt/network", "--calibration", "text.txt"]) in (1, 2)
    error = capsys.readouterr().err
    assert "text.txt" in error and "internal error" not in error and error.count("\n") == 1


@pytest.mark.parametrize("where", ["neuromorphic_llm.conversion.budget.with_price", "neuromorphic_llm.artefact._hash"])
def test_interruption_leaves_nothing(where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    assert run_command_line(["convert", "random-tiny", "-o", "network", "--calibration", "text.txt"]) == 130
    assert capsys.readouterr().err.strip() == "nmllm: error: interrupted"
    assert [path.name for path in Path().iterdir()] == ["text.txt"]


def test_allocation_and_compensation_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--spikes", "1.2", "--allocation", "knunyants", "--compensate", "bias", "--compensate", "gptq"]
    first = run("--calibration", "text.txt", "--save-calibration", "calibration", *options)
    assert first["allocation"] == "knunyants" and first["compensation"] == ["bias", "gptq"] and first["energy_j_per_token"] is None
    weights = SpikingNetwork.load("network").weights
    assert all(weights.site(site).bias is not None for site in range(len(weights.config.sites)))
    calls: list[Any] = []
    monkeypatch.setattr("neuromorphic_llm.conversion.allocation.knunyants.knunyants", calls.append)
    # The text is another one here, but the search is done already.
    assert run("--calibration", "calibration", *options, output="other")["allocation"] == "knunyants" and not calls


def test_a_changed_decoder_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[str] = []

    def search(given: SearchInput) -> Allocation:
        searches.append("knunyants")
        return replace(given.base, method="knunyants")

    monkeypatch.setattr("neuromorphic_llm.conversion.allocation.knunyants.knunyants", search)
    options = ["--allocation", "knunyants", "--compensate", "means"]
    run("--calibration", "text.txt", "--save-calibration", "calibration", *options)
    assert searches == ["knunyants"]
    assert not Calibration.load("calibration").allocations  # it is of the decoder as it was


def test_a_budget_in_joules() -> None:
    content = run("--energy", "3.5e-7", "--chip", "nano", "--calibration", "text.txt")
    assert content["energy_j_per_token"] == pytest.approx(3.5e-7, rel=0.01)
    assert SpikingNetwork.load("network").provenance["options"]["energy_j"] == 3.5e-7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--allocation", "greddy"), "did you mean 'greedy'?"),
        (("--compensate", "gptx"), "did you mean 'gptq'?"),
        (("--compensate", "gptq", "--compensate", "gptq"), "names one method twice"),
        (("--energy", "1e-6", "--spikes", "1"), "--spikes and --energy are both given"),
        (("--energy", "-1"), "energy_j must be positive"),
    ],
)
def test_wrong_methods(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["convert", "random-tiny", "-o", "network", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_too_few_joules(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_command_line(["convert", "random-tiny", "-o", "network", "--calibration", "text.txt", "--energy", "1e-9", "--chip", "nano"])
        == 1
    )
    assert "without any spike a token costs" in capsys.readouterr().err
