"""Allocations: what each search does on a small decoder, and the calibration that keeps its result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_models import family_model, saved

from neuromorphic_llm.conversion.allocation import greedy as greedy_module
from neuromorphic_llm.conversion.allocation.fisher import fisher
from neuromorphic_llm.conversion.allocation.greedy import greedy
from neuromorphic_llm.conversion.allocation.knunyants import LOSS_BUDGET, knunyants
from neuromorphic_llm.conversion.allocation.methods import ALLOCATIONS, allocate
from neuromorphic_llm.conversion.allocation.prices import Allocation, SpikeCosts, site_stop
from neuromorphic_llm.conversion.allocation.search import LayerwiseDecoder, SearchInput, above, coded_as, magnitude, ordered_magnitudes
from neuromorphic_llm.conversion.allocation.teal import teal
from neuromorphic_llm.conversion.budget import Target
from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert, search_allocation
from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.conversion.integers import integer_decoder
from neuromorphic_llm.errors import ArtefactError, UsageError
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.spikes.registry import get_code

ASKED = 1.0


@pytest.fixture(scope="module")
def integers(tiny: Checkpoint, calibration: Calibration) -> DecoderWeights:
    return integer_decoder(
        tiny.canonical.config, tiny.canonical.tensors, calibration, ConvertConfig(spikes=ASKED), get_code("signed-digit")
    )


@pytest.fixture(scope="module")
def given(tiny: Checkpoint, integers: DecoderWeights, calibration: Calibration, windows: list[list[int]]) -> SearchInput:
    options = ConvertConfig(spikes=ASKED)
    base = fisher(integers.config, calibration)
    return SearchInput(tiny.canonical, integers, calibration, base, options, Target(ASKED), windows, "cpu")


@pytest.fixture(scope="module")
def dense(tiny: Checkpoint, windows: list[list[int]]) -> LayerwiseDecoder:
    return LayerwiseDecoder(tiny.canonical, windows, "cpu")


def reached(given: SearchInput, allocation: Allocation, price: float) -> float:
    run = given.recorded()
    return given.target.amount(given.integers.config, run.spikes_with(given.integers, allocation, price))


def test_going_on_from_a_layer_is_the_whole_decoder(tiny: Checkpoint, dense: LayerwiseDecoder) -> None:
    expected = FloatDecoder(tiny.canonical)(dense.ids)
    for layer in range(tiny.config.layers + 1):
        torch.testing.assert_close(dense.logits_from(layer, dense.residual[layer], {}), expected)
    assert dense.divergence(expected) == pytest.approx(0.0, abs=1e-6)
    nll = -expected[:, :-1].log_softmax(-1).gather(2, dense.ids[:, 1:, None]).mean()
    assert dense.loss(expected) == pytest.approx(float(nll))


def test_a_coded_input_is_what_the_network_gets(given: SearchInput, dense: LayerwiseDecoder) -> None:
    run, site = given.recorded(), 3
    stop = site_stop(given.integers, given.base, site, 1e-8)
    x = dense.sites[site]
    fraction = given.integers.layers[0].hidden_fraction
    coded = get_code("signed-digit").quantise((x.flatten(0, 1) * 2.0**fraction).round().int().numpy(), stop)
    expected = coded.a * 2.0 ** coded.exponent[:, None].astype(np.float64) / 2.0**fraction
    np.testing.assert_allclose(coded_as(run, site, stop)(x).flatten(0, 1).numpy(), expected, rtol=1e-6)


def test_thresholds() -> None:
    x = torch.tensor([0.1, -0.5, 0.3, 0.9])
    assert magnitude(ordered_magnitudes(x), 0.5) == pytest.approx(0.5)
    assert above(0.3)(x).tolist() == pytest.approx([0.0, -0.5, 0.0, 0.9])


def test_thresholds_of_inputs_that_are_mostly_zero_are_not_zero() -> None:
    x = torch.cat([torch.zeros(600), torch.arange(1.0, 401.0)])
    assert [magnitude(ordered_magnitudes(x), share) for share in (0.01, 0.6, 0.61, 0.9)] == [5.0, 5.0, 11.0, 301.0]
    assert [magnitude(ordered_magnitudes(torch.zeros(7)), share) for share in (0.01, 0.95)] == [2.0**-16] * 2


def test_joules_instead_of_operations(given: SearchInput, calibration: Calibration) -> None:
    config = given.integers.config
    cheap = np.linspace(1e-12, 2e-12, len(config.sites))
    allocation = fisher(config, calibration, SpikeCosts(cheap, 1e-9))
    np.testing.assert_allclose(allocation.costs / allocation.costs[0], cheap / cheap[0])
    assert allocation.costs.sum() == pytest.approx(fisher(config, calibration).costs.sum())


def test_greedy_meets_the_operations_and_prefers_cheap_sites(given: SearchInput) -> None:
    allocation = greedy(given)
    assert allocation.method == "greedy" and len(allocation.history) == len(given.integers.config.sites)
    factors = allocation.costs / given.base.costs
    assert {float(factor) for factor in factors} <= {float(2.0 ** (step / 2)) for step in greedy_module._STEPS}
    assert [entry["factor"] for entry in allocation.history] == pytest.approx(list(factors))
    # The walk stops within one step of a site of the operations that the base takes.
    assert reached(given, allocation, allocation.start_price) == pytest.approx(ASKED, rel=0.1)


def test_greedy_walk() -> None:
    """Two sites, four steps: by hand, site 1 gives up two steps before site 0 gives one."""
    operations = np.array([[10.0, 8.0, 6.0, 4.0], [10.0, 8.0, 6.0, 4.0]])
    divergence = np.array([[0.0, 1.0, 3.0, 7.0], [0.0, 0.1, 0.6, 5.0]])
    assert greedy_module._walk(divergence, operations, 16.0).tolist() == [0, 2]
    assert greedy_module._walk(divergence, operations, 14.0).tolist() == [1, 2]
    assert greedy_module._walk(divergence, operations, 12.0).tolist() == [2, 2]
    assert greedy_module._walk(divergence, operations, 0.0).tolist() == [3, 3]


def test_teal_takes_the_step_of_least_error(given: SearchInput, dense: LayerwiseDecoder) -> None:
    wanted = replace(given, target=Target(1.6))  # few steps
    allocation = teal(wanted)
    assert reached(wanted, allocation, 1.0) <= 1.6
    first = [entry for entry in allocation.history if entry["step"] == 0]
    assert [entry["layer"] for entry in first] == list(range(dense.config.layers))
    for entry in first:
        errors = []
        for position in range(4):
            shares = [0.01] * 4
            shapes = [dense.config.sites[i].shape for i in range(4)]
            weights = [inputs * outputs for inputs, outputs in shapes]
            shares[position] += 0.02 * sum(weights) / weights[position]
            sites = range(4 * entry["layer"], 4 * entry["layer"] + 4)
            zeroed = {
                site: above(magnitude(ordered_magnitudes(dense.sites[site]), share)) for site, share in zip(sites, shares, strict=True)
            }
            output = dense.layer(entry["layer"], dense.residual[entry["layer"]], zeroed)
            errors.append(float((output - dense.residual[entry["layer"] + 1]).square().sum()))
        assert entry["position"] == int(np.argmin(errors)) and entry["squared_error"] == pytest.approx(min(errors), rel=1e-5)


@pytest.fixture(scope="module")
def by_loss(given: SearchInput) -> Allocation:
    return knunyants(given)


def test_knunyants_keeps_the_loss_budget(given: SearchInput, dense: LayerwiseDecoder, by_loss: Allocation) -> None:
    assert [entry["site"] for entry in by_loss.history] == list(range(len(given.integers.config.sites)))
    before = dense.loss(dense.logits_from(0, dense.residual[0], {}))
    for entry in by_loss.history:
        if entry["keep"] < 0.99:
            assert entry["loss"] <= LOSS_BUDGET * before
        before = entry["loss"]
    thresholds = np.sqrt(by_loss.costs)
    zeroed = {site: above(float(threshold)) for site, threshold in enumerate(thresholds)}
    assert dense.loss(dense.logits_from(0, dense.residual[0], zeroed)) == pytest.approx(before, rel=1e-4)


def test_dead_zones_silence_what_is_below_the_threshold(given: SearchInput, dense: LayerwiseDecoder, by_loss: Allocation) -> None:
    run = given.recorded()
    for site in (0, 1, 2):
        stop = site_stop(given.integers, by_loss, site, 1.0)
        coded = coded_as(run, site, stop)(dense.sites[site])
        threshold = float(np.sqrt(by_loss.costs[site]))
        small = dense.sites[site].abs() < 0.99 * threshold
        assert bool(small.any()) and not bool(coded[small].any())


@pytest.mark.parametrize(
    "name", ["greedy", pytest.param("teal", marks=pytest.mark.slow), pytest.param("knunyants", marks=pytest.mark.slow)]
)
def test_converted_networks_meet_the_same_spikes(
    tiny: Checkpoint, calibration: Calibration, windows: list[list[int]], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ConvertConfig(spikes=ASKED, allocation=name)
    found = search_allocation(tiny, options, windows, calibration)
    found.save(tmp_path / "calibration")
    loaded = Calibration.load(tmp_path / "calibration")
    kept = loaded.allocations[name]
    assert kept.asked["spikes"] == ASKED and kept.history == found.allocations[name].history
    np.testing.assert_array_equal(kept.costs, found.allocations[name].costs)
    monkeypatch.setattr("neuromorphic_llm.conversion.allocation.search.LayerwiseDecoder.__init__", _no_search)
    network = convert(tiny, options, windows, calibration=loaded)
    assert network.provenance["spikes_per_activation"] == pytest.approx(ASKED, rel=0.01)
    assert network.provenance["options"]["allocation"] == name
    assert network.provenance["allocation_costs"] == kept.costs.tolist()
    with pytest.raises(RuntimeError, match="searched again"):  # for other spikes it does not serve
        convert(tiny, replace(options, spikes=1.3), windows, calibration=loaded)


@pytest.fixture(scope="module")
def relu(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A decoder with ReLU whose first layer has inputs of the down projection that are all zero."""
    model = family_model("opt", num_hidden_layers=2)
    model.model.decoder.layers[0].fc1.bias.fill_(-100.0)
    return load_checkpoint(saved(model, tmp_path_factory.mktemp("relu") / "opt"))


