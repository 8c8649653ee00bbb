"""Spike budget: the price at which an allocation's stop tables meet an asked number of spikes, or of joules.

One number for the whole network moves all prices of the sites together. Query spikes have a price and a budget of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.convert.allocation.prices import Allocation, SpikeCosts, operation_costs, site_stop, stop_table
from neuromorphic_llm.convert.allocation.recorded import RecordedInputs
from neuromorphic_llm.convert.calibrate import Calibration, Progress
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.reference.weights import SITES, DecoderConfig, DecoderWeights

_START_QUERY_PRICE = 1e-7
_QUERY_TOLERANCE = 0.03
_ATTEMPTS = 8

SITE_SPIKES, SITE_ENERGY, QUERY_SPIKES = "spikes per activation", "joules a token", "query spikes per value"
"""What the budgets count, for messages."""


def floored_heads(sensitivity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Query sensitivities [layers, heads, head_dim], those of a head below the median head raised to its mean by one factor.

    A head that looks at one key with certainty, an attention sink for example, has next to no gradient: its softmax is saturated. Without
    its query it looks at all keys alike, which a second-order sensitivity cannot see.
    """
    mean = sensitivity.mean(-1, keepdims=True)
    floor = float(np.median(mean))
    raised = np.divide(sensitivity, mean, out=np.ones_like(sensitivity), where=mean > 0) * floor
    return np.where(mean < floor, raised, sensitivity)


def query_stops(weights: DecoderWeights, calibration: Calibration, query_price: float) -> list[NDArray[np.int32]]:
    """Query stop tables [heads, head_dim] of every layer at one price of a query spike."""
    return [stop_table(query_price, sensitivity, weights.formats.qkv) for sensitivity in floored_heads(calibration.query_sensitivity)]


def with_price(
    weights: DecoderWeights, calibration: Calibration, allocation: Allocation, price: float, query_price: float
) -> DecoderWeights:
    """The same decoder with the stop tables of one price per synaptic operation and one per query spike."""

    def table(site: int) -> NDArray[np.int32]:
        return site_stop(weights, allocation, site, price)

    layers = []
    for number, (layer, query_stop) in enumerate(zip(weights.layers, query_stops(weights, calibration, query_price), strict=True)):
        sites = {key: replace(getattr(layer, key), stop=table(4 * number + position)) for position, key in enumerate(SITES)}
        layers.append(replace(layer, query_stop=query_stop, **sites))
    head = replace(weights.head, stop=table(weights.config.sites - 1))
    return replace(weights, layers=tuple(layers), head=head)


@dataclass(frozen=True)
class Target:
    """What is asked of the sites: `asked` spikes per activation, or joules a token by `costs`; None: the given price, whatever it gives."""

    asked: float | None
    costs: SpikeCosts | None = None

    @property
    def unit(self) -> str:
        """What is counted, for messages."""
        return SITE_SPIKES if self.costs is None else SITE_ENERGY

    def amount(self, config: DecoderConfig, site_spikes: NDArray[np.float64]) -> float:
        """The counted amount of mean spikes a token and site [sites]."""
        if self.costs is not None:
            return float(site_spikes @ self.costs.spike_j) + self.costs.fixed_j
        shapes = [config.site_shape(site) for site in range(config.sites)]
        return float(site_spikes @ operation_costs(config)) / sum(inputs * outputs for inputs, outputs in shapes)

    @classmethod
    def of(cls, options: ConvertConfig, costs: SpikeCosts | None) -> Target:
        """The target of a conversion; ConversionError for joules without the costs of a spike, or for too few of them."""
        if options.energy_j is None:
            return cls(options.spikes)
        if costs is None:
            raise ConversionError("a budget in joules needs the costs of a spike; name the chip that they are of")
        if options.energy_j <= costs.fixed_j:
            raise ConversionError(
                f"{options.energy_j:g} joules a token cannot be met: without any spike a token costs {costs.fixed_j:.3g}; ask for more"
            )
        return cls(options.energy_j, costs)


