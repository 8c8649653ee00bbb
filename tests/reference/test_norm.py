"""RMSNorm against its definition in Python integers and against floating point."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuromorphic_llm.reference.config import Formats
from neuromorphic_llm.reference.norm import epsilon_term, rms_norm
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG

FORMATS = Formats()


def by_definition(r: list[int], gain: list[int], epsilon: int) -> list[int]:
    """The formulas of numerics.md."""

    def shifted(x: int, n: int) -> int:
        return x << -n if n <= 0 else (x + (1 << (n - 1))) >> n

    e = max(max(abs(x) for x in r).bit_length() - 15, 0)
    squares = max(sum(shifted(x, e) ** 2 for x in r) + (epsilon >> (2 * e)), 1)
    h = (62 - squares.bit_length()) >> 1
    rho = math.isqrt(squares << (2 * h))
    assert 2**30 <= rho < 2**31
    inverse = 2**46 // rho
    u = [shifted(x * inverse, 22 + e - h) for x in r]
    y = [shifted(a * g, 24 + FORMATS.gain_fraction - FORMATS.norm) for a, g in zip(u, gain, strict=True)]
    return [min(max(x, -(2**31)), 2**31 - 1) for x in y]


@given(
    st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31) + 1, 2**31 - 1)), min_size=1, max_size=6),
    st.integers(0, 31),
    st.integers(0, 2**40),
)
@example([(0, 5)], 0, 0)
@example([(-(2**31), 2**31 - 1)] * 4, 0, 0)
@example([(1, 2**31 - 1)], 0, 0)
def test_norm_is_that_of_the_definition(pairs: list[tuple[int, int]], scale: int, epsilon: int) -> None:
    r, gain = [x >> scale for x, _ in pairs], [g for _, g in pairs]
    assert rms_norm(np.array([r]), np.array(gain), epsilon, FORMATS)[0].tolist() == by_definition(r, gain, epsilon)


@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0, 3000.0])
def test_norm_is_close_to_floating_point(scale: float) -> None:
    rng = np.random.default_rng(0)
    config = replace(SMALL_CONFIG, hidden_size=576)
    r = np.rint(rng.normal(0, scale, (20, 576)) * 2.0**FORMATS.residual).astype(np.int64)
    gain = rng.uniform(0.1, 4, 576)
    integer_gain = np.rint(gain * 24 * 2.0**FORMATS.gain_fraction).astype(np.int32)
    y = rms_norm(r, integer_gain, epsilon_term(config, FORMATS), FORMATS) / 2.0**FORMATS.norm
    x = r / 2.0**FORMATS.residual
    expected = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + config.rms_norm_eps) * gain
    # Half a step of the output, and the gain's own rounding and 15 bits of the reciprocal on top of it.
    assert np.abs(y - expected).max() < 2.0 ** -(FORMATS.norm + 1) + 2.0**-11 * np.abs(expected).max()
    assert np.sqrt(np.square(y - expected).mean() / np.square(expected).mean()) < 2.5e-4


def test_zeros_stay_zero_and_tokens_are_independent() -> None:
    r = np.array([[0, 0, 0], [1000, -2000, 300]])
    gain = np.full(3, 5000)
    y = rms_norm(r, gain, 0, FORMATS)
    assert not y[0].any()
    assert (y[1:] == rms_norm(r[1:], gain, 0, FORMATS)).all()
