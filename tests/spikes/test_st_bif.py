"""Signed ternary neurons step by step: overshoots are taken back, and the end value is that of the quantised sum."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuromorphic_llm.spikes.registry import get_code
from neuromorphic_llm.spikes.st_bif import st_bif_spikes


def emitted(currents: list[list[int]], threshold: int, most: int, least: int) -> list[list[int]]:
    """Spikes [steps][neurons] of currents [steps][neurons]."""
    steps = st_bif_spikes([np.array([row]) for row in currents], np.array([[threshold]]), most, least, np)
    return [step[0].tolist() for step in steps]


def test_an_overshoot_is_taken_back_by_negative_spikes() -> None:
    spikes = emitted([[30], [0], [0], [-25], [0], [0]], threshold=10, most=8, least=0)
    assert spikes == [[1], [1], [1], [-1], [-1], [0]]


def test_without_negative_total_no_negative_spike_leaves() -> None:
    assert emitted([[-30], [0], [0]], threshold=10, most=8, least=0) == [[0], [0], [0]]
    assert emitted([[-30], [0], [0]], threshold=10, most=8, least=-8) == [[-1], [-1], [-1]]


@given(hnp.arrays(np.int64, (6, 4), elements=st.integers(-1000, 1000)), st.integers(1, 500), st.integers(1, 8), st.booleans())
def test_the_end_value_is_the_quantised_sum_whatever_the_order(current: np.ndarray, threshold: int, most: int, signed: bool) -> None:
    least = -most if signed else 0
    # After the currents have ended: enough steps to emit, or take back, everything.
    quiet = [np.zeros(4, np.int64)] * (2 * most + 6)
    steps = emitted([row.tolist() for row in [*current, *quiet]], threshold, most, least)
    expected = np.clip((2 * current.sum(axis=0) + threshold) // (2 * threshold), least, most)
    assert np.sum(steps, axis=0).tolist() == expected.tolist()


@given(hnp.arrays(np.int64, (3, 5), elements=st.integers(-(2**31), 2**31 - 1)), st.integers(1, 40))
def test_both_currents_end_at_the_same_value(x: np.ndarray, phases: int) -> None:
    stop = np.zeros(5, np.int64)
    first, constant = (get_code("st-bif", phases, current=current).quantise(x, stop) for current in ("first", "constant"))
    k = constant.exponent.astype(np.int64)[:, None]
    expected = np.clip((x + ((1 << k) >> 1)) >> k, -phases, phases)
    assert (first.a == expected).all() and (constant.a == expected).all()
    assert (constant.spikes == np.abs(expected)).all()
