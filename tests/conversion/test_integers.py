"""Floating-point weights into integers: rounding, fractions and what does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.integers import formats_for, fraction_for, integer_decoder, linear_weights, quantise_rows
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.spikes.registry import get_code


def ranges(**largest: float) -> Calibration:
    """A calibration of ordinary ranges, or those given."""
    ordinary: dict[str, Any] = dict.fromkeys(("residual_max", "qkv_max", "attention_max", "gate_max", "logit_max"), 10.0)
    return Calibration("", 1, (), np.zeros(0), hidden_max=np.ones(1), value_max=np.ones((1, 1)), **{**ordinary, **largest})


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_weights_are_within_half_a_step(seed: int, size: float) -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) * size
    weight[2] = 0
    integers, scale = quantise_rows(weight)
    error = np.abs(integers * scale[:, None] - weight.double().numpy())
    assert (error <= scale[:, None] * (0.5 + 1e-9)).all()
    assert np.abs(integers).max(axis=1).tolist() == [127, 127, 0, 127, 127]


@settings(max_examples=50)
@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6),
    st.floats(0.01, 10.0),
    st.integers(4, 16),
    st.integers(4, 16),
)
def test_multipliers(rows: list[float], row_scale: float, f_in: int, f_out: int) -> None:
    weight = torch.tensor(rows, dtype=torch.float64)[:, None].expand(-1, 3)
    site = linear_weights(weight, row_scale, f_in, f_out, largest=12288, name="x", spiking=True)
    real = np.array(rows) / 127 * row_scale * 2.0 ** (f_out - f_in)
    assert 2**15 <= site.multiplier.max() < 2**16
    error = np.abs(site.multiplier * 2.0**-site.shift - real)
    assert (error <= real.max() * 2.0**-16 * (1 + 1e-9)).all()


def test_a_matrix_of_zeros_is_no_special_case() -> None:
    site = linear_weights(torch.zeros(4, 4), 1.0, 12, 14, largest=12288, name="x", spiking=True)
    assert not site.weight.any() and 2**15 <= site.multiplier.max() < 2**16


def test_accumulators_that_could_overflow_are_refused() -> None:
    weight = torch.ones(2, 1400)
    with pytest.raises(ConversionError, match=r"layers\.0\.down: an accumulator could reach .* use fewer phases"):
        linear_weights(weight, 1.0, 12, 14, largest=12288, name="layers.0.down", spiking=True)
    assert linear_weights(weight[:, :1376], 1.0, 12, 14, largest=12288, name="x", spiking=True).weight.min() == 127
    assert linear_weights(weight, 1.0, 12, 14, largest=12288, name="x", spiking=False).weight.min() == 127
    assert linear_weights(weight, 1.0, 12, 14, largest=768, name="x", spiking=True).weight.min() == 127


@given(st.floats(1e-12, 1e9), st.integers(4, 16))
def test_fractions_leave_a_factor_of_four(largest: float, preferred: int) -> None:
    fraction = fraction_for(largest, preferred)
    assert fraction <= preferred
    assert 4 * largest * 2.0**fraction <= 2**31
    assert fraction == preferred or 4 * largest * 2.0 ** (fraction + 1) > 2**30


@given(st.floats(1e-3, 1e4), st.floats(1e-3, 1e4))
def test_embeddings_fit_16_bits(residual: float, embedding: float) -> None:
    formats = formats_for(ranges(residual_max=residual), embedding)
    assert embedding * 2.0 ** (formats.residual - formats.embedding_shift) <= 2**15
    assert 4 * max(residual, embedding) * 2.0**formats.residual <= 2**31


@pytest.mark.parametrize("name", ["residual", "qkv", "attention", "gate", "logit"])
def test_outliers_lower_their_fraction_and_are_refused_in_the_end(name: str) -> None:
    usual, lower = formats_for(ranges(), 1.0), formats_for(ranges(**{f"{name}_max": 100000.0}), 1.0)
    assert getattr(lower, name) == 12 < getattr(usual, name)
    with pytest.raises(ConversionError, match=f"{name} activations of up to 1e\\+09 leave too few fractional bits"):
        formats_for(ranges(**{f"{name}_max": 1e9}), 1.0)


def decoder(checkpoint: Checkpoint, calibration: Calibration) -> Any:
    return integer_decoder(checkpoint.config, checkpoint.canonical.tensors, calibration, ConvertConfig(), get_code("signed-digit"))


def test_outliers_of_the_hidden_vector(tiny: Checkpoint, calibration: Calibration) -> None:
    large = replace(calibration, hidden_max=np.array([1.0, 1e5]))
    assert [layer.hidden_fraction for layer in decoder(tiny, large).layers] == [16, 12]
    with pytest.raises(ConversionError, match=r"layers\.1: inputs of the down projection of up to 1e\+09"):
        decoder(tiny, replace(calibration, hidden_max=np.array([1.0, 1e9])))


def test_gains_beyond_32_bits(tiny: Checkpoint, calibration: Calibration) -> None:
    large = replace(tiny, tensors={**tiny.tensors, "model.norm.weight": torch.full((64,), 2e4)})
    with pytest.raises(ConversionError, match=r"model\.norm\.weight: a gain of 2e\+04 does not fit 32 bits"):
        decoder(large, calibration)


def test_tables_of_a_checkpoint(tiny: Checkpoint, calibration: Calibration) -> None:
    weights, config, formats = decoder(tiny, calibration), tiny.config, formats_for(calibration, 1.0)
    embedding = tiny.tensors["model.embed_tokens.weight"].numpy()
    step = 2.0 ** (weights.formats.embedding_shift - weights.formats.residual)
    assert (np.abs(weights.embedding * step - embedding) <= step / 2 + 1e-12).all()
    assert weights.rope_cos.shape == (config.max_positions, config.head_dim // 2)
    assert weights.head.weight.shape == (288, 64) and formats.gain_fraction == 14
    gain = tiny.tensors["model.norm.weight"].numpy() * 8 * 2**14
    assert np.abs(weights.final_gain - gain).max() <= 0.51
    # Two bits more than the largest value needs: V8 has 7 bits and an exponent of up to 3.
    for layer, largest in zip(weights.layers, calibration.value_max, strict=True):
        assert (127 * 2.0 ** (layer.value_base + 3) >= largest * 2.0**weights.formats.qkv).all()
