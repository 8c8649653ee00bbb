"""Intervals against numpy and against scipy's bootstrap of the same blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from neuromorphic_llm.evaluation.bootstrap import RESAMPLES, Bootstrap, Interval, TokenLosses, interval_json
from neuromorphic_llm.evaluation.language_model import EncodedText, evaluate_text
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel


def losses(seed: int, windows: tuple[int, ...], shift: float = 0.0) -> TokenLosses:
    drawn = np.random.default_rng(seed).gamma(2.0, 1.5, sum(windows)) + shift
    return TokenLosses(tuple(drawn), windows)


def test_intervals_are_those_of_scipy() -> None:
    """scipy resamples the blocks; equal ones, so that the mean of their means is that of the tokens."""
    windows = (100,) * 40
    own, reference = losses(1, windows), losses(2, windows, 0.2)
    bootstrap = Bootstrap.of(windows, 3)
    assert bootstrap.blocks == 40
    for found, values in (
        (bootstrap.perplexity(own), np.array(own.nll)),
        (bootstrap.ratio(own, reference), np.array(own.nll) - np.array(reference.nll)),
    ):
        blocks = values.reshape(40, 100).mean(1)
        peer = stats.bootstrap((blocks,), np.mean, n_resamples=RESAMPLES, method="percentile", random_state=0, vectorized=True)
        expected = np.exp(peer.confidence_interval)
        assert found is not None
        width = expected[1] - expected[0]
        assert found.low == pytest.approx(expected[0], abs=0.03 * width) and found.high == pytest.approx(expected[1], abs=0.03 * width)


def test_pairs_are_narrower_than_the_models() -> None:
    windows = (60,) * 32
    reference = losses(4, windows)
    own = TokenLosses(tuple(np.array(reference.nll) + np.random.default_rng(5).normal(0.02, 0.05, len(reference.nll))), windows)
    bootstrap = Bootstrap.of(windows, 0)
    alone, ratio = bootstrap.perplexity(own), bootstrap.ratio(own, reference)
    assert alone is not None and ratio is not None
    assert ratio.high / ratio.low < 1.01 < alone.high / alone.low and ratio.low < math.exp(0.02) < ratio.high


def test_blocks_are_windows_or_equal_parts_of_few() -> None:
    assert Bootstrap.of((5,) * 50, 0).counts.tolist() == [5] * 50
    assert Bootstrap.of((511,) * 4, 0).blocks == 32 and Bootstrap.of((511,) * 4, 0).counts.max() == 64
    assert Bootstrap.of((40, 7), 0).counts.tolist() == [20, 20, 7]
    assert Bootstrap.of((7,), 0).perplexity(losses(0, (7,))) is None
    assert interval_json("x", None)["x_interval"] is None and "longer text" in interval_json("x", None)["x_interval_reason"]


def test_blocks_of_different_lengths_weigh_by_their_tokens() -> None:
    """Resamples of two blocks: the first twice, both, the second twice."""
    found = Bootstrap.of((20, 20, 20, 4), 0)
    own = TokenLosses((1.0,) * 60 + (5.0,) * 4, (20, 20, 20, 4))
    draws = np.random.default_rng(0).multinomial(4, [0.25] * 4, size=RESAMPLES)
    means = draws @ np.array([20, 20, 20, 20.0]) / (draws @ np.array([20, 20, 20, 4]))
    low, high = np.exp(np.quantile(means, [0.025, 0.975]))
    interval = found.perplexity(own)
    assert interval is not None and (interval.low, interval.high) == pytest.approx((low, high))


def test_the_same_seed_gives_the_same_interval_whatever_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = (30,) * 33
    one, two, other = (Bootstrap.of(windows, seed).perplexity(losses(6, windows)) for seed in (1, 1, 2))
    assert one == two != other
    monkeypatch.setattr("neuromorphic_llm.evaluation.bootstrap._AT_ONCE", 1000)
    assert Bootstrap.of(windows, 1).perplexity(losses(6, windows)) == one


def test_a_result_has_them(dense: DenseModel, spiking: SpikingModel) -> None:
    text = EncodedText(tuple(range(3, 131)), 20)
    result = evaluate_text(spiking, text, window=64, against=dense, seed=9)
    own = evaluate_text(dense, text, window=64)
    content = result.to_json()
    assert content["reference_perplexity"] == pytest.approx(own.perplexity)
    assert content["perplexity_ratio"] == pytest.approx(result.perplexity / own.perplexity)
    for name in ("perplexity", "reference_perplexity", "perplexity_ratio"):
        interval = Interval(**content[f"{name}_interval"])
        assert interval.low < content[name] < interval.high
    assert content["intervals"]["blocks"] == 6 and content["intervals"]["seed"] == 9
    assert sum(result.losses.nll) / 126 == pytest.approx(result.nll) and result.losses.windows == (63, 63)
    assert own.to_json()["perplexity_interval"] != content["perplexity_interval"] and "perplexity_ratio" not in own.to_json()
