"""Calibration: sensitivities against finite differences, ranges, and the folder it is kept in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromorphic_llm.artefact import METADATA, TENSORS
from neuromorphic_llm.convert.calibrate import Calibration, calibrate
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.convert.convert import convert
from neuromorphic_llm.convert.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.convert.text import WINDOW_TOKENS, calibration_windows, default_text, fitting_windows
from neuromorphic_llm.errors import ArtefactError, ConversionError
from neuromorphic_llm.models.canonical import CanonicalDecoder, canonical_shapes, rotary_frequencies
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.reference.weights import DecoderConfig

SMALL = DecoderConfig(19, 8, 12, 2, 2, 1, 4, 16, 1e-5, 10000.0)
WINDOWS = [[3, 1, 4, 1], [5, 9, 2]]
STEP = 1e-4
VARIANTS = DecoderConfig(
    19, 8, 12, 2, 2, 1, 4, 16, 1e-5, 10000.0, activation="gelu-tanh", query_key_norm=True, output_norms=True, learned_positions=True,
    local_rotary=True, windows=(0, 2), attention_softcap=5.0, logit_softcap=9.0,
)  # fmt: skip


def decoder_of(config: DecoderConfig) -> FloatDecoder:
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, shape in canonical_shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        tensors[name] = 1.0 + 0.1 * noise if len(shape) == 1 else noise / np.sqrt(shape[1])
    tensors["rotary.frequencies"] = rotary_frequencies(config)
    if config.local_rotary:
        tensors["rotary.local_frequencies"] = torch.tensor([0.5, 0.0], dtype=torch.float64)
    return FloatDecoder(CanonicalDecoder(config, tensors), dtype=torch.float64)


@pytest.fixture(scope="module", params=[SMALL, VARIANTS], ids=["llama", "variants"])
def decoder(request: pytest.FixtureRequest) -> FloatDecoder:
    return decoder_of(request.param)


class Shift(Observer):
    """Adds `change` [tokens, size] to the input of one site, or to the queries of the second layer."""

    def __init__(self, change: torch.Tensor, place: int | None) -> None:
        self.change, self.place = change, place

    def site(self, index: int, x: torch.Tensor) -> torch.Tensor:
        return x + self.change if index == self.place else x

    def query(self, layer: int, q: torch.Tensor) -> torch.Tensor:
        return q + self.change.view(q.shape[2], q.shape[1], -1).transpose(0, 1) if self.place is None and layer == 1 else q


@torch.no_grad()
def fisher(decoder: FloatDecoder, place: int | None, size: int, seed: int) -> np.ndarray:
    """Mean square of d log p(drawn) / d x_i by central differences, x the input of a site or the queries of the second layer."""
    generator, total = torch.Generator().manual_seed(seed), np.zeros(size)
    for window in WINDOWS:
        ids = torch.tensor([window])
        # The same draws as in the calibration: one multinomial of the prediction per window.
        drawn = torch.multinomial(decoder(ids)[0].log_softmax(-1).exp(), 1, generator=generator)
        for token in range(len(window)):
            for i in range(size):
                ends = []
                for sign in (1, -1):
                    change = torch.zeros(len(window), size, dtype=torch.float64)
                    change[token, i] = sign * STEP
                    ends.append(float(decoder(ids, Shift(change, place))[0].log_softmax(-1).gather(1, drawn).sum()))
                total[i] += ((ends[0] - ends[1]) / (2 * STEP)) ** 2
    return total / sum(map(len, WINDOWS))


def test_sensitivities_are_the_fisher_information(decoder: FloatDecoder) -> None:
    calibration, config = calibrate(decoder, WINDOWS, seed=5), decoder.config
    for site in range(4, config.sites):
        expected = fisher(decoder, site, config.site_shape(site)[0], seed=5)
        np.testing.assert_allclose(calibration.sensitivity[site], expected, rtol=1e-5, atol=1e-9)
    assert calibration.tokens == 7 and len(calibration.sensitivity) == config.sites


def test_query_sensitivities_are_of_the_scaled_rotated_query(decoder: FloatDecoder) -> None:
    """Averaged over the two elements of a pair that is rotated; the second pair of the other decoder is not."""
    calibration, config = calibrate(decoder, WINDOWS, seed=5), decoder.config
    expected = fisher(decoder, None, config.heads * config.head_dim, seed=5).reshape(config.heads, 2, config.head_dim // 2)
    turned = slice(None) if config == SMALL else slice(1)
    expected[:, :, turned] = expected[:, :, turned].mean(1, keepdims=True)
    np.testing.assert_allclose(calibration.query_sensitivity[1], expected.reshape(config.heads, -1), rtol=1e-5, atol=1e-9)


class Ranges(Observer):
    """The largest magnitude of everything, by name and layer."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, int], float] = {}

    def site(self, index: int, x: torch.Tensor) -> torch.Tensor:
        self.value("site", index, x)
        return x

    def query(self, layer: int, q: torch.Tensor) -> torch.Tensor:
        self.value("rotated query", layer, q)
        return q

    def value(self, name: str, layer: int, x: torch.Tensor) -> None:
        self.seen[name, layer] = max(self.seen.get((name, layer), 0.0), float(x.abs().max()))

    def largest(self, *names: str) -> float:
        return max(value for (name, _), value in self.seen.items() if name in names)


