"""The clock of compilation: what it counts, and what it does not."""

from __future__ import annotations

import time

import numba
import pytest

from neuromorphic_llm.kernel_time import kernel_time


def compiled_twice() -> tuple[float, float]:
    """Seconds that the clock counts for the first and for the second call of a kernel of its own."""

    @numba.njit
    def inner(x: int) -> int:
        return x + 1

    @numba.njit
    def kernel(x: int) -> int:
        return inner(x) * 2

    with kernel_time() as spent:
        assert kernel(1) == 4
        first = spent()
        time.sleep(0.05)
        assert kernel(2) == 6
        second = spent() - first
    assert kernel(2.0) == 6.0  # compiled for another type, but no longer watched
    assert spent() == first + second
    return first, second


def test_a_kernel_is_counted_once_and_waiting_is_not() -> None:
    begin = time.perf_counter()
    first, second = compiled_twice()
    passed = time.perf_counter() - begin
    # The kernel inside is compiled within the other's compilation, and counts once.
    assert 0 < first < passed - 0.05
    assert second == 0


def test_blocks_within_blocks_count_alike() -> None:
    with kernel_time() as outer:
        first, _ = compiled_twice()
    assert outer() == pytest.approx(outer()) and outer() >= first
