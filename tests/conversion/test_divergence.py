"""The divergence that a conversion measures: what it is, what is expected, and when it warns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from family_models import family_model, saved

from exact_rescalings import ALL_SPIKES, part, rescaled, with_canonical
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.conversion import balance
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.divergence import TOKENS, Divergence, usual_divergence, warning
from neuromorphic_llm.conversion.text import WINDOW_TOKENS, calibration_windows, default_text, held_out_window
from neuromorphic_llm.generation.choice import log_probabilities
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.spiking import SpikingNetwork


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(saved(family_model("llama-linear"), tmp_path_factory.mktemp("divergence") / "llama"))


@pytest.fixture(scope="module")
def texts(llama: Checkpoint) -> list[list[int]]:
    ids = llama.tokenizer()(default_text()[:288])["input_ids"]
    return [ids[:96], ids[96:192], ids[192:288]]


def test_it_is_that_from_transformers(llama: Checkpoint, texts: list[list[int]]) -> None:
    network = convert(llama, ConvertConfig(spikes=1.5), texts[:2], held_out=texts[2])
    every = convert(llama, ALL_SPIKES, texts[:2], held_out=texts[2])
    with torch.no_grad():
        dense = llama.dense_model()(torch.tensor([texts[2]])).logits[0].double().log_softmax(-1)
    found = network.provenance["divergence"]
    for name, converted in (("budget", network), ("all_spikes", every)):
        decoder = converted.functional()
        spiking = log_probabilities(decoder.weights, decoder.forward(torch.tensor([texts[2]]))[0])
        assert found[name] == pytest.approx(float((dense.exp() * (dense - spiking)).sum(-1).mean()), rel=0.02)
    assert found["tokens"] == 96 and found["held_out"] and "warning" not in network.provenance
    assert 0.5 < found["budget"] / found["budget_estimate"] < 2.0
    assert not convert(llama, ALL_SPIKES, texts[:2]).provenance["divergence"]["held_out"]


def test_a_lost_head_is_told(llama: Checkpoint, texts: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "balanced", lambda canonical: canonical)
    lost = with_canonical(llama, rescaled(llama.canonical, ["values"], part(100.0)))
    network = convert(lost, ConvertConfig(spikes=1.5), texts[:2], held_out=texts[2])
    assert network.provenance["divergence"]["all_spikes"] > 0.05
    assert "errors grow most before layers.0.gate_up, behind the output projection of attention" in network.provenance["warning"]


def test_what_warns() -> None:
    def told(all_spikes: float, budget: float, estimate: float) -> str:
        return warning(Divergence(64, all_spikes, budget, estimate, "layers.1.output", "layers.2.down")) or ""

    assert not told(0.02, 0.03, 0.015) and not told(0.001, 0.3, 0.2)
    assert "0.05 nats per token" in told(0.05, 0.05, 0.0) and "layers.1.output, behind attention" in told(0.05, 0.05, 0.0)
    assert "0.9 nats per token" in told(0.001, 0.9, 0.02) and "lost at layers.2.down" in told(0.001, 0.9, 0.02)
    assert told(float("nan"), 0.1, 0.1) and told(0.001, float("nan"), 0.1)
    mine = Divergence(64, 0.05, 0.05, 0.0, "layers.1.mine", "layers.1.mine")
    assert "layers.1.mine, behind the site before it" in (warning(mine) or "")
    assert usual_divergence(ConvertConfig()) == 0.03 < usual_divergence(ConvertConfig(weights="4-bit-groups"))


def test_held_out_window() -> None:
    tokenizer = load_checkpoint("random-tiny").tokenizer()
    windows, held_out = calibration_windows(tokenizer), held_out_window(tokenizer)
    assert held_out == calibration_windows(tokenizer, count=len(windows) + 1)[-1] and len(held_out) == WINDOW_TOKENS >= TOKENS
    assert held_out_window(tokenizer, "A short text.") is None


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(default_text()[:9000])
    monkeypatch.setattr("neuromorphic_llm.conversion.divergence.USUAL", 0.0)
    assert run_command_line(["convert", "random-tiny", "-o", "network", "--calibration", "text.txt", "--json", "result.json"]) == 0
    result, shown = json.loads(Path("result.json").read_text()), capsys.readouterr()
    assert result["divergence"]["held_out"] and result["divergence"]["tokens"] == TOKENS
    assert f"{result['divergence']['all_spikes']:.2g} nats per token" in shown.out
    assert f"Warning: {result['warning']}" in shown.err and result["warning"].startswith("with all spikes the network is")
    assert SpikingNetwork.load("network").provenance["divergence"] == result["divergence"]
