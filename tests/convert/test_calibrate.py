"""Calibration: sensitivities against finite differences, ranges, and the folder it is kept in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.llama import modeling_llama

from neuromorphic_llm.artefact import METADATA, TENSORS
from neuromorphic_llm.convert.calibrate import Calibration, calibrate
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.convert.convert import convert
from neuromorphic_llm.convert.text import WINDOW_TOKENS, calibration_windows, default_text
from neuromorphic_llm.errors import ArtefactError, ConversionError
from neuromorphic_llm.models.checkpoint import Checkpoint, random_checkpoint
from neuromorphic_llm.reference.weights import DecoderConfig

SMALL = DecoderConfig(19, 8, 12, 2, 2, 1, 4, 16, 1e-5, 10000.0)
WINDOWS = [[3, 1, 4, 1], [5, 9, 2]]
STEP = 3e-3  # transformers computes norms in float32 whatever the model's type


@pytest.fixture(scope="module")
def model() -> Any:
    return random_checkpoint(SMALL, seed=3).dense_model(torch.float64)


def score(model: Any, window: list[int], drawn: torch.Tensor) -> float:
    """Sum of the log probabilities of the drawn tokens, float64."""
    logits = model(torch.tensor([window]), use_cache=False).logits[0]
    return float(logits.log_softmax(-1).gather(1, drawn).sum())


def fisher(model: Any, attach: Callable[[torch.Tensor], Any], size: int, seed: int) -> np.ndarray:
    """Mean square of d log p(drawn) / d x_i by central differences; `attach` adds its argument [tokens, size] to x."""
    generator, total = torch.Generator().manual_seed(seed), np.zeros(size)
    for window in WINDOWS:
        # The same draws as in the calibration: one multinomial of the float32 prediction per window.
        prediction = model(torch.tensor([window]), use_cache=False).logits[0].float()
        drawn = torch.multinomial(prediction.log_softmax(-1).exp(), 1, generator=generator)
        for token in range(len(window)):
            for i in range(size):
                ends = []
                for sign in (1, -1):
                    change = torch.zeros(len(window), size, dtype=torch.float64)
                    change[token, i] = sign * STEP
                    handle = attach(change)
                    ends.append(score(model, window, drawn))
                    handle.remove()
                total[i] += ((ends[0] - ends[1]) / (2 * STEP)) ** 2
    return total / sum(map(len, WINDOWS))


def added_to_output(module: Any) -> Callable[[torch.Tensor], Any]:
    return lambda change: module.register_forward_hook(lambda _, __, output: output + change)


def added_to_input(module: Any) -> Callable[[torch.Tensor], Any]:
    return lambda change: module.register_forward_pre_hook(lambda _, arguments: (arguments[0] + change,))


@torch.no_grad()
def test_sensitivities_are_the_fisher_information(model: Any) -> None:
    with torch.enable_grad():
        calibration = calibrate(model, SMALL, WINDOWS, seed=5)
    layer = model.model.layers[1]
    places = {
        4: added_to_output(layer.input_layernorm),
        5: added_to_input(layer.self_attn.o_proj),
        6: added_to_output(layer.post_attention_layernorm),
        7: added_to_input(layer.mlp.down_proj),
        8: added_to_output(model.model.norm),
    }
    for site, attach in places.items():
        expected = fisher(model, attach, SMALL.site_shape(site)[0], seed=5)
        np.testing.assert_allclose(calibration.sensitivity[site], expected, rtol=2e-3, atol=1e-7)
    assert calibration.tokens == 7 and len(calibration.sensitivity) == SMALL.sites


class Patch:
    """Adds to the rotated, scaled queries of the second layer; scaled as on the chip."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, change: torch.Tensor) -> None:
        self._context = monkeypatch
        original, calls = modeling_llama.apply_rotary_pos_emb, [0]
        scale = np.log2(np.e) / np.sqrt(SMALL.head_dim)

        def changed(q: torch.Tensor, k: torch.Tensor, *arguments: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
            q, k = original(q, k, *arguments, **options)
            calls[0] += 1
            if calls[0] == 2:
                q = q + change.view(len(change), SMALL.heads, SMALL.head_dim).transpose(0, 1) / scale
            return q, k

        monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", changed)

    def remove(self) -> None:
        self._context.undo()


@torch.no_grad()
def test_query_sensitivities_are_of_the_scaled_rotated_query(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.enable_grad():
        calibration = calibrate(model, SMALL, WINDOWS, seed=5)
    expected = fisher(model, lambda change: Patch(monkeypatch, change), SMALL.heads * SMALL.head_dim, seed=5)
    pairs = expected.reshape(SMALL.heads, 2, SMALL.head_dim // 2).mean(1, keepdims=True).repeat(2, 1)
    np.testing.assert_allclose(calibration.query_sensitivity[1], pairs.reshape(SMALL.heads, -1), rtol=2e-3, atol=1e-7)


def test_ranges(model: Any) -> None:
    calibration = calibrate(model, SMALL, WINDOWS)
    seen: dict[str, float] = {"hidden": 0.0, "logit": 0.0, "attention": 0.0}

    def note(name: str) -> Any:
        return lambda _, arguments: seen.update({name: max(seen[name], float(arguments[0].abs().max()))})

    layer = model.model.layers[0]
    handles = [layer.mlp.down_proj.register_forward_pre_hook(note("hidden"))]
    handles += [each.self_attn.o_proj.register_forward_pre_hook(note("attention")) for each in model.model.layers]
    for window in WINDOWS:
        seen["logit"] = max(seen["logit"], float(model(torch.tensor([window])).logits.abs().max()))
    for handle in handles:
        handle.remove()
    assert calibration.hidden_max[0] == pytest.approx(seen["hidden"])
    assert calibration.attention_max == pytest.approx(seen["attention"])
    assert calibration.logit_max == pytest.approx(seen["logit"])
    assert calibration.value_max.shape == (2, 1) and calibration.qkv_max >= calibration.value_max.max() > 0


def test_the_model_is_left_as_it_was(model: Any) -> None:
    calibrate(model, SMALL, WINDOWS)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_progress_and_seed(model: Any) -> None:
    calls: list[tuple[str, int, int]] = []
    first = calibrate(model, SMALL, WINDOWS, progress=lambda *call: calls.append(call), seed=1)
    assert calls == [("calibrate", 1, 2), ("calibrate", 2, 2)]
    same, other = calibrate(model, SMALL, WINDOWS, seed=1), calibrate(model, SMALL, WINDOWS, seed=2)
    assert (first.sensitivity[0] == same.sensitivity[0]).all() and (first.sensitivity[0] != other.sensitivity[0]).any()


def test_bad_text_and_damaged_weights() -> None:
    checkpoint = random_checkpoint(SMALL, seed=3)
    with pytest.raises(ConversionError, match="calibration text is too short"):
        calibrate(checkpoint.dense_model(), SMALL, [[1], []])
    checkpoint.tensors["model.norm.weight"][0] = float("inf")
    with pytest.raises(ConversionError, match="non-finite predictions"):
        calibrate(checkpoint.dense_model(), SMALL, WINDOWS)


def test_windows(tiny: Checkpoint) -> None:
    tokenizer = tiny.tokenizer()
    assert len(default_text()) > 8 * WINDOW_TOKENS
    windows = calibration_windows(tokenizer, "x" * (WINDOW_TOKENS + 3))
    assert [len(window) for window in windows] == [WINDOW_TOKENS, 3]
    assert [len(window) for window in calibration_windows(tokenizer, count=3)] == [WINDOW_TOKENS] * 3
    for text in ("", "x"):
        with pytest.raises(ConversionError, match="fewer than two tokens"):
            calibration_windows(tokenizer, text)


def test_round_trip(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / "calibration")
    loaded = Calibration.load(tmp_path / "calibration")
    for name, value in vars(calibration).items():
        if name == "sensitivity":
            assert all((ours == theirs).all() for ours, theirs in zip(value, loaded.sensitivity, strict=True))
        else:
            assert np.array_equal(getattr(loaded, name), value)


def test_damaged_or_foreign_folders(calibration: Calibration, tmp_path: Path) -> None:
    folder = tmp_path / "calibration"
    calibration.save(folder)
    metadata = json.loads((folder / METADATA).read_text())
    (folder / METADATA).write_text(json.dumps({**metadata, "version": 2}))
    with pytest.raises(ArtefactError, match="newer than the supported"):
        Calibration.load(folder)
    (folder / METADATA).write_text(json.dumps({**metadata, "tokens": 3}))
    with pytest.raises(ArtefactError, match="does not match its hash"):
        Calibration.load(folder)
    (folder / TENSORS).unlink()
    with pytest.raises(ArtefactError, match=r"holds no tensors\.safetensors"):
        Calibration.load(folder)


def test_calibration_of_another_checkpoint(tiny: Checkpoint, calibration: Calibration, windows: list[list[int]]) -> None:
    other = replace(calibration, checkpoint_hash="0" * 64)
    with pytest.raises(ConversionError, match="made for another checkpoint"):
        convert(tiny, ConvertConfig(price=0.0, spikes=None), windows, calibration=other)
