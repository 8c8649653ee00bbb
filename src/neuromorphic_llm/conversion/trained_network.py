"""The integer network of a fine-tuned decoder: its trained weights, and its learned prices as stop tables that meet the spikes exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromorphic_llm.conversion.budget import NEAR
from neuromorphic_llm.conversion.emulation import Prices
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights

_TOLERANCE = 0.001
_ATTEMPTS = 10
_SLOPE = -0.3
"""Slope of spikes over log prices, relative to the spikes: the first guess."""


def with_prices(weights: DecoderWeights, prices: Prices, factor: float = 1.0) -> DecoderWeights:
    """The decoder with these prices times `factor` as stop tables; those of the queries as they are."""

    def table(price: Tensor, fraction: int, times: float) -> NDArray[np.int32]:
        return np.minimum(np.round(price.double().numpy() * times * 4.0**fraction), 2**31 - 1).astype(np.int32)

    def stop(index: int) -> NDArray[np.int32]:
        return table(prices.sites[index], weights.input_fraction(index), factor)

    trained = weights.with_sites(lambda site, linear: replace(linear, stop=stop(site.index)))
    return trained.with_query_stops(lambda layer, _: table(prices.queries[layer], weights.formats.qkv, 1.0))


def meet_spikes(
    weights: DecoderWeights, prices: Prices, spikes: float, windows: Sequence[Sequence[int]], device: str, tolerance: float = 0.01
) -> tuple[DecoderWeights, float]:
    """(weights with the prices all times one factor, spikes per activation on the windows), at most 0.1 % below `spikes` and not above.

    On short windows a factor moves the spikes in jumps, and up to NEAR times the share `tolerance` below is taken. Raises
    ConversionError if no factor does that.
    """
    most, least = -np.inf, np.inf  # log factors known to give too many spikes, and few enough
    log_factor, previous, best = 0.0, None, (weights, 0.0)
    for _ in range(_ATTEMPTS):
        found = with_prices(weights, prices, float(np.exp(log_factor)))
        decoder = FunctionalDecoder(found, device)
        for window in windows:
            decoder.forward(torch.tensor([list(window)]))
        reached = decoder.statistics.spikes_per_activation()
        if best[1] < reached <= spikes:
            best = found, reached
        if best[1] >= (1 - _TOLERANCE) * spikes or (previous is not None and previous[1] == reached < spikes):
            break
        most, least = (max(most, log_factor), least) if reached > spikes else (most, min(least, log_factor))
        slope = _SLOPE * spikes
        if previous is not None and previous[0] != log_factor:
            slope = min((reached - previous[1]) / (log_factor - previous[0]), 0.2 * slope)
        previous = (log_factor, reached)
        log_factor += float(np.clip((spikes * (1 - _TOLERANCE / 2) - reached) / slope, -2.0, 2.0))
        if np.isfinite(most) and np.isfinite(least) and not most < log_factor < least:
            log_factor = float(most + least) / 2
    if best[1] < (1 - NEAR * tolerance) * spikes:
        raise ConversionError(
            f"{spikes:g} spikes per activation cannot be met: the search ended at {best[1]:.4g}; "
            "hold out more text, ask for fewer, or allow more (--tolerance)"
        )
    return best
