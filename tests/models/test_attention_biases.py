"""Biases of keys and values that attention does not need, of families that have them: gone, and the predictions are transformers'."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from family_models import family_model, saved

from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.models.checkpoint import load_checkpoint

IDS = torch.randint(0, 261, (2, 23), generator=torch.Generator().manual_seed(1))


def key_biases(model: torch.nn.Module, sizes: torch.Tensor) -> None:
    """Adds to the key biases of every layer of a GPT-2, OPT, NeoX or Qwen2 model `sizes` of their elements [head_dim]."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            heads = parameter.shape[0] // len(sizes)
            if name.endswith("c_attn.bias"):
                parameter.view(3, -1)[1] += sizes.repeat(heads // 3)
            elif name.endswith("query_key_value.bias"):
                parameter.view(-1, 3, len(sizes))[:, 1] += sizes
            elif name.endswith("k_proj.bias"):
                parameter += sizes.repeat(heads)


@pytest.mark.parametrize("name", ["gpt2", "opt", "gptneox", "qwen2"])
@torch.no_grad()
def test_predictions_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model = family_model(name)
    for parameter in (parameter for key, parameter in model.named_parameters() if key.endswith("bias")):
        parameter.normal_(0.0, 0.5)
    folder = saved(model, tmp_path / name)
    tensors = load_checkpoint(folder).canonical.tensors
    assert not any(key.endswith("v_proj.bias") for key in tensors)
    assert any(key.endswith("o_proj.bias") for key in tensors)
    torch.testing.assert_close(FloatDecoder(load_checkpoint(folder).canonical)(IDS), model(IDS).logits, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["gpt2", "opt", "gptneox"])
@torch.no_grad()
def test_key_biases_of_pairs_without_rotation_are_idle(name: str, tmp_path: Path) -> None:
    """transformers predicts the same with them, and the canonical decoder has none in those elements."""
    model = family_model(name)
    before = load_checkpoint(saved(model, tmp_path / "before")).canonical
    config = before.config
    still = (before.tensors["rotary.frequencies"] == 0).repeat(2)
    assert bool(still.any())
    sizes = torch.zeros(config.head_dim)
    rotated = int((~still).sum())  # in the family's own order the rotated elements come first
    sizes[rotated:] = torch.linspace(-3.0, 3.0, config.head_dim - rotated)
    expected = model.double()(IDS).logits
    key_biases(model, sizes)
    torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-5, atol=1e-5)
    after = load_checkpoint(saved(model.float(), tmp_path / "after")).canonical
    for layer in range(config.layers):
        key = f"model.layers.{layer}.self_attn.k_proj.bias"
        bias = after.tensors.get(key, torch.zeros(config.kv_heads * config.head_dim)).view(-1, config.head_dim)
        assert not bias[:, still].any()
        torch.testing.assert_close(bias, before.tensors.get(key, torch.zeros_like(bias)).view_as(bias))


@torch.no_grad()
def test_biases_of_rotated_or_capped_keys_stay(tmp_path: Path) -> None:
    qwen = load_checkpoint(saved(family_model("qwen2"), tmp_path / "qwen2"))
    for layer in range(qwen.config.layers):
        key = f"model.layers.{layer}.self_attn.k_proj.bias"
        assert torch.equal(qwen.canonical.tensors[key], qwen.tensors[key])
    plain = load_checkpoint("nano")
    assert all(torch.equal(tensor, plain.tensors[name]) for name, tensor in plain.canonical.tensors.items() if name in plain.tensors)
