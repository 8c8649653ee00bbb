"""Spike budget: the price at which an allocation's stop tables meet an asked number of spikes, or of joules.

One number for the whole network moves all prices of the sites together. Query spikes have a price and a budget of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.conversion.allocation.prices import Allocation, SpikeCosts, operation_costs, site_stop, stop_table
from neuromorphic_llm.conversion.allocation.recorded import RecordedInputs
from neuromorphic_llm.conversion.calibrate import Calibration, Progress
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.weights import DecoderWeights

_START_QUERY_PRICE = 1e-7
_QUERY_TOLERANCE = 0.03
_RECORDED_ATTEMPTS, _ATTEMPTS = 8, 16
_LEAST = 1e-9

NEAR = 2.0
"""Tolerances within which a missed target is still a result, with a note."""

SITE_SPIKES, SITE_ENERGY, QUERY_SPIKES = "spikes per activation", "joules per token", "query spikes per value"
"""Units of the budgets, for messages."""


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

    priced = weights.with_sites(lambda site, linear: replace(linear, stop=table(site.index)))
    queries = query_stops(weights, calibration, query_price)
    return priced.with_query_stops(lambda layer, _: queries[layer])


@dataclass(frozen=True)
class Target:
    """Target of the sites: `asked` spikes per activation, or joules per token by `costs`; None: the given price, whatever it gives."""

    asked: float | None
    costs: SpikeCosts | None = None

    @property
    def unit(self) -> str:
        """Unit of the target, for messages."""
        return SITE_SPIKES if self.costs is None else SITE_ENERGY

    def amount(self, config: DecoderConfig, site_spikes: NDArray[np.float64]) -> float:
        """The counted amount of mean spikes per token and site [sites]."""
        if self.costs is not None:
            return float(site_spikes @ self.costs.spike_j) + self.costs.fixed_j
        return float(site_spikes @ operation_costs(config)) / sum(site.inputs * site.outputs for site in config.sites)

    @classmethod
    def of(cls, options: ConvertConfig, costs: SpikeCosts | None) -> Target:
        """The target of a conversion; ConversionError for joules without the costs of a spike, or for too few of them."""
        if options.energy_j is None:
            return cls(options.spikes)
        if costs is None:
            raise ConversionError("a budget in joules needs the costs of a spike; name the chip that they are of")
        if options.energy_j <= costs.fixed_j:
            raise ConversionError(
                f"{options.energy_j:g} joules per token cannot be met: without any spike a token costs {costs.fixed_j:.3g}; ask for more"
            )
        return cls(options.energy_j, costs)


@dataclass(frozen=True)
class Budget:
    """Outcome of meet_budget: weights with their stop tables, the prices, and the spikes per activation measured with them.

    `energy_j` is measured where the target is in joules. `note` says by how much a target was missed, if by more than the tolerance.
    """

    weights: DecoderWeights
    price: float
    query_price: float
    spikes: float
    energy_j: float | None
    note: str | None = None


class TargetError(ConversionError):
    """More is asked for than the code emits without a stop rule; nothing but another target or code helps."""


@dataclass(frozen=True)
class _Attempt:
    """A network with the stop tables of two prices, and what it reached on the windows."""

    weights: DecoderWeights
    price: float
    query_price: float
    spikes: float  # per activation
    query_spikes: float
    reached: float  # of what the target counts

    def site_miss(self, target: Target) -> float:
        """Relative deviation from the asked amount, 0 where none is asked."""
        return 0.0 if target.asked is None else self.reached / target.asked - 1

    def query_miss(self, options: ConvertConfig) -> float:
        """Relative deviation from the asked query spikes; 0 where none are counted, or all are kept and fewer."""
        few = self.query_price == 0.0 and self.query_spikes <= options.query_spikes
        return 0.0 if few or options.parts == "feed-forward" else self.query_spikes / options.query_spikes - 1

    def miss(self, target: Target, options: ConvertConfig) -> float:
        """The larger deviation, in tolerances: at most 1 is met, at most NEAR is taken with a note."""
        return max(abs(self.site_miss(target)) / options.tolerance, abs(self.query_miss(options)) / _QUERY_TOLERANCE)

    def missed(self, target: Target, options: ConvertConfig, slack: float = 1.0) -> list[str]:
        """Targets missed by more than `slack` tolerances, with the values reached."""
        found = []
        if abs(self.site_miss(target)) > slack * options.tolerance:
            found.append(f"{target.asked:g} {target.unit} (reached {self.reached:.3g})")
        if abs(self.query_miss(options)) > slack * _QUERY_TOLERANCE:
            found.append(f"{options.query_spikes:g} {QUERY_SPIKES} (reached {self.query_spikes:.3f})")
        return found


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
    """Stop tables that meet the asked amount (or have the asked price) and the query budget, each within its tolerance.

    start: an outcome for a network much like this one, whose prices are tried first. The nearest of all attempts is taken with a note if
    it is within NEAR tolerances. Raises ConversionError otherwise, TargetError if the code has no more spikes than it reached.
    """
    target = target or Target.of(options, None)
    first_price, query_price = (allocation.start_price, _START_QUERY_PRICE) if start is None else (start.price, start.query_price)
    price = first_price if options.price is None else options.price
    aim, attempts = target.asked, list[_Attempt]()
    for number in range(_ATTEMPTS):
        weights = with_price(integers, calibration, allocation, price, query_price)
        run = RecordedInputs(weights, windows, device)
        spikes, reached = run.decoder.statistics.spikes_per_activation(), target.amount(weights.config, run.site_spikes)
        attempt = _Attempt(weights, price, query_price, spikes, run.query_spikes, reached)
        attempts.append(attempt)
        if progress:
            progress("meet the spike budget", number + 1, _ATTEMPTS)
        if attempt.miss(target, options) <= 1:
            break
        if abs(attempt.query_miss(options)) > _QUERY_TOLERANCE:
            query_price = _query_price(run, integers, calibration, options.query_spikes)
        if target.asked is None or aim is None:
            continue
        _refuse_more_than_all(attempt, target, options)
        if number:
            aim *= target.asked / max(attempt.reached, _LEAST)
        between = _between(attempts, target.asked) if len(attempts) >= _RECORDED_ATTEMPTS else None
        slack = math.inf if number else NEAR * options.tolerance  # what is asked counts, not what is aimed at later
        aimed = replace(target, asked=aim)
        price = between or site_price(run, integers, allocation, aimed, options.tolerance / 4, slack)
        if price == attempt.price == 0.0 and query_price == attempt.query_price:
            break  # nothing is left to try
    return _nearest(attempts, target, options)


def _between(attempts: Sequence[_Attempt], asked: float) -> float | None:
    """A price between those of the attempts that came nearest from above and from below; None if all are on one side.

    For networks whose inputs change so much with the price that those just recorded say little of the next ones.
    """
    above = min((each for each in attempts if each.reached > asked), key=lambda each: each.reached, default=None)
    below = max((each for each in attempts if each.reached <= asked), key=lambda each: each.reached, default=None)
    if above is None or below is None:
        return None
    if not above.price or not below.price:
        return (above.price + below.price) / 2
    return float(np.sqrt(above.price * below.price))


def _refuse_more_than_all(attempt: _Attempt, target: Target, options: ConvertConfig) -> None:
    """TargetError if nothing was held back and still the target was missed from below."""
    if attempt.price == 0.0 and attempt.site_miss(target) < -NEAR * options.tolerance:
        raise TargetError(
            f"{target.asked:g} {target.unit} cannot be met: this code emits {attempt.reached:.4g} with no stop rule; ask for less"
        )


def _nearest(attempts: Sequence[_Attempt], target: Target, options: ConvertConfig) -> Budget:
    """The nearest attempt as the outcome, with a note if it is not within the tolerances; ConversionError if it is too far off."""
    best = min(attempts, key=lambda each: each.miss(target, options))
    if too_far := best.missed(target, options, NEAR):
        advice = "ask for what was reached, allow more (--tolerance), or calibrate on more text"
        raise ConversionError(f"{' and '.join(too_far)} cannot be met in {len(attempts)} attempts; {advice}")
    missed = best.missed(target, options)
    note = f"asked for {' and '.join(missed)}" if missed else None
    energy_j = None if target.costs is None else best.reached
    return Budget(best.weights, best.price, best.query_price, best.spikes, energy_j, note)


def site_price(
    run: RecordedInputs, integers: DecoderWeights, allocation: Allocation, target: Target, tolerance: float, slack: float | None = None
) -> float:
    """Price at which the recorded inputs meet the target within `tolerance` of it, or come nearest to it.

    TargetError if more than (1 + slack) times all their spikes is asked for; slack is the tolerance unless it is given.
    """
    assert target.asked is not None

    def measure(price: float) -> float:
        return target.amount(integers.config, run.spikes_with(integers, allocation, price))

    return nearest_price(measure, target.asked, tolerance, allocation.start_price, what=target.unit, slack=slack)[0]


def _query_price(run: RecordedInputs, integers: DecoderWeights, calibration: Calibration, asked: float) -> float:
    """Price of a query spike that meets `asked` on the recorded queries; 0 where they do not spike that often at all."""

    def measure(price: float) -> float:
        return run.query_spikes_with(query_stops(integers, calibration, price))

    if measure(0.0) <= asked:
        return 0.0
    return nearest_price(measure, asked, _QUERY_TOLERANCE / 4, _START_QUERY_PRICE, what=QUERY_SPIKES)[0]


def price_for_spikes(
    measure: Callable[[float], float], asked: float, tolerance: float, start: float, limit: int = 24, what: str = SITE_SPIKES
) -> tuple[float, float]:
    """Price whose measured spikes are within `tolerance` of `asked`: (price, reached spikes). ConversionError if there is none."""
    price, reached = nearest_price(measure, asked, tolerance, start, limit, what)
    if abs(reached - asked) > tolerance * asked:
        raise ConversionError(f"{asked:g} {what} cannot be met: the search ended at {reached:.4g}; ask for that many or more")
    return price, reached


def nearest_price(
    measure: Callable[[float], float],
    asked: float,
    tolerance: float,
    start: float,
    limit: int = 24,
    what: str = SITE_SPIKES,
    slack: float | None = None,
) -> tuple[float, float]:
    """Price whose measured spikes come nearest to `asked`, the first within `tolerance` of it: (price, reached spikes).

    Secant steps on (log price, spikes), kept inside a shrinking bracket. Raises ConversionError for a network without spikes, TargetError
    if `asked` is more than (1 + slack) times all of them; slack is the tolerance unless it is given.
    """
    most = measure(0.0)
    if most == 0.0:
        raise ConversionError("the network emits no spikes even without a stop rule; its weights are zero or far too small")
    if asked > most * (1 + (tolerance if slack is None else slack)):
        raise TargetError(f"{asked:g} {what} cannot be met: this code emits {most:.4g} with no stop rule; ask for less")
    if asked >= most or most - asked <= tolerance * asked:
        return 0.0, most
    low, high = -np.inf, np.inf  # log prices known to give too many / too few spikes
    log_price, previous = float(np.log(start)), None
    tried = [(0.0, most)]
    for _ in range(limit):
        reached = measure(float(np.exp(log_price)))
        tried.append((float(np.exp(log_price)), reached))
        if abs(reached - asked) <= tolerance * asked:
            break
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
    return min(tried, key=lambda pair: abs(pair[1] - asked))
