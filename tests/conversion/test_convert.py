"""Conversion: asked spikes are met, without prices the network is close to the dense model, hybrids and codes, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from neuromorphic_llm.conversion import budget
from neuromorphic_llm.conversion.allocation.fisher import fisher
from neuromorphic_llm.conversion.allocation.prices import stop_table
from neuromorphic_llm.conversion.budget import TargetError, floored_heads, price_for_spikes, with_price
from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.generation.choice import log_probabilities
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.decoder import IntegerDecoder


@pytest.fixture(scope="module")
def dense(tiny: Checkpoint, windows: list[list[int]]) -> torch.Tensor:
    """Logits of the dense model, float64 [tokens, vocab]."""
    logits: torch.Tensor = tiny.dense_model(torch.float64)(torch.tensor(windows[:1])).logits[0]
    return logits


class Make:
    """Converts the tiny checkpoint with its one calibration."""

    def __init__(self, checkpoint: Checkpoint, calibration: Calibration, windows: list[list[int]]) -> None:
        self._arguments = checkpoint, calibration, windows

    def __call__(self, progress: Any = None, **options: Any) -> SpikingNetwork:
        checkpoint, calibration, windows = self._arguments
        if "price" in options:
            options.setdefault("spikes", None)
        return convert(checkpoint, ConvertConfig(**options), windows, calibration=calibration, progress=progress)


@pytest.fixture(scope="module")
def make(tiny: Checkpoint, calibration: Calibration, windows: list[list[int]]) -> Make:
    return Make(tiny, calibration, windows)


def measured(network: SpikingNetwork, windows: list[list[int]]) -> float:
    decoder = network.functional()
    for window in windows:
        decoder.forward(torch.tensor([window]))
    return decoder.statistics.spikes_per_activation()


def divergence(network: SpikingNetwork, dense: torch.Tensor, windows: list[list[int]]) -> float:
    """Mean Kullback-Leibler divergence from the dense model, nats per token."""
    decoder = network.functional()
    logits = decoder.forward(torch.tensor(windows[:1]))
    assert isinstance(logits, torch.Tensor)
    expected = dense.log_softmax(-1)
    return float((expected.exp() * (expected - log_probabilities(decoder.weights, logits[0]))).sum(-1).mean())


@pytest.mark.parametrize("spikes", [0.6, 1.0, 1.5, 2.0])
def test_asked_spikes_are_met(make: Make, windows: list[list[int]], spikes: float) -> None:
    network = make(spikes=spikes)
    assert measured(network, windows) == pytest.approx(spikes, rel=0.02)
    assert network.provenance["spikes_per_activation"] == measured(network, windows)
    assert network.provenance["options"]["spikes"] == spikes and network.provenance["price"] > 0


@pytest.mark.parametrize("parts", ["feed-forward", "attention"])
def test_hybrids(make: Make, windows: list[list[int]], dense: torch.Tensor, parts: str) -> None:
    network = make(price=0.0, parts=parts)
    assert network.parts == parts and not network.weights.head.spiking
    spiking = [network.weights.layers[0].qkv.spiking, network.weights.layers[0].attention_spiking, network.weights.layers[0].down.spiking]
    assert spiking == ([False, False, True] if parts == "feed-forward" else [True, True, False])
    assert divergence(network, dense, windows) < 6e-4
    asked = make(spikes=0.5, parts=parts)
    assert measured(asked, windows) == pytest.approx(0.5, rel=0.02)


def test_without_prices_it_is_close_to_the_dense_model(make: Make, windows: list[list[int]], dense: torch.Tensor) -> None:
    network = make(price=0.0, query_spikes=900.0)
    assert network.provenance["price"] == network.provenance["query_price"] == 0.0
    assert not any(network.weights.site(index).stop.any() for index in range(len(network.weights.config.sites)))
    logits = network.functional().forward(torch.tensor(windows[:1]))
    assert isinstance(logits, torch.Tensor)
    ours = logits[0].double() * 2.0**-network.weights.formats.logit
    assert float(torch.nn.functional.cosine_similarity(ours, dense, dim=-1).mean()) > 0.9995
    assert divergence(network, dense, windows) < 6e-4


def test_fewer_spikes_cost_quality(make: Make, windows: list[list[int]], dense: torch.Tensor) -> None:
    losses = [divergence(make(spikes=spikes), dense, windows) for spikes in (2.0, 1.2, 0.6)]
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize(("code", "bound"), [("rate", 0.05), ("first-spike", 0.2), ("bit-planes", 0.01)])
def test_other_codes(make: Make, windows: list[list[int]], dense: torch.Tensor, code: str, bound: float) -> None:
    network = make(price=0.0, code=code)
    assert network.weights.code.name == code
    assert divergence(network, dense, windows) < bound
    tokens = windows[0][:6]
    logits = network.functional().forward(torch.tensor([tokens]))
    assert isinstance(logits, torch.Tensor)
    assert (logits[0].numpy() == IntegerDecoder(network.weights).forward(tokens)).all()


def test_converted_network_equals_the_reference(make: Make, windows: list[list[int]]) -> None:
    network, tokens = make(spikes=1.5), windows[0][:12]
    logits = network.functional().forward(torch.tensor([tokens]))
    assert isinstance(logits, torch.Tensor)
    assert (logits[0].numpy() == IntegerDecoder(network.weights).forward(tokens)).all()


def test_query_budget(make: Make, windows: list[list[int]]) -> None:
    network = make(spikes=1.5, query_spikes=1.0)
    decoder = network.functional()
    for window in windows:
        decoder.forward(torch.tensor([window]))
    assert decoder.statistics.query_spikes_per_value() == pytest.approx(1.0, rel=0.04)
    assert network.provenance["query_price"] > 0


def test_the_same_twice(make: Make) -> None:
    first, second = make(spikes=1.5), make(spikes=1.5)
    assert first.provenance == second.provenance
    assert (first.weights.layers[1].down.stop == second.weights.layers[1].down.stop).all()


def test_a_target_above_what_the_code_emits(make: Make) -> None:
    with pytest.raises(ConversionError, match=r"7 spikes per activation cannot be met: this code emits .* ask for less"):
        make(spikes=7.0)
    with pytest.raises(ConversionError, match="cannot be met"):
        make(spikes=1.5, code="first-spike")


def test_progress(make: Make) -> None:
    calls: list[tuple[str, int, int]] = []
    make(spikes=1.5, progress=lambda *call: calls.append(call))
    assert calls and {call[0] for call in calls} == {"meet the spike budget"}
    assert all(1 <= done <= total for _, done, total in calls)


def test_stop_table() -> None:
    table = stop_table(0.5, np.array([1.0, 0.25, 0.0]), 12)
    assert table.tolist() == [2**23, 2**25, 2**31 - 1]
    assert stop_table(0.0, np.array([1.0, 0.0]), 12).tolist() == [0, 0]


def test_no_head_is_worth_less_than_the_median_one() -> None:
    """A saturated head keeps its profile at the mean of the median head, one without any gradient gets an even one; others stay."""
    sensitivity = np.array([[[1.0, 3.0], [1e-6, 3e-6]], [[0.0, 0.0], [4.0, 8.0]], [[2.0, 2.0], [3.0, 1.0]]])
    expected = np.array([[[1.0, 3.0], [1.0, 3.0]], [[2.0, 2.0], [4.0, 8.0]], [[2.0, 2.0], [3.0, 1.0]]])
    np.testing.assert_allclose(floored_heads(sensitivity), expected, rtol=1e-12)
    assert not floored_heads(np.zeros((2, 3, 4))).any()


def test_prices_are_operations_over_sensitivity(tiny: Checkpoint, make: Make, calibration: Calibration) -> None:
    weights = with_price(make(price=0.0).weights, calibration, fisher(tiny.config, calibration), 1e-8, 0.0)
    for index, fraction in ((0, weights.formats.norm), (1, weights.formats.attention), (3, weights.layers[0].hidden_fraction)):
        _, outputs = tiny.config.sites[index].shape
        expected = np.round(1e-8 * outputs / calibration.sensitivity[index] * 4.0**fraction)
        assert (weights.site(index).stop == np.minimum(expected, 2**31 - 1)).all()


def test_price_search() -> None:
    calls: list[float] = []

    def measure(price: float) -> float:
        calls.append(price)
        return 3.0 / (1.0 + price * 1e5) ** 0.3

    price, reached = price_for_spikes(measure, 1.5, 0.001, 1e-9)
    assert reached == pytest.approx(1.5, rel=0.001) and measure(price) == reached
    assert len(calls) < 12
    assert price_for_spikes(measure, 3.0, 0.01, 1e-9) == (0.0, 3.0)
    # A step function has no price for 1.5.
    with pytest.raises(ConversionError, match="the search ended at"):
        price_for_spikes(lambda price: 2.0 if price < 1e-7 else 1.0, 1.5, 0.01, 1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": "some"}, "parts must be one of"),
        ({"spikes": 1.5, "price": 0.1}, "exactly one of spikes, energy_j and price"),
        ({"spikes": None}, "exactly one of spikes, energy_j and price"),
        ({"spikes": 0.0}, "spikes must be positive"),
        ({"spikes": float("nan")}, "spikes must be positive"),
        ({"spikes": None, "price": -1.0}, r"price \(lambda\) must not be negative"),
        ({"spikes": None, "price": float("nan")}, r"price \(lambda\) must not be negative"),
        ({"query_spikes": 0.0}, "query_spikes must be positive"),
        ({"tolerance": 1.0}, "tolerance must lie between"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvertConfig(**options)


def test_network_without_spikes_is_refused() -> None:
    with pytest.raises(ConversionError, match="emits no spikes"):
        price_for_spikes(lambda _: 0.0, 1.5, 0.01, 1.0)


def test_the_budget_that_was_missed_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_ATTEMPTS", 1)
    with pytest.raises(ConversionError, match=r"^1\.2 spikes per activation \(reached .*\) and 1\.5 query spikes per value \(reached"):
        make(spikes=1.2, query_spikes=1.5)
    with pytest.raises(ConversionError, match=r"^1\.5 query spikes per value \(reached .*\) cannot be met in 1 attempts; ask for"):
        make(price=0.0, query_spikes=1.5)
    with pytest.raises(ConversionError, match=r"^1\.2 spikes per activation \(reached .*\) cannot be met in 1 attempts; ask for"):
        make(spikes=1.2, parts="feed-forward")


def reached_by_price(monkeypatch: pytest.MonkeyPatch, spikes: Callable[[float], float]) -> list[float]:
    """Every network of meet_budget has the spikes of its price by this rule, whatever was recorded says; the prices that were tried."""
    tried: list[float] = []

    class Run:
        def __init__(self, weights: Any, *_: Any) -> None:
            self.site_spikes, self.query_spikes = spikes(weights.price), 1.8
            self.decoder = SimpleNamespace(statistics=SimpleNamespace(spikes_per_activation=lambda: spikes(weights.price)))
            tried.append(weights.price)

    def weights(integers: Any, calibration: Any, allocation: Any, price: float, query_price: float) -> Any:
        return SimpleNamespace(price=price, config=None)

    monkeypatch.setattr(budget, "with_price", weights)
    monkeypatch.setattr(budget, "RecordedInputs", Run)
    monkeypatch.setattr(budget.Target, "amount", lambda *given: given[-1])
    # What was recorded would halve the price or double it, for ever.
    monkeypatch.setattr(budget, "site_price", lambda run, *_: tried[-1] * (2.0 if run.site_spikes > 1.0 else 0.5))
    return tried


def met(options: ConvertConfig) -> budget.Budget:
    allocation = SimpleNamespace(start_price=1.0)
    return budget.meet_budget(None, None, allocation, options, [], "cpu")  # type: ignore[arg-type]


def test_a_search_that_goes_in_circles_is_ended_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = reached_by_price(monkeypatch, lambda price: 1.3 / price**0.5)
    found = met(ConvertConfig(spikes=1.0))
    assert found.spikes == pytest.approx(1.0, abs=0.01) and found.note is None
    assert tried[:4] == [1.0, 2.0, 1.0, 2.0] and found.price == pytest.approx(1.69, rel=0.02) and len(tried) <= 16


@pytest.mark.parametrize(("nearest", "note"), [(0.985, True), (1.015, True), (0.995, False), (0.979, None), (1.021, None)])
def test_a_target_met_nearly_is_a_result_with_a_note(monkeypatch: pytest.MonkeyPatch, nearest: float, note: bool | None) -> None:
    reached_by_price(monkeypatch, lambda price: nearest if price > 1.5 else 1.2)
    if note is None:
        with pytest.raises(ConversionError, match=rf"^1 spikes per activation \(reached {nearest:.3g}\) cannot be met in 16 .*--tolerance"):
            met(ConvertConfig(spikes=1.0))
        found = met(ConvertConfig(spikes=1.0, tolerance=0.015))
        assert found.note == f"asked for 1 spikes per activation (reached {nearest:.3g})"
    else:
        found = met(ConvertConfig(spikes=1.0))
        assert found.note == (f"asked for 1 spikes per activation (reached {nearest:.3g})" if note else None)
    assert found.spikes == nearest


def test_all_that_the_code_emits_may_be_a_little_less_than_asked(make: Make) -> None:
    most = make(price=0.0).provenance["spikes_per_activation"]
    near = make(spikes=most * 1.008)
    assert near.provenance["spikes_per_activation"] == pytest.approx(most, rel=0.01) and "budget_note" not in near.provenance
    with pytest.raises(TargetError, match=r"this code emits .* with no stop rule; ask for less"):
        make(spikes=most * 1.05)
    noted = make(spikes=most * 1.05, tolerance=0.03)
    assert re.fullmatch(r"asked for .* spikes per activation \(reached .*\)", noted.provenance["budget_note"])
