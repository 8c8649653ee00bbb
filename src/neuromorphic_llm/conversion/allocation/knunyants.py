"""Thresholds by a loss budget (Knunyants et al., arXiv 2501.16337): keep fractions found greedily, site by site in network order.

Each site keeps the smallest fraction of its inputs with which the loss of the text is at most 1.0005 times what it was before; earlier
sites keep their thresholds. Thresholds become stop tables, R = threshold^2, so that one price moves all of them to the asked spikes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neuromorphic_llm.conversion.allocation.prices import Allocation
from neuromorphic_llm.conversion.allocation.search import (
    LEAST_ZEROED,
    LayerwiseDecoder,
    Replace,
    SearchInput,
    above,
    dead_zones,
    magnitude,
    ordered_magnitudes,
)

LOSS_BUDGET = 1.0005
_KEEP = tuple(1 - share / 20 for share in range(1, 20))
"""Fractions tried, falling: 0.95 .. 0.05."""


@torch.no_grad()
def knunyants(given: SearchInput) -> Allocation:
    """Dead zones by the loss budget of each site."""
    run = LayerwiseDecoder(given.canonical, given.windows, given.device)
    config = run.config
    thresholds: list[float] = []
    zeroed: dict[int, Replace] = {}
    history: list[dict[str, Any]] = []
    x = run.residual[0]
    loss = run.loss(run.logits_from(0, x, {}))
    for site in range(len(config.sites)):
        keep, threshold, loss = _search(run, site, x, zeroed, loss)
        thresholds.append(threshold)
        zeroed[site] = above(threshold)
        history.append({"site": site, "keep": keep, "loss": loss})
        layer = config.sites[site].stage
        if site == config.layer_sites(layer)[-1].index and layer < config.layers:
            x = run.layer(layer, x, zeroed)
        given.report("keep fraction of each site", site + 1, len(config.sites))
    return dead_zones(given.base, thresholds, "knunyants", history)


def _search(run: LayerwiseDecoder, site: int, x: Tensor, zeroed: dict[int, Replace], loss: float) -> tuple[float, float, float]:
    """(keep fraction, its threshold, loss with it) of one site; x is the stream in front of its layer, `loss` the loss before."""
    ordered = ordered_magnitudes(_input(run, site, x, zeroed))

    def tried(keep: float) -> tuple[float, float, float]:
        threshold = magnitude(ordered, 1 - keep)
        return keep, threshold, run.loss(run.logits_from(run.config.sites[site].stage, x, {**zeroed, site: above(threshold)}))

    best = tried(1 - LEAST_ZEROED)
    low, high = 0, len(_KEEP)  # the fractions before _KEEP[low] keep the budget, those from _KEEP[high] on do not
    while low < high:
        middle = (low + high) // 2
        candidate = tried(_KEEP[middle])
        if candidate[2] <= LOSS_BUDGET * loss:
            low, best = middle + 1, candidate
        else:
            high = middle
    return best


def _input(run: LayerwiseDecoder, site: int, x: Tensor, zeroed: dict[int, Replace]) -> Tensor:
    """Input of a site when the stream in front of its layer is x and the sites before it have their thresholds."""
    if site == run.config.head.index:
        return run.decoder.norm("model.norm", x)
    seen: list[Tensor] = []

    def keep(values: Tensor) -> Tensor:
        seen.append(values)
        return values

    run.layer(run.config.sites[site].stage, x, {**zeroed, site: keep})
    return seen[0]
