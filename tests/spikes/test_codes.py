"""Properties that hold for every spike code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.reference.linear import accumulate, linear_events
from neuromorphic_llm.reference.weights import LinearWeights
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.dense import quantise_dense
from neuromorphic_llm.spikes.registry import code_class, code_names, get_code

INT32 = 2**31


@st.composite
def codes(draw: st.DrawFn) -> SpikeCode:
    """Any code with any number of phases."""
    name = draw(st.sampled_from(code_names()))
    return get_code(name, draw(st.integers(1, code_class(name).largest_phases)))


@st.composite
def vectors(draw: st.DrawFn) -> np.ndarray:
    """Vectors of any magnitude, with outliers, extremes and zeros, int32 [tokens, inputs]."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 6)))
    bound = draw(st.sampled_from([0, 1, 3, 100, 5000, 2**20, INT32 - 1]))
    x = draw(hnp.arrays(np.int32, shape, elements=st.integers(-bound, bound)))
    if draw(st.booleans()):
        x[0, 0] = draw(st.sampled_from([-INT32, INT32 - 1, 2**15, 3 * 2**10, 0]))
    return x


def prices(inputs: int) -> st.SearchStrategy[np.ndarray]:
    """Stop tables, int32 [inputs], from nothing to prohibitive."""
    return hnp.arrays(np.int32, inputs, elements=st.one_of(st.just(0), st.integers(0, 2**31 - 1), st.integers(0, 2**16)))


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
    assert (quantised.spikes == np.abs(train.digits).sum(axis=0)).all()
    assert (quantised.exponent == train.exponent).all()
    assert (quantised.phases == train.phases).all()
    assert (np.abs(quantised.a.astype(np.int64)) <= code.largest_value).all()
    assert quantised.a.dtype == quantised.exponent.dtype == quantised.spikes.dtype == quantised.phases.dtype == np.int32


@given(codes(), vectors(), st.data())
def test_trains_are_well_formed(code: SpikeCode, x: np.ndarray, data: st.DataObject) -> None:
    train = code.encode(x, data.draw(prices(x.shape[1])))
    assert train.digits.dtype == np.int8
    assert set(np.unique(train.digits)) <= {-1, 0, 1}
    assert len(train.digits) == train.phases.max()
    assert ((train.phases >= 1) & (train.phases <= code.phases) & (train.exponent >= 0)).all()
    for token, used in enumerate(train.phases):
        assert not train.digits[: len(train.digits) - used, token].any()
    silent = ~x.any(axis=1)
    assert (train.phases[silent] == 1).all()
    assert (train.exponent[silent] == 0).all()


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


@pytest.mark.parametrize("name", code_names())
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


@pytest.mark.parametrize("name", code_names())
def test_wrong_numbers_of_phases_are_refused(name: str) -> None:
    for phases in (0, -1, code_class(name).largest_phases + 1):
        with pytest.raises(UsageError, match="phases"):
            get_code(name, phases)


@pytest.mark.parametrize("name", code_names())
def test_values_split_into_two_signed_bytes(name: str) -> None:
    assert get_code(name, code_class(name).largest_phases).largest_value <= 127 * 128 + 63


def test_vectors_of_another_rank_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[tokens, inputs\]"):
        get_code("rate").encode(np.zeros(3), np.zeros(3))
