"""Rate, first-spike and bit-plane codes on hand-checked values."""

import numpy as np

from neuromorphic_llm.spikes.registry import get_code

NO_PRICE = np.zeros(4, np.int32)


def test_rate_spreads_spikes_evenly() -> None:
    train = get_code("rate", 8).encode(np.array([[8, 4, -2, 0]]), NO_PRICE)
    assert train.horner_shift == 0
    assert train.digits[:, 0].T.tolist() == [[1] * 8, [0, 1] * 4, [0, 0, 0, -1] * 2, [0] * 8]


def test_rate_scales_the_largest_value_into_its_phases() -> None:
    result = get_code("rate", 8).quantise(np.array([[9, -9, 3, 1]]), NO_PRICE)
    assert result.exponent.tolist() == [1]
    assert result.a.tolist() == [[5, -4, 2, 1]]  # halves round up


def test_first_spike_takes_the_nearest_power_of_two() -> None:
    train = get_code("first-spike", 4).encode(np.array([[12, -11, 3, 1]]), NO_PRICE)
    assert train.phases.tolist() == [4]
    assert train.exponent.tolist() == [1]
    # Weights 16, 8, 4, 2: 12 goes up to 16, -11 down to 8, 3 up to 4, 1 is below the last phase.
    assert train.digits[:, 0].T.tolist() == [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_first_spike_uses_no_phases_it_does_not_need() -> None:
    assert get_code("first-spike").encode(np.array([[5, 0, 0, -1]]), NO_PRICE).phases.tolist() == [4]


def test_bit_planes_are_the_twos_complement() -> None:
    train = get_code("bit-planes", 4).encode(np.array([[7, -8, -1, 5]]), NO_PRICE)
    assert train.exponent.tolist() == [1]
    # 7/2 and 5/2 round up to 4 and 3; -8/2 = -4; -1/2 rounds up to 0.
    assert train.digits[:, 0].T.tolist() == [[0, 1, 0, 0], [-1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]


def test_bit_planes_saturate_the_largest_positive_value() -> None:
    assert get_code("bit-planes", 4).quantise(np.array([[15, -15, 0, 0]]), NO_PRICE).a.tolist() == [[7, -7, 0, 0]]


def test_the_price_is_a_dead_zone() -> None:
    for name in ("rate", "first-spike", "bit-planes"):
        a = get_code(name).quantise(np.array([[10, -10, 11, 40]]), np.full(4, 100)).a
        assert (a != 0).tolist() == [[False, False, True, True]]
