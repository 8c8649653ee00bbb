"""Sigmoid table and gated product."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from neuromorphic_llm.reference.fixed_point import SIG
from neuromorphic_llm.reference.gate import gated_product, sigmoid

INT32 = st.integers(-(2**31), 2**31 - 1)


def by_definition(g: int, u: int, fraction: int, hidden_fraction: int) -> int:
    """The formulas of numerics.md in Python integers."""

    def shifted(x: int, n: int) -> int:
        return x << -n if n <= 0 else (x + (1 << (n - 1))) >> n

    t = min(shifted(abs(g), fraction - 12), 65535)
    i, r = t >> 8, t & 255
    s = int(SIG[i]) + shifted((int(SIG[i + 1]) - int(SIG[i])) * r, 8)
    s = 2**15 - s if g < 0 else s
    h = shifted(shifted(g * s, 15) * u, 2 * fraction - hidden_fraction)
    return min(max(h, -(2**31)), 2**31 - 1)


@given(INT32, INT32, st.integers(12, 30), st.integers(0, 30))
@example(2**31 - 1, -(2**31), 14, 16)
@example(-(2**31), -(2**31), 12, 30)
@example(2**31 - 1, 2**31 - 1, 12, 24)
def test_product_is_that_of_the_definition(g: int, u: int, fraction: int, hidden_fraction: int) -> None:
    assert gated_product(np.array([[g, u]]), fraction, hidden_fraction).tolist() == [[by_definition(g, u, fraction, hidden_fraction)]]


def test_sigmoid_is_close_to_floating_point_and_rises() -> None:
    g = np.arange(-20 * 2**14, 20 * 2**14, 7)
    s = sigmoid(g, 14)
    assert np.abs(s / 2**15 - 1 / (1 + np.exp(-g / 2**14))).max() < 1e-4
    assert (np.diff(s) >= 0).all()
    assert (sigmoid(g, 14) + sigmoid(-g, 14))[g != 0].tolist() == [2**15] * np.count_nonzero(g)


def test_product_is_close_to_floating_point() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (10, 64))
    h = gated_product(np.rint(x * 2**14).astype(np.int64), 14, 16) / 2**16
    g, u = np.split(x, 2, axis=1)
    assert np.abs(h - g / (1 + np.exp(-g)) * u).max() < 1e-3
