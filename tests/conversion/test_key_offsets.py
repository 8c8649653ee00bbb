"""Offsets of keys: where they are given, what they are, and the statistics that they come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromorphic_llm.artefact import load_artefact, save_artefact
from neuromorphic_llm.conversion.calibrate import FORMAT, VERSION, Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert
from neuromorphic_llm.conversion.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.conversion.key_offsets import KeyStatistics, key_offset, turning_share
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.errors import ArtefactError, ConversionError
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.reference.config import DecoderConfig

CONFIG = DecoderConfig(19, 8, 12, 1, 2, 1, 6, 64, 1e-5, 10000.0)
FREQUENCIES = np.array([1.0, 0.004, 0.0])  # fast, slow, not rotated


def statistics(mean: list[float], query_square: float = 6.0) -> KeyStatistics:
    """Keys with this mean and a standard deviation of 1."""
    mean_of = np.array(mean, np.float64).reshape(1, 1, 6)
    return KeyStatistics(mean_of, mean_of**2 + 1.0, np.full((1, 1), query_square))


def with_key_bias(checkpoint: Checkpoint, size: float) -> Checkpoint:
    """The checkpoint with this bias on the first element of the slowest pair of every key head."""
    config, tensors = checkpoint.config, dict(checkpoint.tensors)
    assert checkpoint.settings is not None
    for layer in range(config.layers):
        for name in "qkvo":
            tensors[f"model.layers.{layer}.self_attn.{name}_proj.bias"] = torch.zeros(
                len(tensors[f"model.layers.{layer}.self_attn.{name}_proj.weight"])
            )
        bias = tensors[f"model.layers.{layer}.self_attn.k_proj.bias"].view(config.kv_heads, -1)
        bias[:, config.head_dim // 2 - 1] = size
    return replace(checkpoint, tensors=tensors, settings={**checkpoint.settings, "attention_bias": True})


def test_the_offset_is_the_mean_of_the_turning_key() -> None:
    """Of a slow pair over its 64 positions, of an idle one the mean itself; a fast pair turns through all directions and has none."""
    mean = [9.0, 200.0, 0.0, 0.0, -50.0, 70.0]  # pairs (9, 0), (200, -50), (0, 70)
    offset = key_offset(CONFIG, statistics(mean), 0, FREQUENCIES)
    assert offset is not None
    turned = [complex(200.0, -50.0) * np.exp(1j * 0.004 * position) for position in range(64)]
    expected = np.mean(turned)
    np.testing.assert_allclose(offset, [[0.0, expected.real, 0.0, 0.0, expected.imag, 70.0]], rtol=1e-12)
    scaled = key_offset(CONFIG, statistics(mean), 0, FREQUENCIES, 1.25)
    np.testing.assert_allclose(scaled, 1.25 * offset, rtol=1e-12)


@pytest.mark.parametrize(
    ("config", "mean", "query_square"),
    [
        (CONFIG, [0.0] * 6, 6.0),
        (CONFIG, [0.0, 3.0, 0.0, 0.0, 0.0, 0.0], 6.0),  # such a step is fine enough
        (CONFIG, [0.0, 200.0, 0.0, 0.0, 0.0, 0.0], 1e-4),  # queries too small to notice
        (CONFIG, [200.0, 200.0, 0.0, 0.0, 0.0, 0.0], 6.0),  # the fast pair is as large and stays
        (replace(CONFIG, attention_softcap=30.0), [0.0, 200.0, 0.0, 0.0, 0.0, 0.0], 6.0),  # scores may not move
    ],
)
def test_heads_that_need_none_have_none(config: DecoderConfig, mean: list[float], query_square: float) -> None:
    assert key_offset(config, statistics(mean, query_square), 0, FREQUENCIES) is None
    assert key_offset(CONFIG, None, 0, FREQUENCIES) is None


def test_statistics_are_those_of_the_keys_before_rotation() -> None:
    checkpoint = with_key_bias(load_checkpoint("nano"), 100.0)
    windows = [[5, 60, 0, 17, 17, 33, 2, 9], [4, 8, 15]]
    found = calibrate_checkpoint(checkpoint, windows).keys
    assert found is not None
    keys: dict[int, list[torch.Tensor]] = {}
    queries: dict[int, list[torch.Tensor]] = {}

    class Seen(Observer):
        def value(self, name: str, layer: int, x: torch.Tensor) -> None:
            if name == "key" and x.ndim == 3:
                keys.setdefault(layer, []).append(x[0])

        def query(self, layer: int, q: torch.Tensor) -> torch.Tensor:
            queries.setdefault(layer, []).append(q[0])
            return q

    for window in windows:
        FloatDecoder(checkpoint.canonical)(torch.tensor([window]), Seen())
    config = checkpoint.config
    for layer in range(config.layers):
        projected = torch.cat(keys[layer]).view(-1, config.kv_heads, config.head_dim).double()
        np.testing.assert_allclose(found.mean[layer], projected.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.square[layer], projected.square().mean(0), rtol=1e-4, atol=1e-5)
        query = torch.cat(queries[layer], 1).double().square().sum(-1).mean(1).view(config.kv_heads, -1).mean(1)
        np.testing.assert_allclose(found.query_square[layer], query, rtol=1e-5)


def test_ordinary_keys_have_no_offsets_and_large_biases_have() -> None:
    checkpoint = load_checkpoint("nano")
    windows = calibration_windows(checkpoint.tokenizer(), count=1)
    plain, biased = (convert(each, ConvertConfig(), windows) for each in (checkpoint, with_key_bias(checkpoint, 80.0)))
    assert all(layer.get("key_offset") is None for layer in plain.weights.layers)
    for layer in biased.weights.layers:
        assert layer.get("key_offset") is not None
        offset = layer.key_offset * 2.0**-biased.weights.formats.qkv
        slow = biased.weights.config.head_dim // 2 - 1
        angle = np.arange(512) * 10000.0 ** (-slow / 8)
        np.testing.assert_allclose(offset[:, slow], 80.0 * np.cos(angle).mean(), atol=4.0)  # keys have means of their own


def test_calibrations_keep_the_statistics(tmp_path: Path) -> None:
    checkpoint = with_key_bias(load_checkpoint("nano"), 100.0)
    windows = [[5, 60, 0, 17, 17, 33, 2, 9]]
    calibration = calibrate_checkpoint(checkpoint, windows)
    calibration.save(tmp_path / "calibration")
    loaded = Calibration.load(tmp_path / "calibration").keys
    assert loaded is not None and calibration.keys is not None
    for name, array in calibration.keys.arrays().items():
        assert np.array_equal(loaded.arrays()[name], array)
    options = ConvertConfig(spikes=None, price=0.0)
    with pytest.raises(ConversionError, match="did not look at keys, and this model has key biases; calibrate again"):
        convert(checkpoint, options, windows, calibration=replace(calibration, keys=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key_mean": None}, "tensor key_mean is missing, expected float64"),
        ({"key_mean": np.zeros((4, 2, 3))}, r"tensor key_mean is float64 \(4, 2, 3\), expected float64 \(4, 2, 16\)"),
        ({"key_mean": np.full((4, 2, 16), np.nan)}, "tensor key_mean is float64 .* with magnitudes up to"),
        ({"key_square": None}, "tensor key_square is missing"),
        ({"key_square": np.full((4, 2, 16), -1.0)}, "tensor key_square holds -1"),
        ({"key_query_square": np.zeros((4, 3))}, r"tensor key_query_square is float64 \(4, 3\)"),
    ],
)
def test_damaged_statistics_are_refused(change: dict[str, np.ndarray | None], message: str, tmp_path: Path) -> None:
    calibrate_checkpoint(load_checkpoint("nano"), [[5, 60, 0, 17]]).save(tmp_path / "calibration")
    metadata, arrays = load_artefact(tmp_path / "calibration", format_name=FORMAT, version=VERSION)
    for key in ("format", "version", "files", "content_hash"):
        del metadata[key]
    for name, array in change.items():
        arrays.pop(name)
        if array is not None:
            arrays[name] = array
    save_artefact(tmp_path / "calibration", format_name=FORMAT, version=VERSION, metadata=metadata, arrays=arrays)
    with pytest.raises(ArtefactError, match=message + ".*; calibrate again"):
        Calibration.load(tmp_path / "calibration")


def test_what_of_a_turning_vector_an_offset_leaves() -> None:
    """Distance from the mean of the unit vector over the positions, by its definition; a fast pair keeps all of it."""
    share = turning_share(CONFIG, FREQUENCIES)
    turned = [np.exp(1j * 0.004 * position) for position in range(64)]
    assert share[1] == pytest.approx(max(abs(each - np.mean(turned)) for each in turned), rel=1e-12)
    assert share[0] == 1.0 and share[2] == 0.0
