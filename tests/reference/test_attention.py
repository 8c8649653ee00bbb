"""Attention against its definition in Python integers, and its softmax against floating point."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromorphic_llm.reference.attention import LayerCache, attend, encode_probabilities, softmax_base2
from neuromorphic_llm.reference.fixed_point import EXP2, bit_length
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights


def shifted(x: int, n: int) -> int:
    """rsh."""
    return x << -n if n <= 0 else 0 if n > 62 else (x + (1 << (n - 1))) >> n


def clipped(x: int, bits: int) -> int:
    """sat_b."""
    return min(max(x, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)


def digits_of(v: int, stop: int, phases: range) -> tuple[int, int]:
    """Value and number of spikes of one neuron by the 3/4 rule."""
    x, spikes = v, 0
    for k in phases:
        if 4 * abs(v) >= 3 * 2**k and 2 * abs(v) > 2**k + (stop >> k):
            v -= 2**k if v > 0 else -(2**k)
            spikes += 1
    return x - v, spikes


def head_by_definition(
    q: list[int], keys: list[list[int]], values: list[list[int]], stop: list[int], base: int, weights: DecoderWeights, spiking: bool
) -> tuple[list[int], tuple[int, int, int, int]]:
    """Output of one query head over raw keys and values, and (query phases, query, probability spikes, keys)."""
    formats, code = weights.formats, weights.code
    m = max(abs(x) for x in q)
    if spiking:
        k_top = next(k for k in range(40) if 3 * 2**k >= 2 * m)
        k_q = max(k_top - code.query_phases + 1, 0)
        coded = [digits_of(x, r, range(k_top, k_q - 1, -1)) for x, r in zip(q, stop, strict=True)]
        a_q, query = [value >> k_q for value, _ in coded], (k_top - k_q + 1, sum(n for _, n in coded))
    else:
        k_q = max(m.bit_length() - 10, 0)
        a_q, query = [shifted(x, k_q) for x in q], (0, 0)
    z = []
    for key in keys:
        e_k = max(max(abs(x) for x in key).bit_length() - 7, 0)
        s = sum(a * clipped(shifted(x, e_k), 8) for a, x in zip(a_q, key, strict=True))
        z.append(clipped(shifted(s, max(2 * formats.qkv - 8 - k_q - e_k, -24)), 24))
    u = [shifted(int(EXP2[(max(z) - x) & 255]), (max(z) - x) >> 8) for x in z]
    low = min(max(sum(u).bit_length() - 1 - code.probability_bits, 0), 14)
    if spiking:
        found = [digits_of(x, 0, range(15, low - 1, -1)) for x in u]
        p, spikes = [value >> low for value, _ in found], [n for _, n in found]
    else:
        p, spikes = [shifted(x, low) for x in u], [0] * len(u)
    exponents = [min(max(max(abs(x) for x in value).bit_length() - 7 - base, 0), 3) for value in values]
    total = sum(p)
    b = total.bit_length()
    inverse = 2 ** (b + 15) // total
    output = []
    for i in range(len(q)):
        acc = sum(pj * (clipped(shifted(v[i], base + e), 8) << e) for pj, v, e in zip(p, values, exponents, strict=True))
        output.append(clipped(shifted(acc * inverse, b + 15 + formats.qkv - base - formats.attention), 32))
    return output, (*query, sum(spikes), sum(n > 0 for n in spikes))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_attention_is_that_of_the_definition(seed: int, query_bits: int, value_bits: int, spiking: bool) -> None:
    weights = random_decoder(seed % 3, parts="all" if spiking else "feed-forward")
    config, layer = SMALL_CONFIG, weights.layers[0]
    rng = np.random.default_rng(seed)
    tokens = 5
    q = rng.integers(-(2**query_bits), 2**query_bits, (tokens, config.heads, config.head_dim), endpoint=True)
    k = rng.integers(-(2**16), 2**16, (tokens, config.kv_heads, config.head_dim))
    v = rng.integers(-(2**value_bits), 2**value_bits, k.shape, endpoint=True)
    cache = LayerCache.empty(config.max_positions, config.kv_heads, config.head_dim)
    cache.write(0, k, v, layer.value_base)
    output, activity = attend(q[2:], cache, 2, layer.query_stop, layer.value_base, weights.formats, weights.code, spiking=spiking)
    for n in range(2, tokens):
        for h in range(config.heads):
            group = h // (config.heads // config.kv_heads)
            keys, values = k[: n + 1, group].tolist(), v[: n + 1, group].tolist()
            base, stop = int(layer.value_base[group]), layer.query_stop[h].tolist()
            expected, counts = head_by_definition(q[n, h].tolist(), keys, values, stop, base, weights, spiking)
            assert output[n - 2, h].tolist() == expected
            found = (activity.query_phases, activity.query_spikes, activity.probability_spikes, activity.probability_keys)
            assert tuple(int(part[n - 2, h]) for part in found) == counts


def test_weights_are_close_to_powers_of_two() -> None:
    z = np.random.default_rng(0).integers(-(2**12), 2**12, (6, 200))
    exact = np.exp2((z - z.max(axis=1, keepdims=True)) / 256)
    assert np.abs(softmax_base2(z) / 2**15 - exact).max() <= 1.01 * 2.0**-15


@pytest.mark.parametrize(("spiking", "error"), [(True, 0.75), (False, 0.5)])
def test_probabilities_are_close_to_the_weights(spiking: bool, error: float) -> None:
    z = np.rint(np.random.default_rng(0).normal(0, 3, (6, 200)) * 256).astype(np.int64)
    u = softmax_base2(z)
    coded = encode_probabilities(u, 10, spiking)
    unit = 2 ** (bit_length(u.sum(axis=1, keepdims=True)) - 11)
    assert (unit > 1).all()
    assert (np.abs(coded.p * unit - u) <= error * unit).all()
    assert ((coded.spikes > 0) == (spiking & (coded.p > 0))).all()


@given(st.integers(1, 64).flatmap(lambda n: st.lists(st.integers(-(2**23), 2**23 - 1), min_size=n, max_size=n)), st.integers(1, 10))
def test_some_key_always_gets_weight(z: list[int], bits: int) -> None:
    for spiking in (True, False):
        coded = encode_probabilities(softmax_base2(np.array([z])), bits, spiking)
        assert coded.p.min() >= 0
        assert coded.p.sum() >= 1


def test_value_sum_bound_is_reached_by_equal_weights() -> None:
    coded = encode_probabilities(softmax_base2(np.zeros((1, 8192), np.int64)), 10, True)
    assert int(coded.p.sum()) * (128 << 3) == 2**24


def test_cache_keeps_eight_bits_with_an_exponent() -> None:
    config = SMALL_CONFIG
    cache = LayerCache.empty(config.max_positions, config.kv_heads, config.head_dim)
    k = np.zeros((1, config.kv_heads, config.head_dim), np.int64)
    k[0, 0, :3] = [127, -128, 5]
    k[0, 1, :3] = [255, -256, 3]
    v = np.zeros_like(k)
    v[0, 0, 0], v[0, 1, 0] = 2**20, -(2**30)
    cache.write(3, k, v, np.array([2, 2], np.int32))
    assert cache.key_exponent[3].tolist() == [1, 2]
    assert cache.keys[3, :, :3].tolist() == [[64, -64, 3], [64, -64, 1]]
    assert cache.value_exponent[3].tolist() == [3, 3]
    assert cache.values[3, :, 0].tolist() == [127, -128]


@given(st.integers(0, 2**32 - 1))
def test_an_offset_of_all_keys_changes_nothing_but_rounding(seed: int) -> None:
    """Keys of 7 bits are stored as they are: with an offset added to the keys and taken off again every output is the same."""
    weights, rng = random_decoder(seed % 3), np.random.default_rng(seed)
    config, layer = SMALL_CONFIG, weights.layers[0]
    q = rng.integers(-(2**15), 2**15, (1, config.heads, config.head_dim))
    k = rng.integers(-127, 128, (9, config.kv_heads, config.head_dim))
    v = rng.integers(-(2**14), 2**14, k.shape)
    offset = rng.integers(-(2**24), 2**24, k.shape[1:]).astype(np.int32)
    plain, moved = (
        LayerCache.empty(config.max_positions, config.kv_heads, config.head_dim),
        LayerCache.empty(config.max_positions, config.kv_heads, config.head_dim),
    )
    plain.write(0, k, v, layer.value_base)
    moved.write(0, k + offset, v, layer.value_base, offset)
    assert np.array_equal(plain.keys, moved.keys) and np.array_equal(plain.key_exponent, moved.key_exponent)
    # In exact numbers: q (k + offset) is q k plus one number per query, and so are the scores' distances from their maximum.
    exact, bare = (np.einsum("hi,thi->ht", q[0].astype(object), keys.repeat(2, 1).astype(object)) for keys in (k + offset, k))
    assert np.array_equal(exact.max(1, keepdims=True) - exact, bare.max(1, keepdims=True) - bare)
    outputs = [attend(q, cache, 8, layer.query_stop, layer.value_base, weights.formats, weights.code)[0] for cache in (plain, moved)]
    assert np.array_equal(*outputs)


def test_keys_less_their_offset_saturate() -> None:
    config = SMALL_CONFIG
    cache = LayerCache.empty(config.max_positions, config.kv_heads, config.head_dim)
    k = np.zeros((1, config.kv_heads, config.head_dim), np.int64)
    k[0, :, :2] = [-(2**31), 2**31 - 1]
    offset = np.zeros(k.shape[1:], np.int32)
    offset[:, :2] = [2**31 - 1, -(2**31)]
    cache.write(0, k, np.zeros_like(k), np.zeros(config.kv_heads, np.int32), offset)
    assert (cache.key_exponent[0] == 25).all()  # bitlen(2^31) - 7
    assert cache.keys[0, :, :2].tolist() == [[-64, 64]] * config.kv_heads
