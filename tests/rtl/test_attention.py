"""The attention engine against the integer reference: outputs, counters and the cycle of every command."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from attention_script import Integers, Network, Script, Shape, check, group_cycles, load, load_vector, random_network, random_queries

from neuromorphic_llm.reference.attention import LayerCache
from neuromorphic_llm.reference.config import CodeConfig, Formats
from neuromorphic_llm.rtl.bench import Bench

NANO = Shape(16, group=2, slots=2, lanes=8, key_lanes=16, softmax_lanes=8)
SHAPES = {
    "nano": NANO,
    "long-heads": Shape(64, group=3, slots=1, lanes=16, key_lanes=16, softmax_lanes=8),
    "one-head": Shape(32, group=1, slots=3, lanes=8, key_lanes=8, softmax_lanes=16, latency=22),
    "shared-words": Shape(8, group=4, slots=2, lanes=16, key_lanes=16, softmax_lanes=4, latency=40, kv_bytes=16384),
    "smaller-than-built": Shape(16, group=2, slots=2, lanes=4, key_lanes=16, softmax_lanes=4, largest_dim=24, largest_group=4),
    "nc1": Shape(64, group=3, slots=1, lanes=32, key_lanes=64, softmax_lanes=32, kv_bytes=262144),
}
SLOW = {"nc1", *(f"{name}-element" for name in SHAPES)} - {"nano-element", "long-heads-element"}
ONE_BY_ONE = tuple(SHAPES)
SHAPES |= {f"{name}-element": replace(shape, encoder="element") for name, shape in SHAPES.items()}
TOGETHER = {
    "nano-heads": replace(NANO, encoder="element", head_lanes=2, maximum="written"),
    "uneven-sets": Shape(16, group=3, slots=2, lanes=8, key_lanes=8, softmax_lanes=16, head_lanes=2, latency=22),
    "more-lanes-than-heads": Shape(8, group=2, slots=2, lanes=4, key_lanes=16, softmax_lanes=4, head_lanes=3, maximum="written"),
    "one-head-written": Shape(16, group=2, slots=2, lanes=8, key_lanes=16, softmax_lanes=8, maximum="written"),
    "smaller-group": Shape(16, group=3, slots=1, lanes=8, key_lanes=16, softmax_lanes=8, largest_group=5, head_lanes=2, maximum="written"),
}
"""Heads of a group side by side, in one set or in several, with maxima that are read or taken while scores are written."""
SHAPES |= TOGETHER
SLOW |= {"more-lanes-than-heads", "one-head-written", "smaller-group"}
FAST = [name for name in SHAPES if name not in SLOW]
"""Built in some ten seconds each, together with the units that both encoders share."""

NANOS = ("nano", "nano-element", "nano-heads")


@functools.cache
def bench(name: str) -> Bench:
    return SHAPES[name].bench()


def realistic(shape: Shape, tokens: int, rng: np.random.Generator) -> tuple[Network, Integers]:
    """Scores a few bits apart, prices that leave 1 to 2 spikes, and queries for it, [tokens, heads, head_dim]."""
    k, v = rng.normal(0, 2.0**14, (2, tokens, shape.slots, shape.head_dim)).astype(np.int64)
    base = np.full(shape.slots, 8, np.int32)
    cache = LayerCache(*(np.zeros(size, np.int8) for size in 2 * (k.shape, k.shape[:2])))
    cache.write(0, k, v, base)
    scale = 2.0**14 * 3 / np.sqrt(shape.head_dim)
    stop = np.full((shape.heads, shape.head_dim), 0.01 * scale**2).astype(np.int32)
    network = random_network(shape, tokens, rng, code=CodeConfig(), cache=cache, stop=stop, value_base=base)
    return network, rng.normal(0, scale, (tokens, shape.heads, shape.head_dim)).astype(np.int64)


def of_both_encoders(*names: str, beside: Iterable[str] = ()) -> list[Any]:
    """Shapes of these names with either encoder, and those beside them, as parameters; those that take long to build are slow."""
    every = [*(name + encoder for name in names for encoder in ("", "-element")), *beside]
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in every]


@pytest.mark.parametrize("name", of_both_encoders(*ONE_BY_ONE, beside=TOGETHER))
def test_any_queries_keys_and_values(name: str) -> None:
    rng = np.random.default_rng(1)
    shape = SHAPES[name]
    for _ in range(4):
        tokens = int(rng.integers(1, min(shape.longest, 300)))
        contexts = [1, tokens, *rng.integers(1, tokens + 1, 4).tolist()]
        formats = Formats(qkv=int(rng.integers(4, 20)), attention=int(rng.integers(0, 31)))
        network = random_network(shape, tokens, rng, formats=formats)
        check(bench(name), network, random_queries(shape, tokens, contexts, rng), rng)


@pytest.mark.parametrize("name", of_both_encoders("nano", "long-heads", "one-head", beside=("nano-heads", "uneven-sets")))
def test_scores_as_of_a_network(name: str) -> None:
    rng = np.random.default_rng(2)
    network, queries = realistic(SHAPES[name], 300, rng)
    check(bench(name), network, [(queries[n], n + 1) for n in (0, 1, 6, 15, 16, 17, 99, 255, 299)], rng)


def extreme(name: str) -> tuple[Network, list[tuple[Integers, int]]]:
    """Networks and queries at the ends of what numbers can be."""
    rng = np.random.default_rng(3)
    shape, tokens = NANO, 200
    vectors = (tokens, shape.slots, shape.head_dim)

    def cache(key: Integers, key_exponent: int, value: Integers, value_exponent: int) -> LayerCache:
        exponents = [np.full(vectors[:2], e, np.int8) for e in (key_exponent, value_exponent)]
        keys, values = (np.broadcast_to(x, vectors).astype(np.int8) for x in (key, value))
        return LayerCache(keys, exponents[0], values, exponents[1])

    ones = np.ones(1, np.int64)
    q = np.full((shape.heads, shape.head_dim), 2**31 - 1)
    free = np.zeros((shape.heads, shape.head_dim), np.int32)
    contexts = [1, 7, 8, 9, 16, 17, tokens]
    if name == "equal scores":
        network = random_network(
            shape, tokens, rng, cache=cache(ones, 0, -128 * ones, 3), stop=free, code=CodeConfig(), value_base=np.zeros(2, np.int32)
        )
        return network, [(q // 2**18, c) for c in contexts]
    if name == "one key dominates":
        key = -np.ones(vectors, np.int64)
        key[5] = 127
        return random_network(shape, tokens, rng, cache=cache(key, 7, rng.integers(-128, 128, vectors), 3)), [
            (q // 2**16, c) for c in contexts
        ]
    if name == "scores saturate":  # at both ends
        key = rng.choice([-128, 127], (tokens, shape.slots, 1))
        formats = Formats(qkv=0, attention=30)
        return random_network(shape, tokens, rng, cache=cache(key, 25, rng.integers(-128, 128, vectors), 3), formats=formats, stop=free), [
            (sign * q, c) for c in contexts for sign in (1, -1)
        ]
    if name == "largest exponents":
        network = random_network(
            shape, tokens, rng, cache=cache(127 * ones, 25, 127 * ones, 3), value_base=np.full(2, 31, np.int32), stop=free
        )
        return network, [(np.where(q > 0, -(2**31), 0), c) for c in contexts]
    if name == "no query spikes":
        return random_network(shape, tokens, rng), [(0 * q, c) for c in contexts]
    if name == "prices forbid spikes":
        return random_network(shape, tokens, rng, stop=np.full_like(free, 2**31 - 1)), [(q // 2 ** (30 - c % 20), c) for c in contexts]
    dear = np.full_like(free, 2**31 - 1)
    dear[::2, 3] = 0  # one neuron of every other head: blocks of a single spike
    unit = np.zeros_like(q)
    unit[:, 3] = 64
    return random_network(shape, tokens, rng, stop=dear), [(unit, c) for c in contexts]


EXTREMES = [
    "equal scores",
    "one key dominates",
    "scores saturate",
    "largest exponents",
    "no query spikes",
    "prices forbid spikes",
    "one spike",
]


@pytest.mark.parametrize("shape", NANOS)
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name: str, shape: str) -> None:
    network, queries = extreme(name)
    network.shape = SHAPES[shape]
    check(bench(shape), network, queries, np.random.default_rng(4))


@pytest.mark.parametrize("shape", NANOS)
@pytest.mark.parametrize("bits", range(1, 11))
def test_every_precision(bits: int, shape: str) -> None:
    rng = np.random.default_rng(bits)
    network, queries = realistic(SHAPES[shape], 60, rng)
    network.code = CodeConfig(query_phases=bits, probability_bits=bits)
    check(bench(shape), network, [(queries[n], n + 1) for n in (0, 30, 59)], rng)


def test_outputs_shift_left_as_far_as_they_go() -> None:
    """By 24 places and more: from 32 on, all but 0 saturates."""
    rng = np.random.default_rng(8)
    for base in range(20, 36, 2):
        network = random_network(NANO, 20, rng, formats=Formats(qkv=0, attention=30), value_base=np.array([base, base + 1], np.int32))
        check(bench("nano"), network, random_queries(NANO, 20, [3, 20], rng), rng)


@pytest.mark.parametrize("name", ["long-heads", "long-heads-element"])
def test_a_value_may_come_while_the_first_query_is_coded(name: str) -> None:
    rng = np.random.default_rng(7)
    shape, engine = SHAPES[name], bench(name)
    network = random_network(shape, 3, rng)
    q = rng.integers(-(2**16), 2**16, (shape.heads, shape.head_dim))
    output, activity = network.attend(q, 3)
    row = network.cache.values[2, 0].reshape(shape.head_words, -1).copy()
    network.cache.values[2, 0] = 0
    script = Script()
    load(script, network, np.arange(3))
    load_vector(script, network, q, "load_query")
    where = {"kv_valid": 1, "kv_is_value": 1, "kv_position": 2, "kv_exponent": int(network.cache.value_exponent[2, 0])}
    for word in range(shape.head_words):
        script.next(kv_word=word, kv_data=row[word], **where)
    script.put(script.cycles - shape.head_words, start=1, context_size=3, maximum=np.abs(q).max(axis=1).astype(np.uint32))
    script.cycles += group_cycles(shape, activity, 3, 0) - shape.head_words
    engine.reset()
    found = engine.run(script.inputs(engine), outputs=["done", "output_valid", "output_data"])
    assert np.flatnonzero(found["done"]).tolist() == [script.cycles - 1]
    assert np.array_equal(found["output_data"][found["output_valid"] == 1].astype(np.uint32).view(np.int32).reshape(output.shape), output)


def run_cycles(name: str, cycles: int, seed: int) -> None:
    """Tokens with random contexts for at least so many cycles."""
    rng = np.random.default_rng(seed)
    shape = SHAPES[name]
    while cycles > 0:
        tokens = int(rng.integers(2, min(shape.longest, 600)))
        network, queries = realistic(shape, tokens, rng)
        contexts = rng.integers(1, tokens + 1, 24)
        chosen = [(queries[c - 1], int(c)) for c in contexts]
        cycles -= check(bench(name), network, chosen + random_queries(shape, tokens, [tokens], rng), rng)


@pytest.mark.parametrize("name", FAST)
def test_many_cycles(name: str) -> None:
    run_cycles(name, 200_000, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_more_cycles(name: str) -> None:
    run_cycles(name, 2_000_000, 6)
