"""Kernels and torch operations against the definitions of the reference, on values that decoders rarely show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from parity import equal

from neuromorphic_llm.network.cache import SlotCache
from neuromorphic_llm.network.cpu_operations import CpuOperations
from neuromorphic_llm.network.kernels import probability_table
from neuromorphic_llm.network.matmul import product
from neuromorphic_llm.network.operations import CodedRows, Operations, Rows, SiteTensors, split
from neuromorphic_llm.reference.attention import LayerCache, attend, encode_probabilities
from neuromorphic_llm.reference.config import ACTIVATIONS, CodeConfig, DecoderConfig, Formats
from neuromorphic_llm.reference.gate import activated, gated_product
from neuromorphic_llm.reference.linear import scale_output
from neuromorphic_llm.reference.norm import rms_norm
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.rotary import rotary_tables, rotate
from neuromorphic_llm.reference.soft_cap import apply_soft_cap, soft_cap
from neuromorphic_llm.reference.weights import LinearWeights
from neuromorphic_llm.spikes.dense import quantise_dense
from neuromorphic_llm.spikes.registry import get_code

LOW, HIGH = -(2**31), 2**31 - 1
BACKENDS = pytest.mark.parametrize("operations", [CpuOperations(), Operations()], ids=["kernels", "torch"])
VALUES = st.one_of(st.integers(-4, 4), st.integers(-5000, 5000), st.integers(LOW, HIGH), st.sampled_from([LOW, LOW + 1, HIGH, 0]))
FORMATS = Formats()


def rows(count: int, elements: st.SearchStrategy[int] = VALUES) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.int32, (3, count), elements=elements)


STOPS = arrays(np.int32, 6, elements=st.one_of(st.just(0), st.integers(0, 2000), st.integers(0, HIGH), st.just(HIGH)))


@BACKENDS
@settings(max_examples=40)
@given(x=rows(6), stop=STOPS, phases=st.integers(1, 14))
def test_signed_digit_code(operations: Operations, x: np.ndarray, stop: np.ndarray, phases: int) -> None:
    expected = get_code("signed-digit", phases).quantise(x, stop)
    coded = operations.encode(torch.from_numpy(x), torch.from_numpy(stop), phases)
    assert equal(coded.integers(), expected.a)
    assert equal(coded.exponent, expected.exponent)
    assert equal(coded.spikes, expected.spikes.sum(axis=1))


@BACKENDS
@settings(max_examples=25)
@given(x=rows(6))
def test_uncoded_integers(operations: Operations, x: np.ndarray) -> None:
    expected = quantise_dense(x)
    coded = operations.encode_dense(torch.from_numpy(x))
    assert equal(coded.integers(), expected.a)
    assert equal(coded.exponent, expected.exponent)
    assert not coded.spikes.any()


@BACKENDS
@settings(max_examples=40)
@given(r=rows(6), gain=arrays(np.int32, 6, elements=VALUES), epsilon=st.sampled_from([0, 1, 10**4, 10**10]))
def test_norm(operations: Operations, r: np.ndarray, gain: np.ndarray, epsilon: int) -> None:
    shift = 24 + FORMATS.gain_fraction - FORMATS.norm
    result = operations.norm(torch.from_numpy(r), torch.from_numpy(gain), epsilon, shift)
    assert equal(result, rms_norm(r.astype(np.int64), gain, epsilon, FORMATS))


@BACKENDS
@settings(max_examples=40)
@given(y=rows(8), fraction=st.integers(12, 16), hidden=st.integers(8, 16), activation=st.sampled_from(ACTIVATIONS))
def test_gate(operations: Operations, y: np.ndarray, fraction: int, hidden: int, activation: str) -> None:
    result = operations.gate(torch.from_numpy(y), fraction, torch.tensor(hidden), activation)
    assert equal(result, gated_product(y.astype(np.int64), fraction, hidden, activation))
    plain = operations.activate(torch.from_numpy(y), fraction, torch.tensor(hidden), activation)
    assert equal(plain, activated(y.astype(np.int64), fraction, hidden, activation))


@BACKENDS
@settings(max_examples=40)
@given(x=rows(6), fraction=st.integers(4, 20), cap=st.one_of(st.floats(1e-3, 1e3), st.sampled_from([1e-3, 1.0, 50.0, 1e3])))
def test_soft_cap(operations: Operations, x: np.ndarray, fraction: int, cap: float) -> None:
    integers = soft_cap(cap, fraction)
    assert integers is not None
    assert equal(operations.soft_cap(torch.from_numpy(x.copy()), integers), apply_soft_cap(x.astype(np.int64), integers))


@BACKENDS
@settings(max_examples=20)
@given(r=rows(4), y=rows(4))
def test_add(operations: Operations, r: np.ndarray, y: np.ndarray) -> None:
    expected = np.clip(r.astype(np.int64) + y, LOW, HIGH)
    assert equal(operations.add(torch.from_numpy(r.copy()), torch.from_numpy(y)), expected)


@BACKENDS
@pytest.mark.parametrize("outputs", [5, 8])
@pytest.mark.parametrize("bias", [None, HIGH, LOW, 17])
@settings(max_examples=12)
@given(
    a=arrays(np.int32, (3, 16), elements=st.one_of(st.integers(-16319, 16319), st.sampled_from([-16319, 16319]))),
    exponent=arrays(np.int32, 3, elements=st.integers(0, 20)),
    shift=st.integers(-3, 80),
    data=st.data(),
)
def test_scaled_products(
    operations: Operations, outputs: int, bias: int | None, a: np.ndarray, exponent: np.ndarray, shift: int, data: st.DataObject
) -> None:
    weight = data.draw(arrays(np.int8, (outputs, 16), elements=st.sampled_from([-127, -3, 0, 1, 126, 127])))
    multiplier = data.draw(arrays(np.int32, outputs, elements=st.integers(0, 65535)))
    added = None if bias is None else np.full(outputs, bias, np.int32)
    site = LinearWeights(weight, multiplier, shift, np.zeros(16, np.int32), added)
    high = (a + 64) >> 7
    planes = torch.from_numpy(np.stack([high, a - (high << 7)]).astype(np.int8))
    tensors = SiteTensors(
        torch.from_numpy(weight),
        torch.from_numpy(multiplier),
        torch.tensor(shift),
        torch.from_numpy(site.stop),
        None if added is None else torch.from_numpy(added),
        True,
    )
    expected = scale_output(a.astype(np.int64) @ weight.T.astype(np.int64), exponent, site)
    acc = operations.accumulate(CodedRows(planes, torch.from_numpy(exponent), torch.zeros(3)), tensors)
    assert equal(operations.scale(acc, torch.from_numpy(exponent), tensors), expected)


@given(arrays(np.int64, (2, 3), elements=st.integers(-(2**31) + 1, 2**31 - 1)))
def test_accumulators_are_split_into_what_scaling_takes(accumulators: np.ndarray) -> None:
    acc = split(torch.from_numpy(accumulators))
    assert acc.dtype == torch.int32
    assert equal(128 * acc[0].long() + acc[1], accumulators)


def test_products_of_extremes_with_and_without_the_int8_kernel() -> None:
    planes = torch.full((2, 4, 1536), -128, dtype=torch.int8)
    planes[0, 1] = 127
    weight = torch.full((8, 1536), -127, dtype=torch.int8)
    weight[3] = 127
    expected = planes.long() @ weight.long().t()
    assert torch.equal(product(planes, weight, False).long(), expected)
    assert torch.equal(product(planes, weight[:7], True).long(), expected[..., :7])


def test_probability_table_is_the_code() -> None:
    table = probability_table()
    u = np.arange(32769, dtype=np.int64)
    for lowest in (0, 5, 14):
        # One value among many others of a known sum gives this lowest phase.
        total = np.int64(1) << (lowest + 10)
        for value in [0, 1, *np.random.default_rng(lowest).integers(0, min(total, 32769), 30).tolist()]:
            rest = total - value
            line = np.array([[value, *[32768] * (rest // 32768), rest % 32768]], np.int64)
            coded = encode_probabilities(line, 10, True)
            assert coded.p[0, 0] == table[lowest, value, 0] and coded.spikes[0, 0] == table[lowest, value, 1]
    assert table.shape == (15, len(u), 2)


def check_attention(operations: Operations, qkv: np.ndarray, config: DecoderConfig, base: int, spiking: bool, turning: bool = True) -> None:
    """Tokens of qkv int32 [tokens, (heads + 2 kv_heads) * D] through the operation and through the definition."""
    tokens, code = len(qkv), CodeConfig()
    stop = np.full((config.heads, config.head_dim), 3, np.int32)
    bases = np.full(config.kv_heads, base, np.int32)
    cos, sin = rotary_tables(config.max_positions, config.head_dim, config.rope_theta)
    if not turning:
        cos[:], sin[:] = 1 << 14, 0
    q, k, v = np.split(qkv.astype(np.int64).reshape(tokens, -1, config.head_dim), [config.heads, config.heads + config.kv_heads], axis=1)
    layer_cache = LayerCache.empty(config.max_positions, config.kv_heads, config.head_dim)
    layer_cache.write(0, rotate(k, cos[:tokens], sin[:tokens]), v, bases)
    layer = random_decoder(0, config=config, parts="all" if spiking else "feed-forward").layers[0]
    layer.query_stop[:], layer.value_base[:] = stop, bases
    expected, activity = attend(
        rotate(q, cos[:tokens], sin[:tokens]),
        layer_cache,
        0,
        layer.query_stop,
        layer.value_base,
        FORMATS,
        code,
        spiking=layer.attention_spiking,
    )
    cache = SlotCache.empty(1, tokens, config.kv_heads, config.head_dim, torch.device("cpu"))
    result = operations.attention(
        torch.from_numpy(qkv.copy()),
        torch.from_numpy(stop),
        torch.from_numpy(bases),
        (torch.from_numpy(cos), torch.from_numpy(sin)),
        Rows(torch.arange(tokens), torch.zeros(tokens, dtype=torch.long), tokens, True, torch.tensor([tokens])),
        cache,
        FORMATS,
        code.query_phases if spiking else 0,
        code.probability_bits,
    )
    assert equal(result.output, expected.reshape(tokens, -1))
    assert equal(result.query_spikes, activity.query_spikes)
    assert equal(result.probability_spikes, activity.probability_spikes)
    assert equal(result.probability_keys, activity.probability_keys)


@BACKENDS
@settings(max_examples=25)
@given(qkv=arrays(np.int32, (4, 64), elements=VALUES), base=st.integers(0, 22), spiking=st.booleans())
def test_attention(operations: Operations, qkv: np.ndarray, base: int, spiking: bool) -> None:
    check_attention(operations, qkv, SMALL_CONFIG, base, spiking)


@pytest.mark.parametrize(
    "operations",
    [pytest.param(CpuOperations(), id="kernels", marks=pytest.mark.slow), pytest.param(Operations(), id="torch")],
)  # the kernels compile once more for wide heads
@pytest.mark.parametrize("spiking", [True, False])
def test_attention_of_wide_heads_stays_exact(operations: Operations, spiking: bool) -> None:
    """Scores of 256 values per head exceed 2^24, the integers that float32 holds."""
    config = DecoderConfig(16, 16, 16, 1, 2, 1, 256, 16, 1e-5, 10000.0)
    rng = np.random.default_rng(0)
    qkv = rng.integers(23000, 24576, (16, 4 * 256)).astype(np.int32) << 1
    # Keys that differ little, so that the softmax sees every unit of the scores.
    qkv[:, 512:768] = qkv[0, 512:768] - 512 * rng.integers(0, 2, (16, 256)) * (np.arange(256) % 32 == 0)
    check_attention(operations, qkv, config, 8, spiking, turning=False)
