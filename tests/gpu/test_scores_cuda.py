"""Log-likelihoods on a GPU: passes of one shape, compiled or not, give what a CPU gives."""

from __future__ import annotations

import random

import pytest

from neuromorphic_llm.evaluation.likelihood import Continued
from neuromorphic_llm.evaluation.scored_model import SpikingModel
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder

pytestmark = pytest.mark.gpu


def items(count: int) -> list[Continued]:
    draw = random.Random(0)

    def text(most: int) -> tuple[int, ...]:
        return tuple(draw.randrange(256) for _ in range(draw.randint(1, most)))

    return [Continued(text(60), tuple(text(40) for _ in range(draw.randint(1, 4)))) for _ in range(count)]


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_scores_equal_the_cpu(compiled: bool) -> None:
    weights = random_decoder(0, config=load_checkpoint("random-tiny").config)
    ours, theirs = SpikingModel(FunctionalDecoder(weights, "cuda")), SpikingModel(FunctionalDecoder(weights))
    if compiled:
        ours.decoder.compile_windows()
    wanted = items(600)  # more than one group of contexts, several of continuations
    for row, other in zip(ours.score(wanted), theirs.score(wanted), strict=True):
        assert [score.greedy for score in row] == [score.greedy for score in other]
        assert [score.log_likelihood for score in row] == pytest.approx([score.log_likelihood for score in other], rel=1e-9)
    # The same integers, so that the spikes are counted alike.
    assert ours.decoder.statistics.to_json() == theirs.decoder.statistics.to_json()
