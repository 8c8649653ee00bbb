"""Fine-tuning on spikes: the emulation is the code, its gradients point down, runs can be cut and go on, damage is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional

from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.emulation import EmulatedDecoder, EmulationConfig, Prices, product
from neuromorphic_llm.conversion.fine_tune import DistillationLoss, FineTuner, StepFigures
from neuromorphic_llm.conversion.fine_tune_config import OPTIMIZERS, FineTuneConfig
from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.conversion.own_text import DenseWriter, own_text
from neuromorphic_llm.conversion.straight_through import Surrogate
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.conversion.trained_network import meet_spikes, with_prices
from neuromorphic_llm.conversion.training_run import Watch, fine_tune, text_windows
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.spiking import SpikingNetwork

CPU = torch.device("cpu")
RECIPE = FineTuneConfig(spikes=1.0, tokens=8 * 4 * 32, batch=4, window=32, learning_rate=1e-3, warmup=2, save_every=3, evaluate_every=4)


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    return load_checkpoint("nano")


@pytest.fixture(scope="module")
def network(nano: Checkpoint) -> SpikingNetwork:
    return convert(nano, ConvertConfig(spikes=1.0), [window[:256] for window in calibration_windows(nano.tokenizer(), count=2)])


@pytest.fixture(scope="module")
def windows(nano: Checkpoint) -> torch.Tensor:
    ids = calibration_windows(nano.tokenizer(), count=4)
    return torch.tensor(ids).view(-1, RECIPE.window)


def tuner(checkpoint: Checkpoint, network: SpikingNetwork, folder: Path, recipe: FineTuneConfig = RECIPE) -> FineTuner:
    code = network.weights.code
    emulation = EmulationConfig(code.phases, code.query_phases, Surrogate(recipe.masked, recipe.activity))
    decoder = EmulatedDecoder(checkpoint.canonical, Prices.of(network.weights), emulation)
    return FineTuner(checkpoint, decoder, network.provenance["price"] * decoder.weights_total, recipe, CPU, folder)


def test_emulation_against_the_integer_network(nano: Checkpoint, network: SpikingNetwork) -> None:
    ids = torch.tensor([calibration_windows(nano.tokenizer(), count=1)[0][:64]])
    weights = with_prices(network.weights, Prices.of(network.weights), 1e-3)
    decoder = EmulatedDecoder(nano.canonical, Prices.of(weights), EmulationConfig(14, 10))
    with torch.no_grad():
        hidden, spikes = decoder(ids)
        ours = product(hidden, decoder.head)[0].double().log_softmax(-1)
    integers = FunctionalDecoder(weights, "cpu")
    exact = (integers.forward(ids)[0].double() * 2.0**-weights.formats.logit).log_softmax(-1)
    assert abs(float(spikes) / integers.statistics.spikes_per_activation() - 1) < 0.01
    assert float((exact.exp() * (exact - ours)).sum(-1).mean()) < 0.01


@pytest.fixture(scope="module")
def biased(nano: Checkpoint) -> CanonicalDecoder:
    """nano with a bias at every site."""
    generator = torch.Generator().manual_seed(2)
    named = {name.removesuffix("weight") + "bias": len(tensor) for name, tensor in nano.canonical.tensors.items() if "_proj.weight" in name}
    biases = {name: 0.2 * torch.randn(rows, generator=generator) for name, rows in named.items()}
    return CanonicalDecoder(nano.canonical.config, {**nano.canonical.tensors, **biases})


def test_biases(biased: CanonicalDecoder, network: SpikingNetwork) -> None:
    """They are in the emulation, in what it gives back, and in the text that the dense decoder writes."""
    ids = torch.tensor([calibration_windows(load_checkpoint("nano").tokenizer(), count=1)[0][:64]])
    dense = FloatDecoder(biased)(ids)[0].double().log_softmax(-1)
    cheap = Prices.of(with_prices(network.weights, Prices.of(network.weights), 1e-3))
    decoder = EmulatedDecoder(biased, cheap, EmulationConfig(14, 10))
    with torch.no_grad():
        ours = product(decoder(ids)[0], decoder.head)[0].double().log_softmax(-1)
    assert float((dense.exp() * (dense - ours)).sum(-1).mean()) < 0.01
    assert {name for name in decoder.tensors() if name.endswith("bias")} == {name for name in biased.tensors if name.endswith("bias")}
    for name, tensor in decoder.tensors().items():
        assert torch.equal(tensor, biased.tensors[name])
    writer = DenseWriter(biased, 1, 13, CPU)
    written = torch.stack([writer.step(ids[:, position], position).clone() for position in range(13)], 1)
    assert torch.allclose(written[0].double().log_softmax(-1), dense[:13], atol=1e-3)


def test_prices_are_the_stop_tables(network: SpikingNetwork) -> None:
    prices = Prices.of(network.weights)
    again = with_prices(network.weights, prices)
    for site in range(len(network.weights.config.sites)):
        assert np.allclose(again.site(site).stop, network.weights.site(site).stop, rtol=2.0**-23, atol=0)  # they pass float32
    for ours, theirs in zip(again.layers, network.weights.layers, strict=True):
        assert np.allclose(ours.query_stop, theirs.query_stop, rtol=2.0**-23, atol=0)


def test_spikes_are_met_from_below(network: SpikingNetwork, windows: torch.Tensor) -> None:
    chosen = [window.tolist() for window in windows[:4]]
    found, reached = meet_spikes(network.weights, Prices.of(network.weights), 0.7, chosen, "cpu")
    decoder = FunctionalDecoder(found, "cpu")
    for window in chosen:
        decoder.forward(torch.tensor([window]))
    assert reached == decoder.statistics.spikes_per_activation()
    assert 0.999 * 0.7 <= reached <= 0.7
    with pytest.raises(ConversionError, match="50 spikes per activation cannot be met"):
        meet_spikes(network.weights, Prices.of(network.weights), 50.0, chosen[:1], "cpu")
    most = meet_spikes(network.weights, Prices.of(network.weights), 50.0, chosen[:1], "cpu", tolerance=0.49)[1]
    with pytest.raises(ConversionError, match="--tolerance"):
        meet_spikes(network.weights, Prices.of(network.weights), most / 0.9, chosen[:1], "cpu", tolerance=0.04)
    assert meet_spikes(network.weights, Prices.of(network.weights), most / 0.9, chosen[:1], "cpu", tolerance=0.06)[1] <= most


def test_loss_is_the_divergence_with_its_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(6, 5, 8, generator=generator, requires_grad=True)
    target, integers, dense = (torch.randn(shape, generator=generator) for shape in ((6, 5, 8), (11, 8), (11, 8)))
    integers.requires_grad_(True)
    scale = torch.rand(11, generator=generator)
    dense_log, spiking_log = (target @ dense.T).log_softmax(-1), (hidden @ integers.T * scale).log_softmax(-1)
    whole = functional.kl_div(spiking_log, dense_log, log_target=True, reduction="sum") / 30
    whole.backward()
    loss, hidden_gradient, head_gradient = DistillationLoss()(hidden, target, (integers, scale), dense)
    assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-5)
    assert torch.allclose(hidden_gradient, hidden.grad, atol=1e-6) and torch.allclose(head_gradient, integers.grad, atol=1e-5)


def test_schedule_follows_steps_or_time(nano: Checkpoint, network: SpikingNetwork, tmp_path: Path) -> None:
    recipe = replace(RECIPE, tokens=100 * 4 * 32, start_spikes=1.6, spikes=1.0, seconds=10.0)
    run = tuner(nano, network, tmp_path, recipe)
    seen = []
    for run.step, run.elapsed_s in ((0, 0.0), (10, 0.0), (10, 5.0), (50, 1.0), (99, 9.0), (99, 10.0)):
        seen.append((run.passed, run.rate(), run.target()))
    assert [passed for passed, _, _ in seen] == pytest.approx([0, 0.1, 0.5, 0.5, 0.99, 1])
    assert [rate for _, rate, _ in seen] == pytest.approx([0.5, 0.97553, 0.5, 0.5, 0.02, 0.02], abs=1e-4)
    assert [target for _, _, target in seen] == pytest.approx([1.6, 1.3, 1.0, 1.0, 1.0, 1.0])


def test_spikes_are_held_on_the_held_out_text(nano: Checkpoint, network: SpikingNetwork, tmp_path: Path) -> None:
    tuned = tuner(nano, network, tmp_path / "state", replace(RECIPE, spikes=0.8, start_spikes=None))
    tuned.hold_on(1.0)
    assert tuned.target() == pytest.approx(0.8)  # no step yet, nothing to compare with
    tuned._recent_spikes = 0.9
    tuned.hold_on(1.2)
    assert tuned.target() == pytest.approx(0.8 * 0.9 / 1.2)


def test_windows_of_texts(nano: Checkpoint) -> None:
    story = (Path(__file__).parents[1] / "models" / "story.txt").read_text()
    tokenizer = nano.tokenizer()
    ids = tokenizer(story * 30, add_special_tokens=False)["input_ids"]
    train, held_out = text_windows(tokenizer, [story * 30, story * 3], 8, 5)
    assert train.shape[1] == held_out.shape[1] == 8 and len(held_out) == 5
    assert train[:10].flatten().tolist() == ids[:80]
    assert len(train) < len(ids) * 33 / 30 / 8 * 0.96  # the end of each is held out
    with pytest.raises(ConversionError, match="do not fill two windows of 512"):
        text_windows(tokenizer, ["Once upon a time"], 512, 4)


def test_other_decoders_are_refused(nano: Checkpoint, network: SpikingNetwork) -> None:
    canonical = nano.canonical
    config = replace(canonical.config, activation="gelu", logit_softcap=30.0)
    with pytest.raises(
        ConversionError,
        match="knows Llama and Qwen2 decoders only; this one has the activation gelu, soft caps of logits",
    ):
        EmulatedDecoder(CanonicalDecoder(config, canonical.tensors), Prices.of(network.weights), EmulationConfig(14, 10))


@pytest.mark.slow
def test_training_lowers_the_loss_and_holds_the_spikes(
    nano: Checkpoint, network: SpikingNetwork, windows: torch.Tensor, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, tokens=40 * 8 * 32, batch=8, learning_rate=2e-3)
    figures = list(tuner(nano, network, tmp_path / "state", recipe).run(windows))
    assert len(figures) == recipe.steps == 40
    assert np.mean([f.loss for f in figures[-8:]]) < 0.8 * np.mean([f.loss for f in figures[:4]])
    assert np.mean([f.spikes for f in figures[-8:]]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(
    nano: Checkpoint, network: SpikingNetwork, windows: torch.Tensor, tmp_path: Path, optimizer: str
) -> None:
    recipe = replace(RECIPE, optimizer=optimizer)
    whole = tuner(nano, network, tmp_path / "whole", recipe)
    expected = list(whole.run(windows))
    first = tuner(nano, network, tmp_path / "cut", recipe)
    seen = []
    for figures in first.run(windows):
        seen.append(figures)
        if figures.step == 5:
            break
    second = tuner(nano, network, tmp_path / "cut", recipe)
    assert second.load() and second.step == 3  # the last state written
    assert [*seen[:3], *second.run(windows)] == expected
    for name, tensor in whole.decoder.tensors().items():
        assert torch.equal(tensor, second.decoder.tensors()[name])


@pytest.mark.slow
def test_states_that_do_not_fit_are_refused(nano: Checkpoint, network: SpikingNetwork, windows: torch.Tensor, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert not tuner(nano, network, folder).load()
    tuner(nano, network, folder).save()
    with pytest.raises(ConversionError, match="another learning_rate; give the same"):
        tuner(nano, network, folder, replace(RECIPE, learning_rate=1e-4)).load()
    (folder / "state.safetensors").write_bytes((folder / "state.safetensors").read_bytes()[:1000])
    with pytest.raises(ConversionError, match="is damaged"):
        tuner(nano, network, folder).load()


@pytest.mark.slow
def test_gradients_that_are_not_finite_end_the_run_without_harm(
    nano: Checkpoint, network: SpikingNetwork, windows: torch.Tensor, tmp_path: Path
) -> None:
    broken = tuner(nano, network, tmp_path / "state", replace(RECIPE, tokens=100 * 4 * 32))
    broken.teacher.lm_head.weight.mul_(float("nan"))
    before = broken.decoder.tensors()
    with pytest.raises(ConversionError, match="no finite gradient"):
        list(broken.run(windows))
    assert all(torch.equal(tensor, before[name]) for name, tensor in broken.decoder.tensors().items())


def test_own_text_follows_the_dense_model(nano: Checkpoint) -> None:
    starts = torch.tensor([window[:16] for window in calibration_windows(nano.tokenizer(), count=2)])
    text = own_text(nano.canonical, starts, 250, length=32, device=CPU, seed=0)
    assert text.shape == (8, 32) and torch.equal(text, own_text(nano.canonical, starts, 250, length=32, device=CPU, seed=0))
    assert {tuple(row[:16].tolist()) for row in text} <= {tuple(start.tolist()) for start in starts}
    logs, first = nano.dense_model()(text).logits.log_softmax(-1)[:, 15:-1], text[:, 16:]
    assert logs.gather(-1, first[..., None]).mean() > logs.gather(-1, first.flip(1)[..., None]).mean() + 1


def test_writing_steps_are_the_dense_models(nano: Checkpoint) -> None:
    ids = torch.randint(512, (3, 13), generator=torch.Generator().manual_seed(3))
    writer = DenseWriter(nano.canonical, 3, 13, CPU)
    written = torch.stack([writer.step(ids[:, position], position).clone() for position in range(13)], 1)
    assert torch.allclose(written, nano.dense_model()(ids).logits, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spikes", 0.0),
        ("tokens", 0),
        ("price_rate", 1.0),
        ("learning_rate", -1.0),
        ("batch", 0),
        ("optimizer", "sgd"),
        ("batch", 100_000_000),
    ],
)
def test_recipes_that_make_no_sense(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        replace(RECIPE, **{field: value})


def test_bounds_are_both_told() -> None:
    with pytest.raises(ValueError, match=r"learning_rate must be positive and below 1e\+06, got 1e\+30"):
        replace(RECIPE, learning_rate=1e30)
    with pytest.raises(ValueError, match="batch must be at most 524288 with a window of 32, got 524289"):
        replace(RECIPE, batch=524289)


def story_run(nano: Checkpoint, folder: Path, recipe: FineTuneConfig = RECIPE, watch: Watch | None = None, own: int = 60) -> SpikingNetwork:
    story = (Path(__file__).parents[1] / "models" / "story.txt").read_text()
    found = fine_tune(nano, [story * 20], recipe, folder, own_tokens=own, device=CPU, watch=watch)
    assert found is not None
    return found


@pytest.mark.slow
def test_a_whole_run_that_is_interrupted_ends_in_the_same_network(nano: Checkpoint, tmp_path: Path) -> None:
    whole = story_run(nano, tmp_path / "whole")

    def interrupt(figures: StepFigures, passed: float) -> None:
        if figures.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        story_run(nano, tmp_path / "cut", watch=Watch(step=interrupt))
    with safe_open(tmp_path / "cut" / "state.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["progress"])["step"] == 5  # not 3, the last multiple of save_every
    again = story_run(nano, tmp_path / "cut")
    for site in range(len(whole.weights.config.sites)):
        assert np.array_equal(whole.weights.site(site).weight, again.weights.site(site).weight)
        assert np.array_equal(whole.weights.site(site).stop, again.weights.site(site).stop)
    entries = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in ("whole", "cut")]
    assert entries[0] == entries[1] and [entry["step"] for entry in entries[0] if "loss" in entry] == list(range(1, 9))
    tuned = whole.provenance["fine_tuning"]
    assert tuned["steps"] == 8 and tuned["recipe"]["spikes"] == 1.0 and tuned["own_text_tokens"] == 64
    assert 0.999 <= whole.provenance["spikes_per_activation"] <= 1.0
    with pytest.raises(ConversionError, match="run with another learning_rate; give the same, or another folder"):
        story_run(nano, tmp_path / "cut", replace(RECIPE, learning_rate=5e-4))
    (tmp_path / "cut" / "text.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConversionError, match="is damaged"):
        story_run(nano, tmp_path / "cut")


@pytest.mark.slow
def test_a_request_that_failed_can_be_mended_in_the_same_folder(nano: Checkpoint, tmp_path: Path) -> None:
    """What is not made yet may change: texts before there are windows, the spikes before there is a start."""
    with pytest.raises(ConversionError, match="do not fill two windows"):
        fine_tune(nano, ["Once"], RECIPE, tmp_path, device=CPU)
    too_many = replace(RECIPE, spikes=40.0)
    with pytest.raises(ConversionError, match=r"before training at 40 spikes .* cannot be met.* keeps the text, and takes other spikes"):
        story_run(nano, tmp_path, too_many)
    (tmp_path / "own-text.7.safetensors").write_bytes(b"of a run that was cut")
    with pytest.raises(ConversionError, match="run with another own_text"):
        story_run(nano, tmp_path, own=0)
    assert 0.99 <= story_run(nano, tmp_path).provenance["spikes_per_activation"] <= 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "log.jsonl", "run.json", "start.safetensors", "state.safetensors", "text.safetensors"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_with_another_code(nano: Checkpoint, tmp_path: Path) -> None:
    """Training falls to the asked spikes from more of them, and the network has the code, its parameters and its biases."""
    recipe = replace(
        RECIPE, spikes=0.6, start_spikes=0.9, tokens=60 * 4 * 32, code="first-spike-log", phases=8, code_parameters=(("steps", 8),)
    )
    found = story_run(nano, tmp_path, recipe, own=0)
    assert 0.59 <= found.provenance["spikes_per_activation"] <= 0.6
    assert found.weights.code.name == "first-spike-log" and found.weights.code.phases == 8
    assert dict(found.weights.code.parameters) == {"steps": 8}
    biases = [found.weights.site(site).bias for site in range(found.weights.config.head.index)]
    assert all(bias is not None and np.any(bias) for bias in biases)
    found.save(tmp_path / "network")
    assert SpikingNetwork.load(tmp_path / "network").provenance["options"]["code"] == "first-spike-log"


@pytest.mark.slow
def test_a_run_ends_with_its_time(nano: Checkpoint, tmp_path: Path) -> None:
    found = story_run(nano, tmp_path, replace(RECIPE, tokens=10**9, seconds=6.0), own=10**6)
    tuned = found.provenance["fine_tuning"]
    assert 3.0 <= tuned["seconds"] < 10.0 and 1 <= tuned["steps"] < 10**4 and tuned["own_text_tokens"] < 10**6
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-2])
    assert last["learning_rate"] < 0.1 * 1e-3