@pytest.mark.parametrize("name", ["teal", "knunyants"])
def test_sites_behind_relu_have_a_price(relu: Checkpoint, windows: list[list[int]], name: str, tmp_path: Path) -> None:
    short, options = [window[:32] for window in windows], ConvertConfig(spikes=1.6, allocation=name)  # few steps
    search_allocation(relu, options, short, calibrate_checkpoint(relu, short)).save(tmp_path / "calibration")
    loaded = Calibration.load(tmp_path / "calibration")
    dense = LayerwiseDecoder(relu.canonical, short, "cpu")
    assert not dense.sites[3].any() and float((dense.sites[7] == 0).float().mean()) > 0.3
    costs = loaded.allocations[name].costs
    assert costs[3] == 2.0**-32 and costs[7] >= float(dense.sites[7][dense.sites[7] > 0].quantile(0.005)) ** 2
    network = convert(relu, options, short, calibration=loaded)
    assert network.provenance["spikes_per_activation"] == pytest.approx(1.6, rel=0.01)


def _no_search(*_: Any) -> None:
    raise RuntimeError("searched again")


def test_the_default_searches_nothing(
    tiny: Checkpoint, calibration: Calibration, windows: list[list[int]], integers: DecoderWeights
) -> None:
    options = ConvertConfig(spikes=ASKED)
    assert search_allocation(tiny, options, windows, calibration) is calibration
    # Of the unchanged decoder it would be of no use.
    changing = replace(options, allocation="greedy", compensation=("bias", "means"))
    assert search_allocation(tiny, changing, windows, calibration) is calibration
    allocation = allocate(tiny.canonical, integers, calibration, options, windows, "cpu")
    assert allocation.method == next(iter(ALLOCATIONS)) == "fisher"
    assert all((ours == theirs).all() for ours, theirs in zip(allocation.sensitivity, calibration.sensitivity, strict=True))


