"""Inputs of a network, recorded once: counting their spikes at other prices needs the encoder only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.conversion.allocation.prices import Allocation, site_stop
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights

_STRIDE = 4


class RecordedInputs:
    """Inputs of all crossbar sites and all queries of one run over token windows, every fourth token.

    They hardly depend on the prices. `site_spikes` [sites] and `query_spikes` are those of the run itself, all its tokens.
    """

    def __init__(self, weights: DecoderWeights, windows: Sequence[Sequence[int]], device: str) -> None:
        self.config = weights.config
        self.decoder = FunctionalDecoder(weights, device)
        inputs: list[list[torch.Tensor]] = [[] for _ in range(len(weights.config.sites))]
        queries: list[list[torch.Tensor]] = [[] for _ in range(weights.config.layers)]
        self.decoder.observer = lambda index, x, _: inputs[index].append(x[::_STRIDE].clone())
        self.decoder.query_observer = lambda layer, q: queries[layer].append(q[::_STRIDE].clone())
        for window in windows:
            self.decoder.forward(torch.tensor([list(window)]))
        self.decoder.observer = self.decoder.query_observer = None
        self._inputs = [torch.cat(chunks) for chunks in inputs]
        self._queries = {layer: torch.cat(chunks) for layer, chunks in enumerate(queries) if chunks}
        statistics = self.decoder.statistics
        self.site_spikes: NDArray[np.float64] = np.array(statistics.site_spikes(), np.float64) / statistics.tokens
        self.query_spikes = statistics.query_spikes_per_value()

    def spikes_of(self, site: int, stop: NDArray[np.int32]) -> float:
        """Mean spikes per token of the recorded inputs of one site with another stop table [inputs]; 0 where it does not spike."""
        if not self.decoder.weights.site(site).spiking:
            return 0.0
        x = self._inputs[site]
        return float(self.decoder.encode(x, torch.from_numpy(stop).to(x.device)).spikes.sum()) / len(x)

    def spikes_with(self, weights: DecoderWeights, allocation: Allocation, price: float) -> NDArray[np.float64]:
        """Mean spikes per token of every site [sites] at a price."""
        sites = range(len(self.config.sites))
        return np.array([self.spikes_of(site, site_stop(weights, allocation, site, price)) for site in sites])

    def query_spikes_with(self, stops: Sequence[NDArray[np.int32]]) -> float:
        """Mean spikes per value of the recorded queries with the query stop tables [heads, head_dim] of each layer."""
        total = 0.0
        for layer, q in self._queries.items():
            for head in range(self.config.heads):
                stop = torch.from_numpy(stops[layer][head]).to(q.device)
                coded = self.decoder.operations.encode(q[:, head].contiguous(), stop, self.decoder.weights.code.query_phases)
                total += float(coded.spikes.sum()) / len(q)
        return total / max(len(self._queries) * self.config.heads * self.config.head_dim, 1)
