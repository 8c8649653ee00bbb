"""Properties that hold for every spike code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.reference.linear import accumulate, linear_events
from neuromorphic_llm.reference.weights import LinearWeights
from neuromorphic_llm.spikes.code import LARGEST_VALUE, SpikeCode
from neuromorphic_llm.spikes.compare import at_most
from neuromorphic_llm.spikes.dense import quantise_dense
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

from .every_code import codes, prices, vectors


@given(codes(), vectors(), st.data())
def test_decoding_is_within_the_stated_error(code: SpikeCode, x: np.ndarray, data: st.DataObject) -> None:
    stop = data.draw(prices(x.shape[1]))
    error = np.abs(code.decode(code.encode(x, stop)) - x.astype(np.int64))
    assert (error <= code.worst_case_error(x, stop)).all()


@given(codes(), vectors(), st.data())
def test_quantise_equals_encode(code: SpikeCode, x: np.ndarray, data: st.DataObject) -> None:
    stop = data.draw(prices(x.shape[1]))
    train, quantised = code.encode(x, stop), code.quantise(x, stop)
    value = np.zeros(x.shape, np.int64)
    for phase, digits in enumerate(train.digits):
        value += digits.astype(np.int64) << (train.horner_shift * (len(train.digits) - 1 - phase))
    assert (quantised.a == value).all()
    spikes = train.digits != 0 if code.graded else np.abs(train.digits.astype(int))
    assert (quantised.spikes == spikes.sum(axis=0)).all()
    assert (quantised.exponent == train.exponent).all()
    assert (quantised.phases == train.phases).all()
    assert (np.abs(quantised.a.astype(np.int64)) <= code.largest_value).all()
    assert quantised.a.dtype == quantised.exponent.dtype == quantised.spikes.dtype == quantised.phases.dtype == np.int32


@given(codes(), vectors(), st.data())
def test_trains_are_well_formed(code: SpikeCode, x: np.ndarray, data: st.DataObject) -> None:
    train = code.encode(x, data.draw(prices(x.shape[1])))
    assert train.digits.dtype == np.int8
    assert code.graded or hasattr(code, "gamma") or set(np.unique(train.digits)) <= {-1, 0, 1}
    if not getattr(code, "signed", True):
        assert (train.digits >= 0).all()
    assert len(train.digits) == train.phases.max()
    assert ((train.phases >= 1) & (train.phases <= code.phases) & (train.exponent >= 0)).all()
    for token, used in enumerate(train.phases):
        assert not train.digits[: len(train.digits) - used, token].any()
    silent = ~x.any(axis=1)
    assert (train.phases[silent] == 1).all()
    assert (train.exponent[silent] == 0).all()


@given(codes(), vectors(), st.data())
def test_torch_gives_the_same_integers(code: SpikeCode, x: np.ndarray, data: st.DataObject) -> None:
    stop = data.draw(prices(x.shape[1]))
    expected = code.quantise(x, stop)
    result = code.quantise_torch(torch.from_numpy(x), torch.from_numpy(stop))
    for name in ("a", "exponent", "spikes", "phases"):
        found = getattr(result, name)
        assert found.dtype == torch.int64
        assert (found.numpy() == getattr(expected, name)).all(), name


@given(codes(), vectors(), st.data())
def test_unsigned_codes_do_to_positive_inputs_what_signed_ones_do(code: SpikeCode, x: np.ndarray, data: st.DataObject) -> None:
    if not hasattr(code, "signed") or (code.name == "multi-threshold"):
        return  # a membrane of multi-threshold neurons may be negative for positive input
    stop, positive = data.draw(prices(x.shape[1])), np.abs(x.astype(np.int64))
    both = [replace(code, signed=signed).quantise(positive, stop) for signed in (True, False)]
    assert (both[0].a == both[1].a).all() and (both[0].spikes == both[1].spikes).all()


@given(codes(), vectors(), st.data())
def test_a_token_is_coded_alone_as_in_company(code: SpikeCode, x: np.ndarray, data: st.DataObject) -> None:
    stop = data.draw(prices(x.shape[1]))
    train = code.encode(x, stop)
    for token in range(len(x)):
        alone = code.encode(x[token : token + 1], stop)
        assert (alone.digits[:, 0] == train.digits[len(train.digits) - alone.digits.shape[0] :, token]).all()
        assert alone.exponent[0] == train.exponent[token]


@given(codes(), vectors(), st.data())
def test_event_product_equals_integer_product(code: SpikeCode, x: np.ndarray, data: st.DataObject) -> None:
    weight = data.draw(hnp.arrays(np.int8, (3, x.shape[1]), elements=st.integers(-127, 127)))
    stop = data.draw(prices(x.shape[1]))
    site = LinearWeights(weight, np.full(3, 40000, np.int32), 20, stop)
    assert (linear_events(code.encode(x, stop), site) == accumulate(code.quantise(x, stop), site)).all()


@given(codes(), vectors())
def test_a_prohibitive_price_silences_all_small_inputs(code: SpikeCode, x: np.ndarray) -> None:
    small = x % 1000
    assert not code.encode(small, np.full(x.shape[1], 2**31 - 1, np.int32)).digits.any()


@pytest.mark.parametrize("name", SPIKE_CODES)
def test_prices_may_differ_between_rows(name: str) -> None:
    x = np.random.default_rng(0).normal(0, 1000, (3, 5)).astype(np.int32)
    stop = np.random.default_rng(1).integers(0, 2**20, (3, 5)).astype(np.int32)
    code = get_code(name)
    rows = [code.quantise(x[i : i + 1], stop[i]).a[0] for i in range(3)]
    assert (code.quantise(x, stop).a == np.stack(rows)).all()


@given(vectors())
def test_dense_inputs_keep_13_bits_and_sign(x: np.ndarray) -> None:
    result = quantise_dense(x)
    step = np.int64(1) << result.exponent.astype(np.int64)[:, None]
    error = np.abs(result.a * step - x.astype(np.int64))
    assert (error <= np.where(result.a == 2**13 - 1, step - 1, step // 2)).all()
    assert not result.spikes.any()
    assert not result.phases.any()


@pytest.mark.parametrize("name", SPIKE_CODES)
def test_wrong_numbers_of_phases_are_refused(name: str) -> None:
    for phases in (0, -1, SPIKE_CODES[name].largest_phases + 1):
        with pytest.raises(UsageError, match="phases"):
            get_code(name, phases)


@pytest.mark.parametrize("name", SPIKE_CODES)
def test_values_split_into_two_signed_bytes(name: str) -> None:
    most = at_most(name, SPIKE_CODES[name].largest_phases, {})
    assert most.largest_value <= LARGEST_VALUE == 127 * 128 + 63
    if most.phases < SPIKE_CODES[name].largest_phases:
        with pytest.raises(UsageError, match="use fewer phases"):
            get_code(name, most.phases + 1)


def test_vectors_of_another_rank_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[tokens, inputs\]"):
        get_code("rate").encode(np.zeros(3), np.zeros(3))
