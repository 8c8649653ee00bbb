"""Soft caps in integers: the definition step by step, and how close they are to c tanh(x / c)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuromorphic_llm.reference.config import Formats
from neuromorphic_llm.reference.fixed_point import TANH
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG
from neuromorphic_llm.reference.soft_cap import apply_soft_cap, score_cap, soft_cap

CAPS = st.one_of(st.sampled_from([1e-3, 1.0, 30.0, 50.0, 1e3]), st.floats(1e-3, 1e3))


def by_definition(x: int, cap: float, fraction: int) -> int:
    """The formulas of families.md in unbounded integers."""
    s = next(s for s in range(-80, 80) if 2**15 <= round(2.0 ** (20 - fraction) / cap * 2.0**s) < 2**16)
    m = round(2.0 ** (20 - fraction) / cap * 2.0**s)
    product = abs(x) * m
    t = min((product + (1 << (s - 1))) >> s if s > 0 else product << -s, 2**23 - 1)
    i, rest = t >> 15, t & 32767
    tanh = int(TANH[i]) * 2**15 + int(TANH[i + 1] - TANH[i]) * rest
    y = (round(cap * 2.0**fraction) * tanh + (1 << 29)) >> 30
    return -y if x < 0 else y


def test_table() -> None:
    assert TANH.tolist() == [round(2**15 * math.tanh(i / 32)) for i in range(257)]


@given(st.lists(st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-5000, 5000)), min_size=1, max_size=6), CAPS, st.integers(4, 20))
def test_by_definition(x: list[int], cap: float, fraction: int) -> None:
    integers = soft_cap(cap, fraction)
    assert integers is not None and 2**15 <= integers.multiplier < 2**16
    assert apply_soft_cap(np.array(x, np.int64), integers).tolist() == [by_definition(value, cap, fraction) for value in x]


@given(CAPS, st.integers(0, 2**32 - 1))
def test_close_to_floating_point_and_monotonic(cap: float, seed: int) -> None:
    fraction = 16
    real = np.sort(np.random.default_rng(seed).normal(0.0, 2.0 * cap, 200))
    x = np.rint(real * 2.0**fraction).astype(np.int64)
    integers = soft_cap(cap, fraction)
    assert integers is not None
    y = apply_soft_cap(x, integers)
    # Linear between points of 1/32: at most max |tanh''| / 8 / 32^2 = 9.4e-5 of the cap off; and the units of x and y.
    assert np.abs(y * 2.0**-fraction - cap * np.tanh(x * 2.0**-fraction / cap)).max() <= 1.5e-4 * cap + 2.0**-fraction
    assert (np.diff(y) >= 0).all()
    assert (apply_soft_cap(-x, integers) == -y).all()


def test_caps_of_a_decoder() -> None:
    assert score_cap(SMALL_CONFIG.attention_softcap) is None
    config = replace(SMALL_CONFIG, attention_softcap=50.0, logit_softcap=30.0)
    scores, logits = score_cap(config.attention_softcap), soft_cap(config.logit_softcap, Formats(logit=15).logit)
    assert scores is not None and logits is not None
    assert scores.limit == round(50 * math.log2(math.e) * 256) and logits.limit == 30 << 15


def test_a_cap_keeps_the_order_of_logits() -> None:
    """Logits within 0.7 of the cap that differ by four units of 2^-16 differ afterwards, too."""
    cap = soft_cap(30.0, 16)
    assert cap is not None
    x = np.arange(-21 << 16, 21 << 16, 4, dtype=np.int64)
    assert (np.diff(apply_soft_cap(x, cap)) > 0).all()
