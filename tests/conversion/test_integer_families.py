"""Every family in integers beside its float decoder: how much the arithmetic costs, without a spike budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from family_models import SETTINGS, family_model, saved

from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert, search_allocation
from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.conversion.integers import integer_decoder
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.generation.choice import log_probabilities
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import Operations
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.spikes.registry import get_code

WINDOWS = torch.randint(0, 256, (2, 32), generator=torch.Generator().manual_seed(0))


def converted(canonical: CanonicalDecoder, calibration: Calibration) -> DecoderWeights:
    return integer_decoder(canonical.config, canonical.tensors, calibration, ConvertConfig(), get_code("signed-digit"))


@pytest.fixture(scope="module", params=SETTINGS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CanonicalDecoder, Calibration]:
    """Canonical decoder and calibration of a small random model."""
    checkpoint = load_checkpoint(saved(family_model(request.param), tmp_path_factory.mktemp("families") / request.param))
    return checkpoint.canonical, calibrate_checkpoint(checkpoint, WINDOWS.tolist())


def test_divergence_and_ranges(family: tuple[CanonicalDecoder, Calibration]) -> None:
    canonical, calibration = family
    weights = converted(canonical, calibration)
    decoder = FunctionalDecoder(weights, operations=Operations())
    largest = 0

    def watch(_: int, x: torch.Tensor, __: object) -> None:
        nonlocal largest
        largest = max(largest, int(x.long().abs().max()))

    decoder.observer = watch
    logits = decoder.forward(WINDOWS)
    assert isinstance(logits, torch.Tensor)
    ours = torch.stack([log_probabilities(decoder.weights, rows) for rows in logits])
    expected = FloatDecoder(canonical, dtype=torch.float64)(WINDOWS).log_softmax(-1)
    divergence = float((expected.exp() * (expected - ours)).sum(-1).mean())
    assert 0.0 < divergence < 2e-3  # nats per token; the predictions have an entropy of about 4.8
    assert largest < 1 << 29


def test_biases_are_scaled_like_their_rows(family: tuple[CanonicalDecoder, Calibration]) -> None:
    canonical, calibration = family
    weights, config, tensors = converted(canonical, calibration), canonical.config, canonical.tensors
    bias = weights.layers[1].qkv.bias
    names = [f"model.layers.1.self_attn.{part}_proj.bias" for part in "qkv"]
    assert (bias is None) == (not any(name in tensors for name in names))
    if bias is not None and all(name in tensors for name in names):
        scale = np.ones(len(bias))
        if not config.query_key_norm:
            scale[: config.heads * config.head_dim] = config.query_scale / np.log(2.0)
        real = torch.cat([tensors[name] for name in names]).double().numpy() * scale
        assert np.abs(bias * 2.0**-weights.formats.qkv - real).max() <= 2.0 ** -(weights.formats.qkv + 1)


def test_windows_longer_than_the_context_are_cut(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(saved(family_model("gpt2", n_layer=1), tmp_path / "gpt2"))
    window = torch.arange(checkpoint.config.max_positions + 40) % 256
    options = ConvertConfig(spikes=1.5, allocation="knunyants")
    calibration = search_allocation(checkpoint, options, [window.tolist()], calibrate_checkpoint(checkpoint, [window.tolist()]))
    network = convert(checkpoint, options, [window.tolist()], calibration=calibration)
    assert calibration.tokens == len(window)
    assert network.provenance["spikes_per_activation"] == pytest.approx(1.5, rel=0.02)


def test_biases_and_rotary_scales_that_do_not_fit(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(saved(family_model("llama"), tmp_path / "llama"))
    canonical, calibration = checkpoint.canonical, calibrate_checkpoint(checkpoint, WINDOWS.tolist())
    bias = torch.full_like(canonical.tensors["model.layers.1.mlp.down_proj.bias"], 1e6)
    with pytest.raises(ConversionError, match=r"layers\.1\.down: a bias of 1e\+06 does not fit 32 bits"):
        converted(CanonicalDecoder(canonical.config, {**canonical.tensors, "model.layers.1.mlp.down_proj.bias": bias}), calibration)
    scale = torch.tensor(2.5, dtype=torch.float64)
    with pytest.raises(ConversionError, match=r"scale of rotary tables must be positive and at most 1\.999, got 2\.5"):
        converted(CanonicalDecoder(canonical.config, {**canonical.tensors, "rotary.scale": scale}), calibration)