def test_an_allocation_serves_only_what_it_was_searched_for(
    tiny: Checkpoint, calibration: Calibration, windows: list[list[int]], integers: DecoderWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[SearchInput] = []

    def search(given: SearchInput) -> Allocation:
        searches.append(given)
        return replace(given.base, method="greedy")

    monkeypatch.setattr(greedy_module, "greedy", search)
    options = ConvertConfig(spikes=None, energy_j=1e-6, allocation="greedy")
    costs = SpikeCosts(np.linspace(1e-12, 2e-12, len(integers.config.sites)), 1e-9)

    def found(options: ConvertConfig, costs: SpikeCosts) -> Allocation:
        return allocate(tiny.canonical, integers, kept, options, windows, "cpu", costs)

    kept = calibration
    kept = replace(calibration, allocations={"greedy": found(options, costs)})
    assert found(options, costs) is kept.allocations["greedy"] and len(searches) == 1
    found(options, SpikeCosts(costs.spike_j[::-1].copy(), costs.fixed_j))  # of another chip
    found(replace(options, weights="4-bit-groups"), costs)
    assert len(searches) == 3


def test_wrong_names() -> None:
    with pytest.raises(UsageError, match=r"unknown allocation 'greddy'; did you mean 'greedy'\?"):
        ALLOCATIONS.check("greddy")
    with pytest.raises(UsageError, match="choose one of fisher, greedy, teal, knunyants"):
        ALLOCATIONS.check("xyz")


def test_damaged_allocations_are_refused(calibration: Calibration, given: SearchInput, tmp_path: Path) -> None:
    negative = replace(given.base, method="greedy", costs=-given.base.costs)
    replace(calibration, allocations={"greedy": negative}).save(tmp_path / "calibration")
    with pytest.raises(ArtefactError, match="allocation 'greedy' of the calibration has costs that are not positive"):
        Calibration.load(tmp_path / "calibration")
    short = replace(given.base, method="greedy", sensitivity=given.base.sensitivity[:-1])
    replace(calibration, allocations={"greedy": short}).save(tmp_path / "calibration")
    with pytest.raises(ArtefactError, match=r"lacks 'allocation\.greedy.sensitivity"):
        Calibration.load(tmp_path / "calibration")
