"""Balanced INT8: exact before rounding, better than the largest magnitude where channels are outliers, and undone afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from family_models import family_model
from torch import nn

from neuromorphic_llm.evaluation import balancing
from neuromorphic_llm.evaluation.balancing import CLIPS, balanced, channel_scales, clipped_weight, observe, row_weight
from neuromorphic_llm.evaluation.quantisers import eight_bit_weight, everywhere, integer_activations, quantised
from neuromorphic_llm.evaluation.scored_model import DenseModel

WINDOWS = [list(range(5, 37)), list(range(60, 92))]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "opt"])
def test_layers_with_the_same_input_share_it(name: str) -> None:
    model = family_model(name)
    layers = {module: path for path, module in model.named_modules() if row_weight_of(module)}
    groups = observe(model, list(layers), WINDOWS)
    names = [sorted(layers[layer].rsplit(".", 1)[-1] for layer in group.layers) for group in groups]
    assert sorted(layers.values()) == sorted(layers[layer] for group in groups for layer in group.layers)
    if name != "gpt2":
        assert names.count(["k_proj", "q_proj", "v_proj"]) == 3
    if name in ("llama", "gemma3"):
        assert names.count(["gate_proj", "up_proj"]) == 3


def row_weight_of(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def test_maxima_and_samples_are_those_of_a_hook(dense: DenseModel) -> None:
    layer = dense.model.model.layers[1].mlp.down_proj
    given: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0][0]))
    for window in WINDOWS:
        dense.logits(torch.tensor([window]))
    handle.remove()
    (group,) = observe(dense.model, [layer], WINDOWS)
    assert torch.allclose(group.largest, torch.cat(given).abs().amax(0)) and torch.allclose(torch.cat(group.sample), torch.cat(given))


def test_clipping_never_has_a_larger_error_than_the_largest_magnitude() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 96, generator=generator) * (1 + 30 * (torch.rand(40, 96, generator=generator) > 0.99))
    for bits in (4, 8):
        levels = 2 ** (bits - 1) - 1
        own = np.square((clipped_weight(weight, bits) - weight).numpy()).sum(1)
        errors = []
        for clip in CLIPS:
            scale = np.abs(weight.numpy()).max(1, keepdims=True) * clip / levels
            errors.append(np.square(np.clip(np.round(weight.numpy() / scale), -levels, levels) * scale - weight.numpy()).sum(1))
        np.testing.assert_allclose(own, np.min(errors, axis=0), rtol=1e-4)
    assert torch.equal(clipped_weight(torch.zeros(2, 3), 8), torch.zeros(2, 3))
    assert float((clipped_weight(weight, 8) - weight).norm()) <= float((eight_bit_weight(weight) - weight).norm())


def test_outlier_channels_are_balanced() -> None:
    """One input channel a hundred times as large: without balancing the others get few of the levels."""
    generator = torch.Generator().manual_seed(1)
    layer = nn.Linear(64, 32, bias=False)
    x = torch.randn(256, 64, generator=generator) * torch.where(torch.arange(64) == 7, 100.0, 1.0)
    weight = row_weight(layer)
    group = balancing.SharedInput([layer], x.abs().amax(0), [x])
    divisor = channel_scales(group, 8)
    assert float(divisor[7]) > 3 * float(divisor.median())
    exact = x @ weight.T

    def error(divisor: torch.Tensor) -> float:
        rounded = integer_activations(8)(x / divisor) @ eight_bit_weight(weight * divisor).T
        return float((rounded - exact).square().mean())

    assert error(divisor) < 0.3 * error(torch.ones(64))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_without_rounding_nothing_changes_and_everything_is_undone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model(name)
    ids = torch.arange(24).view(2, 12)
    before = model(ids).logits
    with balanced(model, WINDOWS, 8):
        inside = model(ids).logits
    assert torch.equal(model(ids).logits, before) and 0 < float((inside - before).norm() / before.norm()) < 0.1
    monkeypatch.setattr(balancing, "clipped_weight", lambda weight, _bits: weight)
    monkeypatch.setattr(balancing, "integer_activations", lambda _bits: lambda x: x)
    with balanced(model, WINDOWS, 8):
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-3, atol=1e-3)


def test_it_is_better_than_the_largest_magnitude_on_a_model_with_outliers() -> None:
    model = family_model("llama")
    for layer in model.model.layers:
        layer.input_layernorm.weight[3] *= 60
        layer.post_attention_layernorm.weight[5] *= 60
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            projection.weight[:, 3] /= 60
        for projection in (layer.mlp.gate_proj, layer.mlp.up_proj):
            projection.weight[:, 5] /= 60
    ids = torch.tensor([WINDOWS[0]])
    exact = model(ids).logits
    with quantised(model, everywhere(integer_activations(8))):
        plain = float((model(ids).logits - exact).norm())
    with balanced(model, WINDOWS, 8):
        assert float((model(ids).logits - exact).norm()) < 0.6 * plain
