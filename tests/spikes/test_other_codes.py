"""Rate, first-spike and bit-plane codes on hand-checked values."""

import numpy as np

from neuromorphic_llm.spikes.code import SpikeTrain
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


def test_sign_magnitude_are_the_bits_of_the_magnitude() -> None:
    train = get_code("sign-magnitude", 3).encode(np.array([[14, -10, 3, 1]]), NO_PRICE)
    assert train.exponent.tolist() == [1]
    # 7, 5, 1.5 -> 2 and 0.5 -> 1, halves going up in magnitude.
    assert train.digits[:, 0].T.tolist() == [[1, 1, 1], [-1, 0, -1], [0, 1, 0], [0, 0, 1]]


def test_burst_sends_base_four_digits_as_so_many_spikes() -> None:
    code = get_code("burst", 3, gamma=3, shift=2)
    train = code.encode(np.array([[63, -27, 2, 0]]), NO_PRICE)
    assert (train.horner_shift, train.exponent.tolist()) == (2, [0])
    assert train.digits[:, 0].T.tolist() == [[3, 3, 3], [-1, -2, -3], [0, 0, 2], [0, 0, 0]]
    assert code.quantise(np.array([[63, -27, 2, 0]]), NO_PRICE).spikes.tolist() == [[9, 6, 2, 0]]


def test_burst_of_equal_weights_sends_what_is_left_at_once() -> None:
    train = get_code("burst", 4, gamma=5, shift=0).encode(np.array([[20, 7, -3, 0]]), NO_PRICE)
    assert train.digits[:, 0].T.tolist() == [[5, 5, 5, 5], [5, 2, 0, 0], [-3, 0, 0, 0], [0, 0, 0, 0]]


def test_half_octaves_are_weights_of_five_and_seven() -> None:
    code = get_code("first-spike-log", 3, steps=2)
    assert code.levels == (5, 7, 10, 14, 20, 28)
    train = code.encode(np.array([[28, -17, 6, 2]]), NO_PRICE)
    # 17 is as near to 14 as to 20, 6 as to 5 and 7; 2 is nearer to silence than to 5.
    assert train.digits[:, 0].T.tolist() == [[7, 0, 0], [-5, 0, 0], [0, 0, 7], [0, 0, 0]]
    assert code.quantise(np.array([[28, -17, 6, 2]]), NO_PRICE).spikes.tolist() == [[1, 1, 1, 0]]


def test_whole_octaves_are_one_spike_in_wider_phases() -> None:
    train = get_code("first-spike-log", 3, steps=1, octaves=2).encode(np.array([[16, -5, 1, 11]]), NO_PRICE)
    assert train.horner_shift == 2
    assert train.digits[:, 0].T.tolist() == [[1, 0, 0], [0, -1, 0], [0, 0, 1], [1, 0, 0]]


def test_multi_threshold_fires_the_nearest_and_corrects_it() -> None:
    train = get_code("multi-threshold", 2, thresholds=4).encode(np.array([[13, -12, 7, 16]]), NO_PRICE)
    assert train.exponent.tolist() == [0] and train.graded
    # 13 and 12 exceed 3/2 of the highest threshold, 8; 7 goes up to 8 and back by 1.
    assert train.digits[:, 0].T.tolist() == [[8, 4], [-8, -4], [8, -1], [8, 8]]


def test_multi_threshold_asks_the_price_of_every_spike() -> None:
    x = np.array([[7, 7, 16, 0]])
    a = get_code("multi-threshold", 2, thresholds=4).quantise(x, np.array([0, 5, 0, 0])).a
    assert a.tolist() == [[7, 8, 16, 0]]  # a spike of weight 1 gains 1, less than 5


def test_multi_threshold_of_a_constant_current_is_the_mean_over_time() -> None:
    code = get_code("multi-threshold", 4, thresholds=3, current="constant")
    train = code.encode(np.array([[16, 5, -9, 0]]), NO_PRICE)
    assert train.digits[:, 0].T.tolist() == [[4, 4, 4, 4], [1, 2, 1, 1], [-2, -2, -2, -4], [0, 0, 0, 0]]


def test_levels_of_qcfs_are_spread_over_more_phases() -> None:
    train = get_code("qcfs", 8, levels=4).encode(np.array([[4, 2, -1, 0]]), NO_PRICE)
    assert np.abs(train.digits).sum(axis=0).tolist() == [[4, 2, 1, 0]]
    assert train.digits[:, 0, 0].tolist() == [1, 0, 1, 0, 1, 0, 1, 0]


def test_a_clipped_share_gives_the_others_a_finer_scale() -> None:
    x = np.full((1, 10), 10)
    x[0, 3] = 1000
    whole = get_code("qcfs", 16).quantise(x, np.zeros(10))
    clipped = get_code("qcfs", 16, clip_per_mille=100).quantise(x, np.zeros(10))
    assert (whole.exponent.tolist(), whole.a[0, 0]) == ([6], 0)
    assert (clipped.exponent.tolist(), clipped.a[0, 0], clipped.a[0, 3]) == ([0], 10, 16)


def test_unsigned_codes_leave_negative_inputs_silent() -> None:
    for name in ("sign-magnitude", "burst", "first-spike-log", "multi-threshold", "st-bif", "qcfs"):
        a = get_code(name, signed=False).quantise(np.array([[-9, 9, -1, 40]]), NO_PRICE).a
        assert (a > 0).tolist() == [[False, True, False, True]] and (a >= 0).all(), name


def test_pulses_are_the_signed_powers_of_two_of_a_graded_spike() -> None:
    digits = np.array([[[0, 1, -2, 5, 7, -19, 27, 64, 45]]], np.int8)
    phases = np.array([1], np.int32)
    graded = SpikeTrain(digits, 1, np.zeros(1, np.int32), phases, graded=True)
    # 7 = 8 - 1, 19 = 16 + 4 - 1, 27 = 32 - 4 - 1, 45 = 32 + 16 - 4 + 1.
    assert graded.pulse_counts()[0, 0].tolist() == [0, 1, 1, 2, 2, 3, 3, 1, 4]
    assert graded.spike_counts()[0, 0].tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 1]
    several = SpikeTrain(digits, 1, np.zeros(1, np.int32), phases)
    assert several.pulse_counts()[0, 0].tolist() == [0, 1, 2, 5, 7, 19, 27, 64, 45]
