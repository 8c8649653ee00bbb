"""Fine-tuning on spikes: the emulation is the code, its gradients point down, runs can be cut and go on, damage is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.convert.convert import convert
from neuromorphic_llm.convert.emulation import EmulatedDecoder, Prices, coded, rounded_rows, signed_digits
from neuromorphic_llm.convert.fine_tune import FineTuneConfig, FineTuner, distillation_loss
from neuromorphic_llm.convert.own_text import own_text
from neuromorphic_llm.convert.text import calibration_windows
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.spikes.registry import get_code

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
RECIPE = FineTuneConfig(spikes=1.0, tokens=8 * 4 * 32, batch=4, window=32, learning_rate=1e-3, warmup=2, save_every=3)


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    return load_checkpoint("nano")


@pytest.fixture(scope="module")
def windows(nano: Checkpoint) -> torch.Tensor:
    ids = calibration_windows(nano.tokenizer(), count=4)
    return torch.tensor(ids).view(-1, RECIPE.window)


def tuner(checkpoint: Checkpoint, folder: Path, recipe: FineTuneConfig = RECIPE) -> FineTuner:
    network = convert(checkpoint, ConvertConfig(spikes=recipe.spikes), calibration_windows(checkpoint.tokenizer(), count=2))
    code = network.weights.code
    decoder = EmulatedDecoder(checkpoint.config, checkpoint.tensors, Prices.of(network.weights), code.phases, code.query_phases)
    return FineTuner(checkpoint, decoder, network.provenance["price"], recipe, CPU, folder)


def test_the_emulated_code_is_the_code() -> None:
    generator = np.random.default_rng(0)
    x = np.rint(generator.laplace(0, 2000, (50, 33))).astype(np.int64)
    stop = np.rint(generator.lognormal(0, 2, 33) * 1e4).astype(np.int64)
    train = get_code("signed-digit").encode(x, stop)
    result, spikes = signed_digits(torch.from_numpy(x).double(), torch.from_numpy(stop).double(), 14)
    # The chip floors R / w; it matters where 2 |v| - w lies between.
    expected = get_code("signed-digit").decode(train)
    same = (result.numpy() == expected).mean()
    assert same > 0.999 and abs(float(spikes) / np.count_nonzero(train.digits) - 1) < 1e-3


def test_emulation_against_the_integer_network(nano: Checkpoint) -> None:
    windows = calibration_windows(nano.tokenizer(), count=2)
    network = convert(nano, ConvertConfig(spikes=3.0), windows)
    decoder = EmulatedDecoder(nano.config, nano.tensors, Prices.of(network.weights), 14, 10)
    ids = torch.tensor([windows[0][:128]])
    with torch.no_grad():
        hidden, spikes = decoder(ids)
    integers = FunctionalDecoder(network.weights, "cpu")
    exact = (integers.forward(ids)[0].double() * 2.0**-network.weights.formats.logit).log_softmax(-1)
    ours = functional.linear(hidden, rounded_rows(decoder.head).detach())[0].double().log_softmax(-1)
    assert abs(float(spikes) / integers.statistics.spikes_per_activation() - 1) < 0.01
    assert float((exact.exp() * (exact - ours)).sum(-1).mean()) < 0.01


def test_gradients_of_prices_point_to_fewer_spikes_and_less_error() -> None:
    x = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    for sign in (-1.0, 1.0):
        log_price = torch.full((16,), -5.0, requires_grad=True)
        result, spikes = coded(x, log_price, 14)
        (sign * spikes + 1e4 * (1 - sign) * (result - x).square().sum()).backward()
        assert log_price.grad is not None
        moved = (log_price - 0.3 * log_price.grad.sign()).detach()
        after, fewer = signed_digits(x, moved.exp(), 14)
        if sign > 0:
            assert fewer < spikes
        else:
            assert (after - x).square().sum() < (result - x).square().sum()


def test_loss_is_the_divergence_with_its_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(6, 5, 8, generator=generator, requires_grad=True)
    target, head, dense = (
        torch.randn(6, 5, 8, generator=generator),
        torch.randn(11, 8, generator=generator),
        torch.randn(11, 8, generator=generator),
    )
    head.requires_grad_(True)
    dense_log, spiking_log = (target @ dense.T).log_softmax(-1), (hidden @ head.T).log_softmax(-1)
    whole = functional.kl_div(spiking_log, dense_log, log_target=True, reduction="sum") / 30
    whole.backward()
    loss, hidden_gradient, head_gradient = distillation_loss(hidden, target, head, dense)
    assert loss == pytest.approx(float(whole.detach()), rel=1e-5)
    assert torch.allclose(hidden_gradient, hidden.grad, atol=1e-6) and torch.allclose(head_gradient, head.grad, atol=1e-5)


def test_training_lowers_the_loss_and_holds_the_spikes(nano: Checkpoint, windows: torch.Tensor, tmp_path: Path) -> None:
    recipe = replace(RECIPE, tokens=40 * 8 * 32, batch=8, learning_rate=2e-3)
    figures = list(tuner(nano, tmp_path / "state", recipe).run(windows))
    assert len(figures) == recipe.steps == 40
    assert np.mean([f.loss for f in figures[-8:]]) < 0.8 * np.mean([f.loss for f in figures[:4]])
    assert np.mean([f.spikes for f in figures[-8:]]) == pytest.approx(1.0, abs=0.05)


def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(nano: Checkpoint, windows: torch.Tensor, tmp_path: Path) -> None:
    whole = tuner(nano, tmp_path / "whole")
    expected = list(whole.run(windows))
    first = tuner(nano, tmp_path / "cut")
    seen = []
    for figures in first.run(windows):
        seen.append(figures)
        if figures.step == 5:
            break
    second = tuner(nano, tmp_path / "cut")
    assert second.load() and second.step == 3  # the last state written
    assert [*seen[:3], *second.run(windows)] == expected
    for name, tensor in whole.decoder.tensors().items():
        assert torch.equal(tensor, second.decoder.tensors()[name])


def test_states_that_do_not_fit_are_refused(nano: Checkpoint, windows: torch.Tensor, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert not tuner(nano, folder).load()
    tuner(nano, folder).save()
    with pytest.raises(ConversionError, match="another learning_rate; give the same"):
        tuner(nano, folder, replace(RECIPE, learning_rate=1e-4)).load()
    (folder / "state.safetensors").write_bytes((folder / "state.safetensors").read_bytes()[:1000])
    with pytest.raises(ConversionError, match="is damaged"):
        tuner(nano, folder).load()


def test_gradients_that_are_not_finite_end_the_run_without_harm(nano: Checkpoint, windows: torch.Tensor, tmp_path: Path) -> None:
    broken = tuner(nano, tmp_path / "state", replace(RECIPE, tokens=100 * 4 * 32))
    broken.teacher.lm_head.weight.mul_(float("nan"))
    before = broken.decoder.tensors()
    with pytest.raises(ConversionError, match="no finite gradient"):
        list(broken.run(windows))
    assert all(torch.equal(tensor, before[name]) for name, tensor in broken.decoder.tensors().items())


def test_own_text_follows_the_dense_model(nano: Checkpoint) -> None:
    starts = calibration_windows(nano.tokenizer(), count=2)
    text = own_text(nano, starts, 100, length=16, batch=8, device=CPU, seed=0)
    assert text.shape == (8, 16) and torch.equal(text, own_text(nano, starts, 100, length=16, batch=8, device=CPU, seed=0))
    assert {tuple(row[:4].tolist()) for row in text} <= {tuple(start[:4]) for start in starts}
    likely = nano.dense_model()(text).logits.log_softmax(-1)[:, 3:-1].gather(-1, text[:, 4:, None]).mean()
    shuffled = text[:, 4:].flip(1)
    assert likely > nano.dense_model()(text).logits.log_softmax(-1)[:, 3:-1].gather(-1, shuffled[..., None]).mean() + 1


@pytest.mark.parametrize(("field", "value"), [("spikes", 0.0), ("tokens", 0), ("price_rate", 1.0), ("learning_rate", -1.0), ("batch", 0)])
def test_recipes_that_make_no_sense(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        replace(RECIPE, **{field: value})
