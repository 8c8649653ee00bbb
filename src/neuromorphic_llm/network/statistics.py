"""Exact spike counts of a functional simulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from neuromorphic_llm.network.operations import AttentionResult
from neuromorphic_llm.reference.config import DecoderConfig


class SpikeStatistics:
    """Sums over all tokens since the last reset; device tensors are read only when asked for."""

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self.tokens = 0
        self._site_spikes: dict[tuple[int, ...], torch.Tensor] = {}  # by the sites that run together
        self._site_rows = [0] * len(self._config.sites)
        self._attention: list[torch.Tensor | int] = [0] * self._config.layers
        windows = (block.window for block in self._config.attention_blocks)
        self._visible: dict[int, torch.Tensor | int] = dict.fromkeys(windows, 0)  # keys, by window

    def add_sites(self, sites: tuple[int, ...], spikes: Sequence[torch.Tensor], kept: torch.Tensor | None = None) -> None:
        """Count the spikes int64 [rows] of crossbar sites that ran one after another; of the rows `kept` only, if given."""
        counts = _rows(torch.stack(list(spikes)), kept)
        self._site_spikes[sites] = self._site_spikes.get(sites, 0) + counts.sum(1)
        for site in sites:
            self._site_rows[site] += counts.shape[1]

    def add_attention(self, layer: int, result: AttentionResult, position: torch.Tensor, kept: torch.Tensor | None = None) -> None:
        """Count query and probability spikes and the keys they read; position int64 [rows]; of the rows `kept` only, if given."""
        counts = _rows(torch.stack((result.query_spikes, result.probability_spikes, result.probability_keys)), kept)
        self._attention[layer] = self._attention[layer] + counts.sum((1, 2))
        if layer == self._config.attention_blocks[0].layer:
            visible = (position if kept is None else position[kept]) + 1
            for window, before in self._visible.items():
                self._visible[window] = before + (visible.clamp(max=window) if window else visible).sum()

    def site_spikes(self) -> list[int]:
        """Spikes per crossbar site."""
        spikes = [0] * len(self._config.sites)
        for sites, counts in self._site_spikes.items():
            for site, count in zip(sites, counts.tolist(), strict=True):
                spikes[site] += count
        return spikes

    def spikes_per_input(self) -> list[float]:
        """Mean spikes per input and token of every site (0.0 for a site that did not run)."""
        inputs = [site.inputs for site in self._config.sites]
        return [s / (i * r) if r else 0.0 for s, i, r in zip(self.site_spikes(), inputs, self._site_rows, strict=True)]

    def spikes_per_activation(self) -> float:
        """Synaptic operations per weight and token of the sites that ran (numerics.md); 0.0 before any token."""
        operations = touched = 0
        for index, spikes in enumerate(self.site_spikes()):
            inputs, outputs = self._config.sites[index].shape
            operations += spikes * outputs
            touched += self._site_rows[index] * inputs * outputs
        return operations / touched if touched else 0.0

    def _attention_counts(self) -> tuple[int, int, int]:
        query = probability = keys = 0
        for counts in self._attention:
            if isinstance(counts, torch.Tensor):
                q, p, k = counts.tolist()
                query, probability, keys = query + q, probability + p, keys + k
        return query, probability, keys

    def query_spikes_per_value(self) -> float:
        """Mean spikes per query value."""
        values = self.tokens * sum(block.queries for block in self._config.attention_blocks)
        return self._attention_counts()[0] / values if values else 0.0

    def _pairs(self) -> int:
        return sum(int(self._visible[block.window]) * block.heads for block in self._config.attention_blocks)

    def probability_spikes_per_pair(self) -> float:
        """Mean spikes per visible query-key pair."""
        return self._attention_counts()[1] / self._pairs() if self._pairs() else 0.0

    def value_rows_read(self) -> float:
        """Share of visible query-key pairs whose value row is read at all."""
        return self._attention_counts()[2] / self._pairs() if self._pairs() else 0.0

    def to_json(self) -> dict[str, Any]:
        """Figures as a JSON object."""
        return {
            "tokens": self.tokens,
            "spikes_per_activation": self.spikes_per_activation(),
            "query_spikes_per_value": self.query_spikes_per_value(),
            "probability_spikes_per_pair": self.probability_spikes_per_pair(),
            "value_rows_read": self.value_rows_read(),
            "spikes_per_input_by_site": {self._config.sites[index].name: mean for index, mean in enumerate(self.spikes_per_input())},
        }


def _rows(counts: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Counts [kinds, rows, ..] of the rows `kept`."""
    return counts if kept is None else counts[:, kept]
