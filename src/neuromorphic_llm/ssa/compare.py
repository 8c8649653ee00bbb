"""The rows of the comparison: dense attention, spiking self-attention and this project's, on one text (docs/reference/ssa.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert
from neuromorphic_llm.evaluation.language_model import EncodedText, check_window
from neuromorphic_llm.evaluation.scored_model import DenseModel, ScoredModel, SpikingModel
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.ssa.attention import SsaCounts
from neuromorphic_llm.ssa.energy import (
    AttentionStatistics,
    AttentionTotals,
    chip_energy_j_per_token,
    dense_activity,
    spike_rates,
    ssa_activity,
)
from neuromorphic_llm.ssa.metrics import HiddenStates, Quality, model_states, network_states, quality
from neuromorphic_llm.ssa.replace import Places

CHIP = "nc1"
"""Chip whose constants and memories price attention."""


@dataclass(frozen=True)
class Row:
    """One row of the table; what a row has no value for is None."""

    name: str
    quality: Quality
    activity: AttentionTotals
    chip_energy_j: dict[str, float]  # per token: low, nominal, high
    spike_rates: dict[str, float] | None = None
    query_spikes_per_value: float | None = None
    probability_spikes_per_pair: float | None = None
    feed_forward_spikes_per_value: float | None = None

    def to_json(self, dense: Row) -> dict[str, Any]:
        """JSON object: quality, spikes and energies, with the changes against the row of the dense model."""
        own, tokens = self.activity, self.activity.tokens
        reason = {} if self.spike_rates or self.query_spikes_per_value else {"spikes_reason": "a dense model has no spikes"}
        spikes: dict[str, Any] | None = {
            key: value
            for key, value in {
                **(self.spike_rates or {}),
                "query_spikes_per_value": self.query_spikes_per_value,
                "probability_spikes_per_pair": self.probability_spikes_per_pair,
                "feed_forward_spikes_per_value": self.feed_forward_spikes_per_value,
            }.items()
            if value is not None
        } or None
        return {
            "name": self.name,
            **self.quality.to_json(),
            "perplexity_change": self.quality.perplexity / dense.quality.perplexity - 1,
            "spikes": spikes,
            **reason,
            "multiply_accumulates_per_token": (own.products + own.projections).multiply_accumulates / tokens,
            "accumulates_per_token": (own.products + own.projections).accumulates / tokens,
            "products_energy_j_per_token": own.products.energy_j / tokens,
            "products_energy_reduction": own.reduction(dense.activity),
            "block_energy_j_per_token": (own.products + own.projections).energy_j / tokens,
            "block_energy_reduction": own.reduction(dense.activity, block=True),
            "chip_energy_j_per_token": self.chip_energy_j,
        }


class SsaComparison:
    """Makes rows on one text against one dense model. UsageError for a window that the model cannot hold."""

    def __init__(self, checkpoint: Checkpoint, text: EncodedText, window: int, batch: int = 1, device: torch.device | str = "cpu") -> None:
        check_window(window, checkpoint.config.max_positions)
        self.checkpoint, self.text, self.window, self.batch = checkpoint, text, window, batch
        self.device = torch.device(device)
        self.dense: Any = checkpoint.dense_model(device=device)
        self.shape, self.spec = checkpoint.config, load_spec(CHIP)
        self._calibration: Calibration | None = None  # of the first call of network_rows

    def dense_row(self) -> Row:
        """The dense model itself."""
        own = self._quality(DenseModel(self.dense), model_states(self.dense))
        activity = dense_activity(self.shape, [len(part) for part in self.text.windows(self.window)])
        return self._row("dense", own, activity)

    def ssa_row(self, name: str, student: Any, *, feed_forward: bool = False) -> Row:
        """A model whose attention spikes; with `feed_forward` its rate-coded feed-forward layers are on."""
        places = Places(student)
        modules, linears = places.spiking(), places.rate_coded()
        for linear in linears:
            linear.enabled = feed_forward

        def count() -> None:
            for module in modules:
                module.counts = SsaCounts()
            for linear in linears:
                linear.counting, linear.spikes, linear.values = True, 0, 0

        own = self._quality(DenseModel(student), model_states(student), count)
        activity, rates = ssa_activity(self.shape, modules), spike_rates(modules)
        for module in modules:
            module.counts = None
        values = sum(linear.values for linear in linears)
        spikes = sum(float(linear.spikes) for linear in linears) / values if values else None
        for linear in linears:
            linear.enabled, linear.counting = True, False
        return self._row(name, own, activity, spike_rates=rates, feed_forward_spikes_per_value=spikes)

    def network_rows(
        self, spikes: float, query_spikes: float, calibration_text: Sequence[Sequence[int]], seed: int = 0, tolerance: float = 0.01
    ) -> list[Row]:
        """Integer networks of the same checkpoint: attention spiking only, and everything, at one price per spike.

        The price is the one at which everything has `spikes` per activation, within the share `tolerance` or nearly. Raises
        ConversionError as convert().
        """
        checkpoint = self.checkpoint
        calibration_text = [window[: self.shape.max_positions] for window in calibration_text]
        if self._calibration is None:
            self._calibration = calibrate_checkpoint(checkpoint, calibration_text, device=self.device.type, seed=seed)
        calibration = self._calibration

        def network(options: ConvertConfig) -> SpikingNetwork:
            return convert(checkpoint, options, calibration_text, calibration=calibration, device=self.device.type)

        whole = network(ConvertConfig(spikes=spikes, query_spikes=query_spikes, seed=seed, tolerance=tolerance))
        price = float(whole.provenance["price"])
        attention = network(ConvertConfig(spikes=None, price=price, query_spikes=query_spikes, parts="attention", seed=seed))
        return [self._network_row("ours-attention", attention), self._network_row("ours", whole)]

    def _network_row(self, name: str, network: SpikingNetwork) -> Row:
        decoder = network.functional(self.device.type)
        decoder.statistics = statistics = AttentionStatistics(decoder.config)
        own = self._quality(SpikingModel(decoder), network_states(decoder, self.dense), statistics.reset)
        return self._row(
            name,
            own,
            statistics.activity(decoder.config),
            query_spikes_per_value=statistics.query_spikes_per_value(),
            probability_spikes_per_pair=statistics.probability_spikes_per_pair(),
        )

    def _quality(self, model: ScoredModel, states: HiddenStates, on_text: Callable[[], None] = lambda: None) -> Quality:
        return quality(model, states, self.dense, self.text, self.window, self.batch, on_text)

    def _row(self, name: str, own: Quality, activity: AttentionTotals, **figures: Any) -> Row:
        energy = chip_energy_j_per_token(activity, self.shape, self.spec)
        return Row(name, own, activity, energy.to_json(), **figures)
