"""Quantised baselines, cosine per layer, energy meter, device names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from family_models import family_model

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation.cosine import cosine_per_layer
from neuromorphic_llm.evaluation.energy_meter import EnergyMeter
from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.evaluation.quantisers import everywhere, integer_activations, largest_activations, quantised
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder

IDS = torch.arange(24).view(2, 12)


def test_integer_activations_by_hand() -> None:
    x = torch.tensor([[0.0, -7.0, 3.4, 0.6], [0.0, 0.0, 0.0, 0.0]])
    assert integer_activations(4)(x).tolist() == [[0.0, -7.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0]]


def test_largest_activations_by_hand() -> None:
    assert largest_activations(0.5)(torch.tensor([[1.0, -4.0, 3.0, 0.5]])).tolist() == [[0.0, -4.0, 3.0, 0.0]]


def test_bad_quantisers() -> None:
    with pytest.raises(UsageError, match="bits"):
        integer_activations(1)
    with pytest.raises(UsageError, match="share"):
        largest_activations(0.0)


def test_quantised_is_undone_and_keeps_the_tied_embedding(dense: DenseModel) -> None:
    before = dense.logits(IDS)
    embedding = dense.model.model.embed_tokens.weight.clone()
    with quantised(dense.model, everywhere(integer_activations(8))):
        inside = dense.logits(IDS)
        assert torch.equal(dense.model.model.embed_tokens.weight, embedding)
    assert torch.equal(dense.logits(IDS), before)
    error = (inside - before).norm() / before.norm()
    assert 0 < error < 0.1


def test_linear_layers_of_gpt2_are_quantised() -> None:
    model = family_model("gpt2")
    projection = model.transformer.h[0].attn.c_attn
    expected = projection.weight.detach().clone()
    scale = expected.abs().amax(0) / 127  # per output: [inputs, outputs]
    inputs: list[torch.Tensor] = []
    with quantised(model, everywhere(integer_activations(4))):
        torch.testing.assert_close(projection.weight, (expected / scale).round() * scale)
        handle = projection.register_forward_hook(lambda _module, given, _output: inputs.append(given[0]))
        model(IDS)
        handle.remove()
    assert max(len(row.unique()) for row in inputs[0].flatten(0, 1)) <= 15
    assert torch.equal(projection.weight, expected)


def test_cosine_has_a_value_per_layer(dense: DenseModel, spiking: SpikingModel) -> None:
    values = cosine_per_layer(dense, spiking, IDS)
    assert len(values) == 2 and all(-1 <= value <= 1 for value in values)


def test_cosine_refuses_other_shapes(dense: DenseModel) -> None:
    with pytest.raises(DataError, match="different shapes"):
        cosine_per_layer(dense, SpikingModel(FunctionalDecoder(random_decoder(0))), IDS)


def test_rapl_counter_and_its_overflow(tmp_path: Path) -> None:
    (tmp_path / "max_energy_range_uj").write_text("10000000\n")
    (tmp_path / "energy_uj").write_text("9000000\n")
    with EnergyMeter(torch.device("cpu"), tmp_path) as meter:
        (tmp_path / "energy_uj").write_text("2000000\n")
    assert meter.joules == pytest.approx(3.0) and meter.reason is None


def test_no_counter_gives_a_reason(tmp_path: Path) -> None:
    with EnergyMeter(torch.device("cpu"), tmp_path) as meter:
        pass
    assert meter.joules is None and "not measurable here" in str(meter.reason)


def test_devices() -> None:
    assert checked_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="cpu or cuda"):
        checked_device("tpu")
