"""Quality against spikes: the network at other spike prices, and the dense model with fewer bits or inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuromorphic_llm.evaluation.balancing import balanced
from neuromorphic_llm.evaluation.bootstrap import Bootstrap, interval_json
from neuromorphic_llm.evaluation.language_model import EncodedText, LanguageModelResult, evaluate_text
from neuromorphic_llm.evaluation.quantisers import everywhere, largest_activations, quantised
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

PRICE_FACTORS = (0.25, 4.0, 16.0)
CALIBRATION_WINDOWS = 2
"""Windows of calibration text on which integer activations are balanced."""
QUANTISERS: dict[str, Callable[[Any, Sequence[Sequence[int]]], AbstractContextManager[None]]] = {
    "INT8, SmoothQuant": lambda model, windows: balanced(model, windows, 8),
    "INT6, SmoothQuant": lambda model, windows: balanced(model, windows, 6),
    "largest 50 % of inputs": lambda model, _windows: quantised(model, everywhere(largest_activations(0.5))),
}
"""Name -> the dense model quantised so, within the context (docs/reference/evaluation.md, Quantised comparisons)."""


@dataclass(frozen=True)
class QualityPoint:
    """Perplexity of one variant; spikes per activation where it spikes; the dense model's result on the same tokens, to compare with."""

    name: str
    result: LanguageModelResult
    spikes_per_activation: float | None
    dense: LanguageModelResult | None = None

    @property
    def perplexity(self) -> float:
        """Perplexity of the variant."""
        return self.result.perplexity

    def to_json(self) -> dict[str, Any]:
        """JSON object of the figures, with the intervals of the perplexity and of its ratio to the dense model's."""
        bootstrap = Bootstrap.of(self.result.losses.windows, self.result.seed)
        figures = {"name": self.name, "perplexity": self.perplexity, "spikes_per_activation": self.spikes_per_activation}
        figures |= interval_json("perplexity", bootstrap.perplexity(self.result.losses))
        if self.dense is None:
            return figures
        ratio = interval_json("perplexity_ratio", bootstrap.ratio(self.result.losses, self.dense.losses))
        return figures | {"perplexity_ratio": self.perplexity / self.dense.perplexity, **ratio}


def with_scaled_price(weights: DecoderWeights, factor: float) -> DecoderWeights:
    """The same network with every spike price of the crossbar sites multiplied by `factor` (numerics.md, stop table)."""

    def scaled(site: LinearWeights) -> LinearWeights:
        stop = np.minimum(site.stop.astype(np.float64) * factor, 2.0**31 - 1).astype(np.int32)
        return replace(site, stop=stop)

    return weights.with_sites(lambda _, linear: scaled(linear))


def quality_against_spikes(
    weights: DecoderWeights,
    text: EncodedText,
    window: int,
    *,
    dense: LanguageModelResult | None = None,
    seed: int = 0,
    device: str = "cpu",
    factors: Sequence[float] = PRICE_FACTORS,
    progress: Callable[[int], None] | None = None,
) -> list[QualityPoint]:
    """Perplexity of the network at its own spike price (first point) and at multiples of it, in the order of spikes."""
    points = []
    for factor in (1.0, *factors):
        model = SpikingModel(FunctionalDecoder(with_scaled_price(weights, factor), device))
        result = evaluate_text(model, text, window=window, seed=seed, progress=progress)
        points.append(QualityPoint(f"spike price x {factor:g}", result, model.decoder.statistics.spikes_per_activation(), dense))
    return [points[0], *sorted(points[1:], key=lambda point: point.spikes_per_activation or 0.0)]


def quantised_baselines(
    dense: DenseModel,
    text: EncodedText,
    window: int,
    calibration_text: Sequence[Sequence[int]],
    *,
    exact: LanguageModelResult | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Iterator[QualityPoint]:
    """Perplexity of the dense model with 8-bit weights and each of QUANTISERS on the inputs of all linear layers.

    calibration_text: token windows on which activations are balanced. exact: result of the dense model as it is, to compare with.
    """
    for name, changed in QUANTISERS.items():
        with changed(dense.model, calibration_text):
            result = evaluate_text(dense, text, window=window, seed=seed, progress=progress)
        yield QualityPoint(name, result, None, exact)
