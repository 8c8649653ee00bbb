"""Every family from a folder to generated text and perplexity: converted, kept, loaded, close to its float model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import SETTINGS, family_model, saved

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import default_text
from neuromorphic_llm.generation.choice import log_probabilities
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.decoder import IntegerDecoder

TOKENS = 64
TEXT = default_text()[: 3 * TOKENS]
QUICK = ("qwen2", "gemma2", "gemma3", "gpt2", "gptneox")
"""Together they have every part of the canonical decoder."""


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS])
def test_integer_path(name: str, tmp_path: Path) -> None:
    """With all spikes, the integer network is as close to the float model as 8-bit weights allow; its greedy text is the reference's."""
    checkpoint = load_checkpoint(saved(family_model(name), tmp_path / "model"))
    ids = checkpoint.tokenizer()(TEXT)["input_ids"]
    windows = [ids[start : start + TOKENS] for start in range(0, 3 * TOKENS, TOKENS)]
    network = convert(checkpoint, ConvertConfig(price=0.0, spikes=None, query_spikes=900.0), windows[:2])
    network.save(tmp_path / "network")
    loaded = SpikingNetwork.load(tmp_path / "network")
    assert loaded.content_hash == network.content_hash and loaded.weights.config == checkpoint.config
    decoder = loaded.functional()
    logits = decoder.forward(torch.tensor(windows[2:]))
    divergence = kullback_leibler(checkpoint, decoder, logits, windows[2])
    print(f"{name}: KL(float, integer) {divergence:.2e} nats per token")
    assert divergence < 1.5e-3
    assert decoder.generate([windows[2][:20]], 6, eos_token_ids=()) == [IntegerDecoder(loaded.weights).generate_greedy(windows[2][:20], 6)]


def kullback_leibler(checkpoint: Any, decoder: FunctionalDecoder, logits: Any, window: list[int]) -> float:
    with torch.no_grad():
        dense = checkpoint.dense_model()(torch.tensor([window])).logits[0].double().log_softmax(-1)
    return float((dense.exp() * (dense - log_probabilities(decoder.weights, logits[0]))).sum(-1).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_commands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """convert and eval at 1.5 spikes per activation."""
    monkeypatch.chdir(tmp_path)
    saved(family_model(name), Path("model"))
    Path("text.txt").write_text(TEXT[:90])
    assert run_command_line(["convert", "model", "-o", "network", "--spikes", "1.5", "--calibration", "text.txt"]) == 0
    options = ["--limit-tokens", "192", "--window", "96", "--json", "result.json"]
    assert run_command_line(["eval", "network", "--against", "model", *options]) == 0
    result = json.loads(Path("result.json").read_text())
    print(f"{name}: KL {result['kl_to_dense']:.2e} at {result['spikes_per_activation']:.2f} spikes")
    assert 0 < result["kl_to_dense"] < 0.03 and result["spikes_per_activation"] == pytest.approx(1.5, rel=0.1)
    assert run_command_line(["eval", "model", *options]) == 0
    dense = json.loads(Path("result.json").read_text())
    assert result["perplexity"] == pytest.approx(dense["perplexity"], rel=0.1)
