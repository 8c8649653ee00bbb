"""Greedy allocation on the measured divergence of the logits per synaptic operation saved.

For every site alone coded, all others exact, the divergence from the dense decoder is measured at two prices; between and beyond them its
logarithm is taken as linear in that of the price. All sites begin at a low price; the site where a step up loses least divergence per
operation saved takes it, until the asked amount is met.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.conversion.allocation.prices import Allocation, site_stop
from neuromorphic_llm.conversion.allocation.recorded import RecordedInputs
from neuromorphic_llm.conversion.allocation.search import LayerwiseDecoder, SearchInput, coded_as

_STEPS = np.arange(-12, 13)
"""Prices on offer: the base's times 2^(step / 2)."""

_MEASURED = (-2, 6)
"""Steps at which the divergence is measured."""

_LEAST_DIVERGENCE = 1e-9


def greedy(given: SearchInput) -> Allocation:
    """Costs of all sites by the greedy walk."""
    run = given.recorded()
    price = given.price(run, given.base)
    divergence = _divergences(given, run, price)
    spikes = _spikes(given, run, price)
    weight = given.base.costs
    operations = spikes * weight[:, None]
    asked = float(operations[:, _STEPS == 0].sum())
    steps = _walk(divergence, operations, asked)
    factors = np.exp2(_STEPS[steps] / 2)
    history: list[dict[str, Any]] = [
        {"site": site, "factor": float(factors[site]), "divergence": float(divergence[site, steps[site]])} for site in range(len(steps))
    ]
    return replace(given.base, method="greedy", costs=given.base.costs * factors, history=tuple(history), start_price=max(price, 1e-12))


def _divergences(given: SearchInput, run: RecordedInputs, price: float) -> NDArray[np.float64]:
    """Divergence [sites, steps] with one site coded: measured at two steps, a power law in the price elsewhere."""
    dense = LayerwiseDecoder(given.canonical, given.windows, given.device)
    config = given.integers.config
    table = np.zeros((len(config.sites), len(_STEPS)))
    for site in range(len(config.sites)):
        layer = config.sites[site].stage
        measured = []
        for step in _MEASURED:
            stop = site_stop(given.integers, given.base, site, price * 2.0 ** (step / 2))
            logits = dense.logits_from(layer, dense.residual[layer], {site: coded_as(run, site, stop)})
            measured.append(math.log(max(dense.divergence(logits), _LEAST_DIVERGENCE)))
        slope = max((measured[1] - measured[0]) / (_MEASURED[1] - _MEASURED[0]), 0.0)
        table[site] = np.exp(measured[1] + slope * (_STEPS - _MEASURED[1]))
        given.report("measure the divergence of each site", site + 1, len(config.sites))
    return table


def _spikes(given: SearchInput, run: RecordedInputs, price: float) -> NDArray[np.float64]:
    """Mean spikes per token [sites, steps] of the recorded inputs."""
    columns = [run.spikes_with(given.integers, given.base, price * 2.0 ** (step / 2)) for step in _STEPS]
    return np.stack(columns, axis=1)


def _walk(divergence: NDArray[np.float64], operations: NDArray[np.float64], asked: float) -> NDArray[np.int64]:
    """Index of the step of every site [sites] when the operations have come down to `asked`."""
    at = np.zeros(len(divergence), np.int64)
    total = float(operations[:, 0].sum())

    def loss_per_operation(site: int) -> float:
        saved = operations[site, at[site]] - operations[site, at[site] + 1]
        lost = divergence[site, at[site] + 1] - divergence[site, at[site]]
        return lost / saved if saved > 0 else 0.0

    heap = [(loss_per_operation(site), site) for site in range(len(divergence))]
    heapq.heapify(heap)
    while heap and total > asked:
        _, site = heapq.heappop(heap)
        total -= float(operations[site, at[site]] - operations[site, at[site] + 1])
        at[site] += 1
        if at[site] + 1 < divergence.shape[1]:
            heapq.heappush(heap, (loss_per_operation(site), site))
    return at
