"""Integer operations against Python's unlimited integers."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.reference.fixed_point import EXP2, SIG, bit_length, check_int32, exact_product, isqrt, rsh, rsh_saturate_32, saturate

LARGE = 2**62


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1))
def test_bit_length(values: list[int]) -> None:
    assert bit_length(values).tolist() == [value.bit_length() for value in values]


@given(st.integers(-LARGE, LARGE), st.integers(1, 62))
@example(LARGE, 62)
@example(-LARGE, 62)
@example(-1, 1)
def test_rounding_shift_rounds_half_up(x: int, n: int) -> None:
    assert int(rsh(x, n)) == math.floor((2 * x + (1 << n)) >> (n + 1))


def test_rounding_shift_edges() -> None:
    assert rsh([1, -1, 3, -3, 2], 1).tolist() == [1, 0, 2, -1, 1]
    assert rsh([5, -5], 0).tolist() == [5, -5]
    assert rsh([5, -5], -3).tolist() == [40, -40]
    assert rsh([LARGE, -LARGE], [63, 1000]).tolist() == [0, 0]


@given(st.integers(-LARGE, LARGE), st.integers(-100, 70))
@example(1, -32)
@example(-1, -31)
@example(-LARGE, -1)
def test_saturating_shift_behaves_as_with_unlimited_width(x: int, n: int) -> None:
    exact = x << -n if n <= 0 else 0 if n > 62 else (x + (1 << (n - 1))) >> n
    assert int(rsh_saturate_32(x, n)) == min(max(exact, -(2**31)), 2**31 - 1)


def test_saturation_edges() -> None:
    assert saturate([127, 128, -128, -129], 8).tolist() == [127, 127, -128, -128]
    assert saturate([2**31 - 1, 2**31, -(2**31) - 1], 32).tolist() == [2**31 - 1, 2**31 - 1, -(2**31)]
    assert saturate([1, 0, -1, -2], 1).tolist() == [0, 0, -1, -1]


@given(st.one_of(st.integers(0, LARGE), st.integers(0, 2**31).map(lambda r: r * r), st.integers(1, 2**31).map(lambda r: r * r - 1)))
@example(LARGE)
@example(LARGE - 1)
def test_square_root_is_the_exact_floor(n: int) -> None:
    assert int(isqrt(n)) == math.isqrt(n)


@given(
    hnp.arrays(np.int32, (2, 7), elements=st.integers(-(2**31), 2**31 - 1)), hnp.arrays(np.int8, (3, 7), elements=st.integers(-127, 127))
)
def test_products_are_exact(a: np.ndarray, weight: np.ndarray) -> None:
    assert (exact_product(a, weight) == a.astype(np.int64) @ weight.T.astype(np.int64)).all()


def test_accumulators_beyond_32_bits_are_an_error() -> None:
    assert check_int32(np.array([2**31 - 1, 1 - 2**31]), "here").tolist() == [2**31 - 1, 1 - 2**31]
    with pytest.raises(SimulationError, match=r"layers\.0\.qkv exceeds 32 bits"):
        check_int32(np.array([2**31]), "layers.0.qkv")


def test_tables() -> None:
    assert EXP2.tolist() == [round(2**15 * 2 ** (-i / 256)) for i in range(256)]
    assert SIG.tolist() == [round(2**15 / (1 + math.exp(-i / 16))) for i in range(257)]
    assert (EXP2[0], SIG[0], SIG[256]) == (2**15, 2**14, 2**15)
