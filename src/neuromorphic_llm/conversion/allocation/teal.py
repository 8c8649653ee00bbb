"""TEAL's allocation (Liu et al., arXiv 2408.14690, algorithm 1): input sparsity of the sites of a block, greedily by its output error.

In every layer all sites begin dense. The site whose next step leaves the layer's output closest to the dense one takes it; a step zeroes as
many more of a site's inputs as make the same share of the layer's weights idle. All layers take the same number of steps, as many as the
asked spikes need. Thresholds become stop tables, R = threshold^2. The head, which TEAL leaves dense, is a block of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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

_STEP, _MOST = 0.02, 0.95


class _Block:
    """One layer: sparsities of its four sites and the thresholds that make them."""

    def __init__(self, dense: LayerwiseDecoder, number: int) -> None:
        self.number, self.dense = number, dense
        self.sites = dense.config.layer_sites(number)
        weights = np.array([site.inputs * site.outputs for site in self.sites], np.float64)
        self.steps = _STEP * weights.sum() / weights
        self.sparsity = np.full(len(self.sites), LEAST_ZEROED)
        self.ordered = [ordered_magnitudes(dense.sites[site.index]) for site in self.sites]

    def thresholds(self, sparsity: NDArray[np.float64]) -> list[float]:
        """Thresholds of the four sites."""
        return [magnitude(ordered, share) for share, ordered in zip(sparsity, self.ordered, strict=True)]

    def advance(self) -> tuple[int, float]:
        """Take the step that leaves the smallest squared error of the layer's output: (position of the site, that error)."""
        number, best = self.number, (-1, float("inf"))
        for position in range(len(self.sites)):
            tried = self.sparsity.copy()
            tried[position] += self.steps[position]
            if tried[position] > _MOST:
                continue
            zeroed: dict[int, Replace] = {
                site.index: above(threshold) for site, threshold in zip(self.sites, self.thresholds(tried), strict=True)
            }
            output = self.dense.layer(number, self.dense.residual[number], zeroed)
            error = float((output - self.dense.residual[number + 1]).square().sum())
            if error < best[1]:
                best = position, error
        if best[0] >= 0:
            self.sparsity[best[0]] += self.steps[best[0]]
        return best


@torch.no_grad()
def teal(given: SearchInput) -> Allocation:
    """Dead zones by TEAL's greedy algorithm."""
    run = given.recorded()
    asked = given.target.amount(given.integers.config, run.spikes_with(given.integers, given.base, given.price(run, given.base)))
    dense = LayerwiseDecoder(given.canonical, given.windows, given.device)
    blocks = [_Block(dense, number) for number in range(dense.config.layers)]
    head, head_sparsity = ordered_magnitudes(dense.sites[dense.config.head.index]), LEAST_ZEROED
    history: list[dict[str, Any]] = []
    most = int(_MOST / _STEP)
    for step in range(most):
        thresholds = [threshold for block in blocks for threshold in block.thresholds(block.sparsity)]
        thresholds.append(magnitude(head, head_sparsity))
        allocation = dead_zones(given.base, thresholds, "teal", history)
        if given.target.amount(dense.config, run.spikes_with(given.integers, allocation, 1.0)) <= asked:
            break
        for block in blocks:
            position, error = block.advance()
            history.append({"step": step, "layer": block.number, "position": position, "squared_error": error if position >= 0 else None})
        head_sparsity = min(head_sparsity + _STEP, _MOST)
        given.report("sparsity of each layer", step + 1, most)
    return allocation
