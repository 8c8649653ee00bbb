"""Calibration: sensitivities against finite differences, ranges, and the folder it is kept in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuromorphic_llm.artefact import METADATA, TENSORS, load_artefact, save_artefact
from neuromorphic_llm.conversion.allocation.prices import Allocation
from neuromorphic_llm.conversion.calibrate import FORMAT, VERSION, Calibration, calibrate
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.conversion.text import WINDOW_TOKENS, calibration_windows, default_text, fitting_windows
from neuromorphic_llm.errors import ArtefactError, ConversionError
from neuromorphic_llm.models.canonical import CanonicalDecoder, canonical_shapes, rotary_frequencies
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.reference.config import DecoderConfig

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
    for site in range(4, len(config.sites)):
        expected = fisher(decoder, site, config.sites[site].shape[0], seed=5)
        np.testing.assert_allclose(calibration.sensitivity[site], expected, rtol=1e-5, atol=1e-9)
    assert calibration.tokens == 7 and len(calibration.sensitivity) == len(config.sites)


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
        elif name != "keys":  # test_key_offsets.py
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


@pytest.mark.parametrize("config", [SMALL, VARIANTS], ids=["llama", "variants"])
@pytest.mark.parametrize("silent", ["mlp", "self_attn", "mlp.down", "lm_head", ""])
def test_what_pruned_decoders_give_is_loaded(config: DecoderConfig, silent: str, tmp_path: Path) -> None:
    """Zeros that calibrate() itself finds are no damage."""
    decoder = decoder_of(config)
    for name, tensor in decoder.weights.items():
        if silent in name and tensor.ndim == 2 and "rotary" not in name:
            tensor.zero_()
    calibration = calibrate(decoder, WINDOWS, checkpoint_hash="h")
    calibration.save(tmp_path / "calibration")
    Calibration.load(tmp_path / "calibration").check_checkpoint(config, "h")


def damaged(calibration: Calibration, folder: Path, scalars: dict[str, Any], arrays: dict[str, Any]) -> Path:
    """The calibration with other fields and tensors (ABSENT: without them), under a valid hash."""
    calibration.save(folder)
    metadata, tensors = load_artefact(folder, format_name=FORMAT, version=VERSION)
    kept = {name: value for name, value in metadata.items() if name not in ("format", "version", "files", "content_hash")}
    fields = {name: value for name, value in {**kept, **scalars}.items() if value is not ABSENT}
    changed = {name: change(tensors.get(name)) if callable(change) else change for name, change in arrays.items()}
    tensors = {name: value for name, value in {**tensors, **changed}.items() if value is not ABSENT}
    save_artefact(folder, format_name=FORMAT, version=VERSION, metadata=fields, arrays=tensors)
    return folder


ABSENT = object()
SCALARS: list[tuple[str, Any, str]] = [
    *((name, "9", f"field '{name}' is '9', not a number") for name in ("residual_max", "qkv_max", "projection_max")),
    ("logit_max", None, "field 'logit_max' is None, not a number"),
    ("gate_max", True, "field 'gate_max' is True"),
    ("attention_max", -3.0, r"field 'attention_max' is -3\.0"),
    ("residual_max", 1e300, "field 'residual_max' is 1e"),
    ("residual_max", ABSENT, "field 'residual_max' is missing"),
    ("gate_max", 0, "gate_max is 0, and hidden_max, which follows from it, is not"),
    ("residual_max", 0.0, "residual_max is 0"),
    ("logit_max", 0.0, "logit_max is 0"),
    ("qkv_max", 0.0, "'qkv_max' is 0, below"),
    ("tokens", "x", "field 'tokens' is 'x', not a positive integer"),
    ("tokens", 0, "field 'tokens' is 0"),
    ("tokens", ABSENT, "field 'tokens' is missing"),
    ("checkpoint_hash", 5, "field 'checkpoint_hash' is 5, not a text"),
    ("allocations", [], r"field 'allocations' is \[\], not an object"),
    ("allocations", {"greedy": 5}, "allocation 'greedy' of the calibration is 5"),
    ("allocations", {"greedy": {}}, "allocation 'greedy' of the calibration lacks 'asked'"),
]


@pytest.mark.parametrize(("name", "value", "message"), SCALARS)
def test_damaged_fields(calibration: Calibration, tmp_path: Path, name: str, value: Any, message: str) -> None:
    folder = damaged(calibration, tmp_path / "calibration", {name: value}, {})
    with pytest.raises(ArtefactError, match=f"^{folder}: .*{message}.*; (calibrate|search it) again$"):
        Calibration.load(folder)


ARRAYS: list[tuple[str, Any, str]] = [
    ("sensitivity.0", lambda x: x * np.nan, r"tensor sensitivity\.0 holds nan"),
    ("sensitivity.0", lambda x: x + np.inf, r"tensor sensitivity\.0 holds inf"),
    ("sensitivity.0", lambda x: -x, r"tensor sensitivity\.0 holds -"),
    ("sensitivity.0", lambda x: x[:5], r"tensor sensitivity\.0 is \(5,\), expected"),
    ("sensitivity.1", lambda x: x[:-1], r"tensor sensitivity\.1 is"),
    ("sensitivity.7", lambda x: x[:-1], r"tensor sensitivity\.7 is"),
    ("sensitivity.0", lambda x: x[None], r"tensor sensitivity\.0 is float64 \(1, "),
    ("sensitivity.0", lambda x: np.ones(len(x), np.int8), r"tensor sensitivity\.0 is int8"),
    ("sensitivity.1", ABSENT, r"tensor sensitivity\.1 is missing"),
    ("sensitivity.99", lambda _: np.ones(3), r"tensor sensitivity\.\d+ is missing"),
    ("query_sensitivity", ABSENT, "tensor query_sensitivity is missing"),
    ("query_sensitivity", lambda x: x[:, :1], "tensor"),
    ("query_sensitivity", lambda x: x[..., :-1], "tensor"),
    ("query_sensitivity", lambda x: x[0], "tensor query_sensitivity is"),
    ("query_sensitivity", lambda x: x[:, :0], "tensor query_sensitivity is"),
    ("query_sensitivity", lambda x: x.astype(np.float32), "tensor query_sensitivity is float32"),
    ("query_sensitivity", lambda x: x * np.nan, "tensor query_sensitivity holds nan"),
    ("hidden_max", ABSENT, "tensor hidden_max is missing"),
    ("hidden_max", lambda x: x[:-1], "tensor"),
    ("hidden_max", lambda x: x[None], "tensor hidden_max is"),
    ("hidden_max", lambda x: x * np.nan, "tensor hidden_max holds nan"),
    ("value_max", ABSENT, "tensor value_max is missing"),
    ("value_max", lambda x: -x, "tensor value_max holds -"),
    ("value_max", lambda x: x * 0, "value_max is 0, and attention_max"),
    ("value_max", lambda x: x * 100, "'qkv_max' is .*, below"),
    ("value_max", lambda x: x[:1], "tensor value_max is"),
    ("value_max", lambda x: np.repeat(x, 5, 1), "tensor value_max has"),
]


@pytest.mark.parametrize(("name", "change", "message"), ARRAYS)
def test_damaged_tensors(calibration: Calibration, tmp_path: Path, name: str, change: Any, message: str) -> None:
    folder = damaged(calibration, tmp_path / "calibration", {}, {name: change})
    with pytest.raises(ArtefactError, match=f"^{folder}: .*{message}.*; calibrate again$"):
        Calibration.load(folder)


@pytest.mark.parametrize(
    ("scalars", "arrays", "message"),
    [
        ({"start_price": "x"}, {}, "has the start_price 'x'"),
        ({"start_price": 0.0}, {}, r"has the start_price 0\.0"),
        ({"history": [1]}, {}, "has an 'asked' or 'history' that is not of objects"),
        ({"asked": None}, {}, "has an 'asked' or 'history' that is not of objects"),
        ({}, {"costs": lambda x: x.astype(np.float32)}, "has costs that are not positive float64"),
        ({}, {"costs": lambda x: x * np.inf}, "has costs that are not positive float64"),
        ({}, {"sensitivity.2": lambda x: x * np.nan}, r"tensor allocation\.greedy\.sensitivity\.2 holds nan"),
        ({}, {"sensitivity.2": lambda x: x[:3]}, r"tensor allocation\.greedy\.sensitivity\.2 is float64 \(3,\)"),
        ({}, {"sensitivity.2": ABSENT}, r"lacks 'allocation\.greedy\.sensitivity\.2'"),
    ],
)
def test_damaged_allocations(
    calibration: Calibration, tmp_path: Path, scalars: dict[str, Any], arrays: dict[str, Any], message: str
) -> None:
    found = Allocation("greedy", np.ones(len(calibration.sensitivity)), calibration.sensitivity, ({"site": 1},), {"spikes": 1.5})
    kept = replace(calibration, allocations={"greedy": found})
    kept.save(tmp_path / "kept")
    assert Calibration.load(tmp_path / "kept").allocations["greedy"].asked == {"spikes": 1.5}
    described = {"asked": {"spikes": 1.5}, "history": [], "start_price": 1e-9, **scalars}
    changes = {f"allocation.greedy.{name}": change for name, change in arrays.items()}
    folder = damaged(kept, tmp_path / "calibration", {"allocations": {"greedy": described}}, changes)
    with pytest.raises(ArtefactError, match=f"^{folder}: .*{message}.*; (calibrate|search it) again$"):
        Calibration.load(folder)


def test_sensitivities_that_are_all_zero(calibration: Calibration, tmp_path: Path) -> None:
    replace(calibration, sensitivity=tuple(0 * array for array in calibration.sensitivity)).save(tmp_path / "calibration")
    with pytest.raises(ArtefactError, match="sensitivity is 0, and query_sensitivity, which follows from it, is not; calibrate again"):
        Calibration.load(tmp_path / "calibration")


def test_numbers_without_a_point_and_no_projections(calibration: Calibration, tmp_path: Path) -> None:
    loaded = Calibration.load(damaged(calibration, tmp_path / "calibration", {"logit_max": 40, "projection_max": ABSENT}, {}))
    assert type(loaded.logit_max) is float and loaded.logit_max == 40.0 and loaded.projection_max == 0.0


def test_shapes_of_another_checkpoint(tiny: Checkpoint, calibration: Calibration) -> None:
    config = tiny.canonical.config
    calibration.check_checkpoint(config, tiny.content_hash)
    with pytest.raises(ConversionError, match="made for another checkpoint"):
        calibration.check_checkpoint(config, "0" * 64)
    fewer = replace(calibration, value_max=np.repeat(calibration.value_max, 2, 1), sensitivity=calibration.sensitivity[:-1])
    for other, message in (
        (replace(fewer, sensitivity=calibration.sensitivity), "tensor value_max of the calibration is"),
        (fewer, rf"tensor sensitivity\.{config.head.index} of the calibration is missing"),
        (replace(calibration, sensitivity=(*calibration.sensitivity, np.ones(3))), r"is \(3,\), expected none"),
        (replace(calibration, query_sensitivity=calibration.query_sensitivity[:, :, :2]), "tensor query_sensitivity of the calibration"),
    ):
        with pytest.raises(ConversionError, match=message):
            other.check_checkpoint(config, tiny.content_hash)
