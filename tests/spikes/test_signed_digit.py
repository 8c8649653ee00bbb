"""The signed-digit code against a scalar transcription of its definition, and its particular promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromorphic_llm.spikes.signed_digit import SignedDigit


def by_definition(x: list[int], stop: list[int], phases: int) -> tuple[list[list[int]], int]:
    """Digits per phase and k_min, as numerics.md writes it."""
    m = max(abs(value) for value in x)
    if m == 0:
        return [[0] * len(x)], 0
    k_top = 0
    while 3 * 2**k_top < 2 * m:
        k_top += 1
    k_min = max(k_top - phases + 1, 0)
    v, digits = list(x), []
    for k in range(k_top, k_min - 1, -1):
        row = []
        for i in range(len(x)):
            fire = 4 * abs(v[i]) >= 3 * 2**k and 2 * abs(v[i]) > 2**k + (stop[i] >> k)
            digit = (1 if v[i] > 0 else -1) if fire else 0
            v[i] -= digit * 2**k
            row.append(digit)
        digits.append(row)
    return digits, k_min


@given(
    st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**31 - 1)), min_size=1, max_size=5),
    st.integers(1, 14),
    st.integers(0, 31),
)
def test_digits_are_those_of_the_definition(pairs: list[tuple[int, int]], phases: int, scale: int) -> None:
    x, stop = [value >> scale for value, _ in pairs], [price >> scale for _, price in pairs]
    train = SignedDigit(phases).encode(np.array([x]), np.array(stop))
    digits, k_min = by_definition(x, stop, phases)
    assert train.digits[:, 0].tolist() == digits
    assert train.exponent[0] == k_min


@given(st.lists(st.integers(-12288, 12288), min_size=1, max_size=8))
def test_small_integers_are_exact_without_prices(x: list[int]) -> None:
    code = SignedDigit(14)
    assert code.decode(code.encode(np.array([x]), np.zeros(len(x)))).tolist() == [x]


@pytest.mark.parametrize("phases", range(1, 15))
def test_the_bound_of_a_is_reached(phases: int) -> None:
    code = SignedDigit(phases)
    a = int(code.quantise(np.array([[3 << 28, -(3 << 28)]]), np.zeros(2)).a[0, 0])
    assert a == code.largest_value == max(3 * 2**phases // 4, 1)


def test_worst_case_error_is_tight_without_prices() -> None:
    code = SignedDigit(4)
    x = np.arange(-(3 << 9), (3 << 9) + 1).reshape(1, -1)  # k_top 10, k_min 7
    error = np.abs(code.decode(code.encode(x, np.zeros(x.shape[1]))) - x)
    assert error.max() == 3 * 2**7 // 4 - 1
    assert code.worst_case_error(x, np.zeros(x.shape[1])).max() == error.max()


def test_worst_case_error_is_tight_with_a_price() -> None:
    code = SignedDigit(14)
    x = np.arange(-5000, 5001).reshape(1, -1)
    for price in (1, 100, 10_000, 1_000_000):
        stop = np.full(x.shape[1], price)
        error = np.abs(code.decode(code.encode(x, stop)) - x)
        assert error.max() == code.worst_case_error(x, stop).max()