@dataclass(frozen=True)
class Budget:
    """Outcome of meet_budget: weights with their stop tables, the prices, and the spikes per activation measured with them.

    `energy_j` is measured where the target is in joules.
    """

    weights: DecoderWeights
    price: float
    query_price: float
    spikes: float
    energy_j: float | None


def meet_budget(
    integers: DecoderWeights,
    calibration: Calibration,
    allocation: Allocation,
    options: ConvertConfig,
    windows: Sequence[Sequence[int]],
    device: str,
    *,
    target: Target | None = None,
    start: Budget | None = None,
    progress: Progress | None = None,
) -> Budget:
    """Stop tables that meet the asked amount (or have the asked price) and the query budget.

    start: an outcome for a network much like this one, whose prices are tried first. Raises ConversionError if the target cannot be met.
    """
    target = target or Target.of(options, None)
    first_price, query_price = (allocation.start_price, _START_QUERY_PRICE) if start is None else (start.price, start.query_price)
    price = first_price if options.price is None else options.price
    aim = asked = target.asked
    for attempt in range(_ATTEMPTS):
        weights = with_price(integers, calibration, allocation, price, query_price)
        run = RecordedInputs(weights, windows, device)
        reached = target.amount(weights.config, run.site_spikes)
        if progress:
            progress("meet the spike budget", attempt + 1, _ATTEMPTS)
        queries_met = options.parts == "feed-forward" or _near(run.query_spikes, options.query_spikes, _QUERY_TOLERANCE)
        queries_met = queries_met or (query_price == 0.0 and run.query_spikes <= options.query_spikes)
        sites_met = asked is None or _near(reached, asked, options.tolerance)
        if queries_met and sites_met:
            spikes = run.decoder.statistics.spikes_per_activation()
            return Budget(weights, price, query_price, spikes, None if target.costs is None else reached)
        if not queries_met:
            query_price = _query_price(run, integers, calibration, options.query_spikes)
        if asked is not None and aim is not None:
            if attempt:
                aim *= asked / reached
            price = site_price(run, integers, allocation, replace(target, asked=aim), options.tolerance / 4)
    missed = [] if sites_met else [f"{asked:g} {target.unit} (reached {reached:.3g})"]
    missed += [] if queries_met else [f"{options.query_spikes:g} {QUERY_SPIKES} (reached {run.query_spikes:.3f})"]
    raise ConversionError(
        f"{' and '.join(missed)} cannot be met in {_ATTEMPTS} attempts; ask for what was reached, or calibrate on more text"
    )


def _near(reached: float, asked: float, tolerance: float) -> bool:
    return abs(reached - asked) <= tolerance * asked


def site_price(run: RecordedInputs, integers: DecoderWeights, allocation: Allocation, target: Target, tolerance: float) -> float:
    """Price at which the recorded inputs meet the target, within `tolerance` of it."""
    assert target.asked is not None

    def measure(price: float) -> float:
        return target.amount(integers.config, run.spikes_with(integers, allocation, price))

    return price_for_spikes(measure, target.asked, tolerance, allocation.start_price, what=target.unit)[0]


def _query_price(run: RecordedInputs, integers: DecoderWeights, calibration: Calibration, asked: float) -> float:
    """Price of a query spike that meets `asked` on the recorded queries; 0 where they do not spike that often at all."""

    def measure(price: float) -> float:
        return run.query_spikes_with(query_stops(integers, calibration, price))

    if measure(0.0) <= asked:
        return 0.0
    return price_for_spikes(measure, asked, _QUERY_TOLERANCE / 4, _START_QUERY_PRICE, what=QUERY_SPIKES)[0]


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
        raise ConversionError(f"{asked:g} {what} cannot be met: this code emits {most:.4g} with no stop rule; ask for less")
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
    raise ConversionError(f"{asked:g} {what} cannot be met: the search ended at {reached:.4g}; ask for that many or more")