def test_ranges(decoder: FloatDecoder) -> None:
    calibration, ranges = calibrate(decoder, WINDOWS), Ranges()
    for window in WINDOWS:
        decoder(torch.tensor([window]), ranges)
    assert calibration.qkv_max == ranges.largest("query", "key", "value", "rotated query")
    assert calibration.gate_max == ranges.largest("gate") and calibration.logit_max == ranges.largest("logit")
    assert calibration.attention_max == max(ranges.seen["site", 1], ranges.seen["site", 5])
    assert calibration.hidden_max.tolist() == [ranges.seen["site", 3], ranges.seen["site", 7]]
    assert calibration.value_max.tolist() == [[ranges.seen["value", 0]], [ranges.seen["value", 1]]]
    if decoder.config == SMALL:
        assert calibration.residual_max == max(ranges.seen["residual", 0], ranges.seen["residual", 1])
        assert calibration.projection_max == 0.0
    else:
        assert calibration.residual_max == ranges.largest("residual")
        assert calibration.projection_max == ranges.largest("attention_output", "feed_forward_output") > 0


def test_weights_get_no_gradients(decoder: FloatDecoder) -> None:
    decoder.weights["lm_head.weight"].requires_grad_(True)
    calibrate(decoder, WINDOWS)
    assert decoder.weights["lm_head.weight"].grad is None
    decoder.weights["lm_head.weight"].requires_grad_(False)


def test_progress_and_seed(decoder: FloatDecoder) -> None:
    calls: list[tuple[str, int, int]] = []
    first = calibrate(decoder, WINDOWS, progress=lambda *call: calls.append(call), seed=1)
    assert calls == [("calibrate", 1, 2), ("calibrate", 2, 2)]
    same, other = calibrate(decoder, WINDOWS, seed=1), calibrate(decoder, WINDOWS, seed=2)
    assert (first.sensitivity[0] == same.sensitivity[0]).all() and (first.sensitivity[0] != other.sensitivity[0]).any()


def test_bad_text_and_damaged_weights() -> None:
    decoder = decoder_of(VARIANTS)
    with pytest.raises(ConversionError, match="calibration text is too short"):
        calibrate(decoder, [[1], []])
    with pytest.raises(ConversionError, match="window of 17 tokens exceeds the 16 positions that the model knows"):
        calibrate(decoder, [[1] * 17])
    decoder.weights["model.norm.weight"][0] = float("nan")
    with pytest.raises(ConversionError, match="non-finite predictions"):
        calibrate(decoder, WINDOWS)


def test_windows(tiny: Checkpoint) -> None:
    tokenizer = tiny.tokenizer()
    assert len(default_text()) > 8 * WINDOW_TOKENS
    windows = calibration_windows(tokenizer, "x" * (WINDOW_TOKENS + 3))
    assert [len(window) for window in windows] == [WINDOW_TOKENS, 3]
    assert [len(window) for window in calibration_windows(tokenizer, count=3)] == [WINDOW_TOKENS] * 3
    for text in ("", "x"):
        with pytest.raises(ConversionError, match="fewer than two tokens"):
            calibration_windows(tokenizer, text)
    assert fitting_windows([[1, 2, 3, 4, 5], [6, 7]], 2) == [[1, 2], [3, 4], [5], [6, 7]]
    assert fitting_windows([[1, 2, 3], [4]], 3) == [[1, 2, 3], [4]]


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
