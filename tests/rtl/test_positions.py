"""Positions of sequences in flight: a count of the tokens of each, and the place at which its part of the memories begins."""

from __future__ import annotations

import numpy as np
import pytest

from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.package import SEQUENCES

PLACE_BITS = 15
AFTER_TAKE = 2
"""Cycles from a turn of the stream to its position."""


def run(seed: int, cycles: int) -> None:
    """Turns of few or many sequences, the closest a cycle apart; a reset forgets all of them."""
    rng, bench = np.random.default_rng(seed), Bench("nmllm_positions", {"PLACE_BITS": PLACE_BITS})
    while cycles > 0:
        count, part = int(rng.choice([1, 2, rng.integers(1, SEQUENCES + 1), SEQUENCES])), int(rng.integers(0, 512))
        takes = np.cumsum(rng.choice([1, 2, 3, 20], 4000))
        numbers = rng.integers(0, count, len(takes))
        length = int(takes[-1]) + AFTER_TAKE + 1
        take = np.zeros(length, np.int64)
        take[takes] = 1
        sequence = rng.integers(0, SEQUENCES, length)  # counts in the cycle after the turn alone
        sequence[takes + 1] = numbers
        bench.run({"rst": [1], "take": [1]}, outputs=())  # a turn in a reset is none
        found = bench.run({"take": take, "stream_sequence": sequence, "part": part}, outputs=["position", "base"])
        expected = np.array([np.count_nonzero(numbers[:turn] == number) for turn, number in enumerate(numbers)])
        shown = takes + AFTER_TAKE
        assert np.array_equal(found["position"][shown], expected)
        assert np.array_equal(found["base"][shown], numbers * part % (1 << PLACE_BITS))
        still = np.setdiff1d(np.arange(shown[0] + 1, length), shown)
        assert np.array_equal(found["position"][still], found["position"][still - 1])
        assert np.array_equal(found["base"][still], found["base"][still - 1])
        cycles -= length


def test_positions() -> None:
    run(1, 1_000_000)


@pytest.mark.slow
def test_positions_long() -> None:
    run(2, 10_000_000)
