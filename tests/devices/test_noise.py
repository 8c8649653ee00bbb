"""Programming noise: what stays, what is drawn, and how much it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuromorphic_llm.devices.cells import Cell
from neuromorphic_llm.devices.noise import PROGRAMMING_NOISES, ProgrammingNoise
from neuromorphic_llm.errors import UsageError

PCM, RRAM = PROGRAMMING_NOISES["pcm"], PROGRAMMING_NOISES["rram"]
CELLS = [Cell(4, 2), Cell(7, 1), Cell(1, 7), Cell(3, 3)]
WEIGHTS = hnp.arrays(np.int8, hnp.array_shapes(max_dims=2, max_side=9), elements=st.integers(-127, 127))


@given(WEIGHTS, st.sampled_from(CELLS), st.sampled_from([PCM, RRAM]))
def test_without_noise_weights_stay(weights: np.ndarray, cell: Cell, noise: ProgrammingNoise) -> None:
    found = noise.programmed(weights, cell, np.random.default_rng(0), 0.0)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, weights)


@given(WEIGHTS, st.sampled_from(CELLS), st.sampled_from([PCM, RRAM]), st.floats(0.0, 3.0), st.integers(0, 2**32))
def test_programmed_weights_are_those_of_the_definition(
    weights: np.ndarray, cell: Cell, noise: ProgrammingNoise, scale: float, seed: int
) -> None:
    found = noise.programmed(weights, cell, np.random.default_rng(seed), scale)
    drawn = np.random.default_rng(seed).standard_normal((2, cell.slices, *weights.shape))
    for index in np.ndindex(weights.shape):
        held = 0.0
        for s in range(cell.slices):
            level = abs(int(weights[index])) // 2 ** (cell.bits * s) % 2**cell.bits
            reached = []
            for polarity in range(2):
                on = level if (weights[index] > 0) == (polarity == 0) else 0
                g = noise.largest_conductance * on / (2**cell.bits - 1)
                sigma = max(sum(c * g**n for n, c in enumerate(noise.deviation)), 0.0)
                reached.append(max(g + scale * sigma * drawn[(polarity, s, *index)], 0.0))
            held += 2 ** (cell.bits * s) * (2**cell.bits - 1) / noise.largest_conductance * (reached[0] - reached[1])
        assert abs(held - round(held)) == pytest.approx(0.5, abs=1e-6) or found[index] == max(min(round(held), 127), -127)


def test_the_deviations_are_the_published_ones() -> None:
    g = np.array([0.0, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(PCM.sigma(25 * g), 0.26348 + 1.9650 * g - 1.1731 * g**2)
    conductance = 39.26 * g
    np.testing.assert_allclose(
        RRAM.sigma(conductance), 1.536e-4 * conductance**3 - 1.167e-2 * conductance**2 + 0.2374 * conductance + 1.053
    )
    assert ProgrammingNoise(1.0, (0.5, -1.0)).sigma(np.array([0.25, 2.0])).tolist() == [0.25, 0.0]


def test_noise_is_that_of_four_cells() -> None:
    """Deviation of many copies of one weight: two on-cells, and two off-cells whose conductance cannot be negative."""
    cell, weight, copies = Cell(4, 2), 0x35, 200_000
    found = PCM.programmed(np.full(copies, weight), cell, np.random.default_rng(1)) - weight
    step, off = 25.0 / 15, 0.26348
    on = [0.26348 + 1.9650 * level / 15 - 1.1731 * (level / 15) ** 2 for level in (5, 3)]
    # max(N, 0) has the mean 1 / sqrt(2 pi) and the variance 1/2 - 1 / (2 pi).
    variance = sum((value / step) ** 2 * (sigma**2 + off**2 * (0.5 - 0.5 / math.pi)) for value, sigma in zip((1, 16), on, strict=True))
    mean = -17 / step * off / math.sqrt(2 * math.pi)
    assert found.mean() == pytest.approx(mean, abs=0.05)
    assert found.std() == pytest.approx(math.sqrt(variance + 1 / 12), rel=0.01)


def test_zeros_get_noise_too_and_none_leaves_the_range() -> None:
    rng = np.random.default_rng(0)
    assert PCM.programmed(np.zeros(1000, np.int8), Cell(), rng).any()
    extreme = PCM.programmed(np.repeat(np.array([-127, 127], np.int8), 1000), Cell(), rng)
    assert (extreme.min(), extreme.max()) == (-127, 127)
    small = PCM.programmed(np.repeat(np.array([-15, 15], np.int8), 1000), Cell(2, 2), rng)
    assert (small.min(), small.max()) == (-15, 15)


def test_noise_is_found_by_name() -> None:
    assert list(PROGRAMMING_NOISES) == ["pcm", "rram"]
    with pytest.raises(UsageError, match=r"unknown programming noise 'rrm'; did you mean 'rram'\?"):
        _ = PROGRAMMING_NOISES["rrm"]
