"""Spike budget: stop tables from sensitivities and one price, and the price that meets an asked number of spikes.

A spike at a site with n outputs costs n synaptic operations; an error e_i costs F_i e_i^2 / 2 (calibrate.py). Minimising loss plus
lambda times synaptic operations makes the stop table of numerics.md

    R_i = lambda * n / F_i        (in units of x squared)

one number for the whole network. Query spikes have a price and a budget of their own: attention sinks make the model break, rather than
degrade, when queries lose too many of them, which the second-order sensitivity cannot see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.convert.calibrate import Calibration, Progress
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import SITES, DecoderWeights

_START_PRICE, _START_QUERY_PRICE = 1e-9, 1e-7
_QUERY_TOLERANCE = 0.03
_ATTEMPTS = 5
_STRIDE = 4

SITE_SPIKES, QUERY_SPIKES = "spikes per activation", "query spikes per value"
"""What the two budgets count, for messages."""


def stop_table(cost: float, sensitivity: NDArray[np.float64], fraction: int) -> NDArray[np.int32]:
    """R = cost / sensitivity at the given fraction, as integers in 0 .. 2^31 - 1."""
    floor = max(float(sensitivity.max()) * 1e-9, 1e-30)
    table = cost / np.maximum(sensitivity, floor) * 4.0**fraction
    return np.minimum(np.round(table), 2**31 - 1).astype(np.int32)


def with_price(weights: DecoderWeights, calibration: Calibration, price: float, query_price: float) -> DecoderWeights:
    """The same decoder with the stop tables of one price per synaptic operation and one per query spike."""
    config, formats = weights.config, weights.formats
    layers = []
    for number, layer in enumerate(weights.layers):
        fractions = {"qkv": formats.norm, "output": formats.attention, "gate_up": formats.norm, "down": layer.hidden_fraction}
        sites = {}
        for position, key in enumerate(SITES):
            site = getattr(layer, key)
            cost = price * site.weight.shape[0]
            sites[key] = replace(site, stop=stop_table(cost, calibration.sensitivity[4 * number + position], fractions[key]))
        query_stop = stop_table(query_price, calibration.query_sensitivity[number], formats.qkv)
        layers.append(replace(layer, query_stop=query_stop, **sites))
    head_cost = price * config.vocab_size
    head = replace(weights.head, stop=stop_table(head_cost, calibration.sensitivity[-1], formats.norm))
    return replace(weights, layers=tuple(layers), head=head)


class RecordedInputs:
    """Inputs of all crossbar sites and all queries of one run over token windows, every fourth token.

    They hardly depend on the prices, so counting their spikes at another price needs the encoder only, not the network.
    """

    def __init__(self, weights: DecoderWeights, windows: Sequence[Sequence[int]], device: str) -> None:
        self._config = weights.config
        self._decoder = FunctionalDecoder(weights, device)
        inputs: list[list[torch.Tensor]] = [[] for _ in range(weights.config.sites)]
        queries: list[list[torch.Tensor]] = [[] for _ in range(weights.config.layers)]
        self._decoder.observer = lambda index, x, _: inputs[index].append(x[::_STRIDE].clone())
        self._decoder.query_observer = lambda layer, q: queries[layer].append(q[::_STRIDE].clone())
        for window in windows:
            self._decoder.forward(torch.tensor([list(window)]))
        self._inputs = [torch.cat(chunks) for chunks in inputs]
        self._queries = [torch.cat(chunks) for chunks in queries]
        self.spikes = self._decoder.statistics.spikes_per_activation()
        self.query_spikes = self._decoder.statistics.query_spikes_per_value()

    def spikes_with(self, weights: DecoderWeights) -> float:
        """Mean spikes per activation of the recorded inputs with the stop tables of `weights`."""
        operations, parameters = 0.0, 0
        for index, x in enumerate(self._inputs):
            inputs, outputs = self._config.site_shape(index)
            if weights.site(index).spiking:
                stop = torch.from_numpy(weights.site(index).stop).to(x.device)
                operations += float(self._decoder.encode(x, stop).spikes.sum()) / len(x) * outputs
            parameters += inputs * outputs
        return operations / parameters

    def query_spikes_with(self, weights: DecoderWeights) -> float:
        """Mean spikes per value of the recorded queries with the query stop tables of `weights`."""
        total = 0.0
        for layer, q in zip(weights.layers, self._queries, strict=True):
            for head in range(self._config.heads):
                stop = torch.from_numpy(layer.query_stop[head]).to(q.device)
                coded = self._decoder.operations.encode(q[:, head].contiguous(), stop, weights.code.query_phases)
                total += float(coded.spikes.sum()) / len(q)
        return total / (self._config.layers * self._config.heads * self._config.head_dim)


@dataclass(frozen=True)
class Budget:
    """Outcome of meet_budget: weights with their stop tables, the prices, and the spikes measured with them."""

    weights: DecoderWeights
    price: float
    query_price: float
    spikes: float


def meet_budget(
    integers: DecoderWeights,
    calibration: Calibration,
    options: ConvertConfig,
    windows: Sequence[Sequence[int]],
    device: str,
    progress: Progress | None = None,
) -> Budget:
    """Stop tables that meet the asked spikes (or have the asked price) and the query budget.

    Raises ConversionError if the target cannot be met.
    """
    price = _START_PRICE if options.price is None else options.price
    query_price = _START_QUERY_PRICE
    aim = options.spikes
    for attempt in range(_ATTEMPTS):
        weights = with_price(integers, calibration, price, query_price)
        run = RecordedInputs(weights, windows, device)
        if progress:
            progress("meet the spike budget", attempt + 1, _ATTEMPTS)
        queries_met = options.parts == "feed-forward" or _near(run.query_spikes, options.query_spikes, _QUERY_TOLERANCE)
        queries_met = queries_met or (query_price == 0.0 and run.query_spikes <= options.query_spikes)
        sites_met = options.spikes is None or _near(run.spikes, options.spikes, options.tolerance)
        if queries_met and sites_met:
            return Budget(weights, price, query_price, run.spikes)
        if not queries_met:
            query_price = _query_price(run, integers, calibration, options.query_spikes)
        if options.spikes is not None and aim is not None:
            if attempt:
                aim *= options.spikes / run.spikes
            price = _site_price(run, integers, calibration, aim, options.tolerance / 4)
    missed = [] if sites_met else [f"{options.spikes:g} {SITE_SPIKES} (reached {run.spikes:.3f})"]
    missed += [] if queries_met else [f"{options.query_spikes:g} {QUERY_SPIKES} (reached {run.query_spikes:.3f})"]
    raise ConversionError(
        f"{' and '.join(missed)} cannot be met in {_ATTEMPTS} attempts; ask for what was reached, or calibrate on more text"
    )


def _near(reached: float, asked: float, tolerance: float) -> bool:
    return abs(reached - asked) <= tolerance * asked


def _site_price(run: RecordedInputs, integers: DecoderWeights, calibration: Calibration, asked: float, tolerance: float) -> float:
    """Price of a synaptic operation that meets `asked` on the recorded inputs."""

    def measure(price: float) -> float:
        return run.spikes_with(with_price(integers, calibration, price, 0.0))

    return price_for_spikes(measure, asked, tolerance, _START_PRICE)[0]


def _query_price(run: RecordedInputs, integers: DecoderWeights, calibration: Calibration, asked: float) -> float:
    """Price of a query spike that meets `asked` on the recorded queries; 0 where they do not spike that often at all."""

    def measure(price: float) -> float:
        return run.query_spikes_with(with_price(integers, calibration, 0.0, price))

    return (
        0.0 if measure(0.0) <= asked else price_for_spikes(measure, asked, _QUERY_TOLERANCE / 4, _START_QUERY_PRICE, what=QUERY_SPIKES)[0]
    )


def price_for_spikes(
    measure: Callable[[float], float], asked: float, tolerance: float, start: float, limit: int = 24, what: str = SITE_SPIKES
) -> tuple[float, float]:
    """Price whose measured spikes are within `tolerance` of `asked`: (price, reached spikes).

    Secant steps on (log price, spikes), kept inside a shrinking bracket. Raises ConversionError if the target cannot be met.
    """
    most = measure(0.0)
    if most == 0.0:
        raise ConversionError("the network emits no spikes even without a stop rule; its weights are zero or far too small")
    if asked > most * (1 + tolerance):
        raise ConversionError(f"{asked:g} {what} cannot be met: this code emits {most:.3f} with no stop rule; ask for less")
    if abs(asked - most) <= tolerance * asked:
        return 0.0, most
    low, high = -np.inf, np.inf  # log prices known to give too many / too few spikes
    log_price, previous = float(np.log(start)), None
    for _ in range(limit):
        reached = measure(float(np.exp(log_price)))
        if abs(reached - asked) <= tolerance * asked:
            return float(np.exp(log_price)), reached
        if reached > asked:
            low = max(low, log_price)
        else:
            high = min(high, log_price)
        guess = log_price + (3.0 if reached > asked else -3.0)
        if previous is not None and previous[1] != reached:
            guess = log_price + (asked - reached) * (log_price - previous[0]) / (reached - previous[1])
        previous = (log_price, reached)
        if np.isfinite(low) and np.isfinite(high) and not low < guess < high:
            guess = (low + high) / 2
        log_price = float(np.clip(guess, log_price - 6.0, log_price + 6.0))
    raise ConversionError(f"{asked:g} {what} cannot be met: the search ended at {reached:.3f}; ask for that many or more")
