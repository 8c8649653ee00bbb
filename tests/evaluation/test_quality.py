"""Quality against spikes on a small network."""

from __future__ import annotations

import numpy as np

from neuromorphic_llm.evaluation.language_model import encode_text, evaluate_text
from neuromorphic_llm.evaluation.quality import QUANTISERS, quality_against_spikes, quantised_baselines, with_scaled_price
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.models.checkpoint import Checkpoint


def test_higher_prices_give_fewer_spikes(tiny: Checkpoint, spiking: SpikingModel) -> None:
    text = encode_text(tiny.tokenizer(), "The wheel began to move. " * 4, 64)
    points = quality_against_spikes(spiking.decoder.weights, text, 32, factors=(16.0, 0.25))
    own, *others = (point.spikes_per_activation for point in points)
    assert others[0] < own < others[1]
    assert points[0].perplexity == evaluate_text(spiking, text, window=32).perplexity


def test_price_saturates(spiking: SpikingModel) -> None:
    stop = with_scaled_price(spiking.decoder.weights, 1e30).head.stop
    assert stop.dtype == np.int32 and stop.max() == 2**31 - 1 and stop.min() >= 0


def test_quantised_baselines(tiny: Checkpoint, dense: DenseModel) -> None:
    text = encode_text(tiny.tokenizer(), "The wheel began to move. " * 4, 64)
    points = {point.name: point.perplexity for point in quantised_baselines(dense, text, 32, [text.ids[:32]])}
    assert points.keys() == QUANTISERS.keys()
    plain = evaluate_text(dense, text, window=32).perplexity
    assert abs(points["INT8, SmoothQuant"] - plain) < abs(points["largest 50 % of inputs"] - plain)
