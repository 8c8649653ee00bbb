"""Sigmoid table and gated product."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuromorphic_llm.reference.config import ACTIVATIONS
from neuromorphic_llm.reference.fixed_point import SHARES, SIG
from neuromorphic_llm.reference.gate import activated, gated_product, sigmoid

INT32 = st.integers(-(2**31), 2**31 - 1)


def by_definition(g: int, u: int | None, fraction: int, hidden_fraction: int, activation: str = "silu") -> int:
    """The formulas of numerics.md and families.md in Python integers; without a gate there is no u."""

    def shifted(x: int, n: int) -> int:
        return x << -n if n <= 0 else (x + (1 << (n - 1))) >> n

    t = min(shifted(abs(g), fraction - 12), 65535)
    i, r = t >> 8, t & 255
    table = SHARES[activation].tolist()
    s = table[i] + shifted((table[i + 1] - table[i]) * r, 8)
    s = 2**15 - s if g < 0 else s
    if u is None:
        h = shifted(g * s, 15 + fraction - hidden_fraction)
    else:
        h = shifted(shifted(g * s, 15) * u, 2 * fraction - hidden_fraction)
    return min(max(h, -(2**31)), 2**31 - 1)


@given(INT32, INT32, st.integers(12, 30), st.integers(0, 30))
@example(2**31 - 1, -(2**31), 14, 16)
@example(-(2**31), -(2**31), 12, 30)
@example(2**31 - 1, 2**31 - 1, 12, 24)
def test_product_is_that_of_the_definition(g: int, u: int, fraction: int, hidden_fraction: int) -> None:
    assert gated_product(np.array([[g, u]]), fraction, hidden_fraction).tolist() == [[by_definition(g, u, fraction, hidden_fraction)]]


@given(INT32, INT32, st.integers(12, 30), st.integers(0, 30), st.sampled_from(ACTIVATIONS))
def test_every_activation_is_that_of_the_definition(g: int, u: int, fraction: int, hidden_fraction: int, activation: str) -> None:
    expected = by_definition(g, u, fraction, hidden_fraction, activation)
    assert gated_product(np.array([[g, u]]), fraction, hidden_fraction, activation).tolist() == [[expected]]
    assert activated(np.array([[g]]), fraction, hidden_fraction, activation).tolist() == [
        [by_definition(g, None, fraction, hidden_fraction, activation)]
    ]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_close_to_floating_point(activation: str) -> None:
    g = np.linspace(-20, 20, 4001)
    expected = {
        "silu": g / (1 + np.exp(-g)),
        "gelu": g * (1 + np.array([math.erf(x) for x in g / math.sqrt(2)])) / 2,
        "gelu-tanh": g * (1 + np.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3))) / 2,
        "relu": np.maximum(g, 0.0),
    }[activation]
    h = activated(np.rint(g * 2**14).astype(np.int64), 14, 16, activation) * 2.0**-16
    assert np.abs(h - expected).max() < 7e-4
    assert SHARES["silu"] is SIG


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
