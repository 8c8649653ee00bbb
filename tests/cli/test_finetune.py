"""`nmllm finetune`: the whole command on a tiny model, under torchrun too, what it refuses, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.network.spiking import SpikingNetwork

ROOT = Path(__file__).parents[2]
SMALL = ["--text", "text.txt", "--window", "32", "--batch", "2", "--learning-rate", "1e-3"]


@pytest.fixture(autouse=True)
def _text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text((ROOT / "tests" / "models" / "story.txt").read_text() * 2)


@pytest.mark.slow
def test_a_network_that_was_trained(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["finetune", "random-tiny", "-o", "tuned", "--tokens", "0.2k", "--own-text", "40", *SMALL, "--json", "result.json"]
    assert run_command_line(line) == 0
    result = json.loads(Path("result.json").read_text())
    assert result["steps"] == 4 and result["tokens"] == 256 and result["own_text_tokens"] == 64 and result["state"] == "tuned.state"
    assert 0.99 <= result["spikes_per_activation"] <= 1.0  # on few tokens a factor moves the spikes in jumps
    network = SpikingNetwork.load("tuned")
    assert network.content_hash == result["network_hash"] and network.provenance["fine_tuning"]["steps"] == 4
    printed = capsys.readouterr()
    assert f"dense model: held-out perplexity {result['dense_held_out_perplexity']:.2f}" in printed.err
    assert "step 4: held-out perplexity" in printed.err and "tokens trained on" in printed.out
    # Everything is there already: the same network again, and another recipe is refused.
    assert run_command_line([*line[:3], "again", "--state", "tuned.state", *line[4:]]) == 0
    assert SpikingNetwork.load("again").content_hash == network.content_hash
    # The same training for the membranes of another chip: other ranges and readout, the same weights, and its program.
    assert run_command_line([*line[:3], "membranes", "--state", "tuned.state", "--chip", "nano2", *line[4:]]) == 0
    membranes = SpikingNetwork.load("membranes")
    assert membranes.weights.readout == load_spec("nano2").readout_circuit and membranes.provenance["options"]["readout"] == "membrane"
    for site in range(len(network.weights.config.sites)):
        before, after = network.weights.site(site), membranes.weights.site(site)
        assert np.array_equal(before.weight, after.weight) and np.array_equal(before.stop, after.stop)
        assert before.ranges is None and after.ranges is not None and len(np.unique(after.ranges)) > 1
    compile_network(membranes, load_spec("nano2"))
    capsys.readouterr()
    assert run_command_line([*line, "--price-rate", "0"]) == 1
    assert "tuned.state is of a run with another price_rate; give the same, or another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--tokens", "many"], 2, "--tokens must be a number of tokens such as 500k or 50M, got 'many'"),
        (["--own-text", "-3"], 2, "--own-text must be a number of tokens"),
        (["--window", "1000000"], 2, "--window must lie in 2.."),
        (["--spikes", "0"], 2, "spikes must be positive, got 0.0"),
        (["--seconds", "-1"], 2, "seconds must be positive"),
        (["--state", "tuned"], 2, "--state and --output are both tuned"),
        (
            ["--state", "tuned/state"],
            2,
            "--state tuned/state lies in --output tuned, which is written as a whole; choose a place beside it",
        ),
        (["--text", "missing.txt"], 2, "--text missing.txt cannot be read (No such file or directory)"),
        (["--text", "binary"], 1, "--text binary is not UTF-8 text (byte 0)"),
        (["--window", "512"], 1, "the texts do not fill two windows of 512 tokens"),
        (["--state", "text.txt"], 2, "--state text.txt is a file; choose another output folder"),
        (["--code", "first-spike"], 2, "fine-tuning knows the codes signed-digit and first-spike-log, not first-spike"),
        (["--code", "first-spike-log", "--code-option", "stepz=8"], 2, "no parameter 'stepz'"),
        (["--optimizer", "sgd"], 2, "optimizer must be adamw or muon, got 'sgd'"),
        (["--chip", "nc9"], 2, "no chip is called 'nc9'"),
        (["--device", "cuda9"], 2, "--device must be cpu or cuda"),
    ],
)
def test_what_is_refused(options: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("binary").write_bytes(b"\xff\xfe")
    text = [] if "binary" in options else ["--text", "text.txt"]
    Path("text.txt").write_text("A short text.\n" * 40)
    assert run_command_line(["finetune", "random-tiny", "-o", "tuned", *text, *options]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("tuned").exists()


def command(*options: str) -> list[str]:
    return ["-m", "neuromorphic_llm.cli", "finetune", "random-tiny", *SMALL, *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_ctrl_c_keeps_the_state_and_the_run_goes_on() -> None:
    whole = subprocess.run(
        [sys.executable, *command("-o", "whole", "--tokens", "2k")], env=environment(), capture_output=True, text=True, check=False
    )
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        [sys.executable, *command("-o", "cut", "--tokens", "2k")], env=environment(), stderr=subprocess.PIPE, text=True
    )
    log = Path("cut.state/log.jsonl")
    while not log.is_file() or log.read_text().count('"loss"') < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130 and error.splitlines()[-1] == "nmllm: error: interrupted"
    assert not Path("cut").exists()
    steps = log.read_text().count('"loss"')
    again = subprocess.run(
        [sys.executable, *command("-o", "cut", "--tokens", "2k")], env=environment(), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert steps < 32 == log.read_text().count('"loss"')
    assert log.read_text() == Path("whole.state/log.jsonl").read_text()
    networks = [SpikingNetwork.load(name) for name in ("whole", "cut")]
    tables = [[network.weights.site(site).stop.tolist() for site in range(len(network.weights.config.sites))] for network in networks]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_two_processes_share_a_batch() -> None:
    single = [sys.executable, *command("-o", "single", "--tokens", "0.3k")]
    shared = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for line in (single, [*shared, *command("-o", "shared", "--tokens", "0.3k", "--json", "result.json")]):
        done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert json.loads(Path("result.json").read_text())["steps"] == 5
    losses = []
    for name in ("single", "shared"):
        entries = [json.loads(line) for line in Path(f"{name}.state/log.jsonl").read_text().splitlines()]
        losses.append([entry["loss"] for entry in entries if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
