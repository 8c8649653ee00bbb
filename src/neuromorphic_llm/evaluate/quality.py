"""Quality against spikes: the network at other spike prices, and the dense model with fewer bits or inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from neuromorphic_llm.evaluate.language_model import EncodedText, evaluate_text
from neuromorphic_llm.evaluate.quantisers import integer_activations, largest_activations, quantised
from neuromorphic_llm.evaluate.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

PRICE_FACTORS = (0.25, 4.0, 16.0)
QUANTISERS = {
    "INT8 activations": integer_activations(8),
    "INT6 activations": integer_activations(6),
    "largest 50 % of inputs": largest_activations(0.5),
}


@dataclass(frozen=True)
class QualityPoint:
    """Perplexity of one variant; spikes per activation where it spikes."""

    name: str
    perplexity: float
    spikes_per_activation: float | None

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self)


def with_scaled_price(weights: DecoderWeights, factor: float) -> DecoderWeights:
    """The same network with every spike price of the crossbar sites multiplied by `factor` (numerics.md, stop table)."""

    def scaled(site: LinearWeights) -> LinearWeights:
        stop = np.minimum(site.stop.astype(np.float64) * factor, 2.0**31 - 1).astype(np.int32)
        return replace(site, stop=stop)

    layers = tuple(
        replace(
            layer,
            qkv=scaled(layer.qkv),
            output=scaled(layer.output),
            gate_up=scaled(layer.gate_up),
            down=scaled(layer.down),
        )
        for layer in weights.layers
    )
    return replace(weights, layers=layers, head=scaled(weights.head))


def quality_against_spikes(
    weights: DecoderWeights,
    text: EncodedText,
    window: int,
    *,
    device: str = "cpu",
    factors: Sequence[float] = PRICE_FACTORS,
    progress: Callable[[int], None] | None = None,
) -> list[QualityPoint]:
    """Perplexity of the network at its own spike price (first point) and at multiples of it, in the order of spikes."""
    points = []
    for factor in (1.0, *factors):
        model = SpikingModel(FunctionalDecoder(with_scaled_price(weights, factor), device))
        perplexity = evaluate_text(model, text, window=window, progress=progress).perplexity
        points.append(QualityPoint(f"spike price x {factor:g}", perplexity, model.decoder.statistics.spikes_per_activation()))
    return [points[0], *sorted(points[1:], key=lambda point: point.spikes_per_activation or 0.0)]


def quantised_baselines(
    dense: DenseModel, text: EncodedText, window: int, progress: Callable[[int], None] | None = None
) -> Iterator[QualityPoint]:
    """Perplexity of the dense model with 8-bit weights and each of QUANTISERS on the inputs of all linear layers."""
    for name, transform in QUANTISERS.items():
        with quantised(dense.model, transform):
            yield QualityPoint(name, evaluate_text(dense, text, window=window, progress=progress).perplexity, None)
