"""Spike budget: stop tables from sensitivities and one price, and the price that meets an asked number of spikes.

A spike at a site with n outputs costs n synaptic operations; an error e_i costs F_i e_i^2 / 2 (calibrate.py). Minimising loss plus
lambda times synaptic operations makes the stop table of numerics.md

    R_i = lambda * n / F_i        (in units of x squared)

one number for the whole network. Query spikes have a price and a budget of their own: attention sinks make the model break, rather than
degrade, when queries lose too many of them, which the second-order sensitivity cannot see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.convert.calibrate import Calibration, Progress
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import SITES, DecoderWeights


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


def measure_spikes(weights: DecoderWeights, windows: Sequence[Sequence[int]], device: str) -> tuple[float, float]:
    """(mean spikes per activation, mean spikes per query value) of a decoder on token windows."""
    decoder = FunctionalDecoder(weights, device)
    for window in windows:
        decoder.forward(torch.tensor([list(window)]))
    return decoder.statistics.spikes_per_activation(), decoder.statistics.query_spikes_per_value()


def price_for_spikes(
    measure: Callable[[float], float], asked: float, tolerance: float, start: float, progress: Progress | None = None, limit: int = 14
) -> tuple[float, float]:
    """Price whose measured spikes are within `tolerance` of `asked`: (price, reached spikes).

    Secant steps on (log price, spikes), kept inside a shrinking bracket. Raises ConversionError if the target cannot be met.
    """
    most = measure(0.0)
    if asked > most * (1 + tolerance):
        raise ConversionError(f"{asked:g} spikes per activation cannot be met: this code emits {most:.3f} with no stop rule; ask for less")
    if abs(asked - most) <= tolerance * asked:
        return 0.0, most
    low, high = -np.inf, np.inf  # log prices known to give too many / too few spikes
    log_price, previous = float(np.log(start)), None
    for step in range(limit):
        reached = measure(float(np.exp(log_price)))
        if progress:
            progress("meet the spike budget", step + 1, limit)
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
    raise ConversionError(f"{asked:g} spikes per activation cannot be met: the search ended at {reached:.3f}")
