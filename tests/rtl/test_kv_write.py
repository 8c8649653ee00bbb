"""Keys and values to 8 bits: bytes, exponents and cycles equal to the reference and timing.md."""

from __future__ import annotations

import numpy as np
import pytest
from test_rope import head_dims
from vector_script import WORDS, Script, chip, lanes_of, random_vectors, words

from neuromorphic_llm.reference.attention import LayerCache
from neuromorphic_llm.rtl.bench import Bench

CHIPS = [chip(8), chip(2, {"vector.latency": 6}), chip(4), chip(32, {"vector.latency": 5})]
COUNTERS = ("count_elements", "count_vectors", "count_offsets")
OUTPUTS = ("done", "kv_valid", "kv_vector", "kv_word", "kv_data", "kv_exponent")
MAX_HEAD_DIM = 64


def quantised(k, v, value_base, key_offset) -> tuple[np.ndarray, np.ndarray]:
    """Bytes [2 * heads, D] and exponents [2 * heads] of a token by the reference, keys first."""
    shape = (1, *k.shape)
    cache = LayerCache(np.zeros(shape, np.int8), np.zeros(shape[:2], np.int8), np.zeros(shape, np.int8), np.zeros(shape[:2], np.int8))
    cache.write(0, k[None], v[None], value_base, key_offset)
    return np.concatenate([cache.keys[0], cache.values[0]]), np.concatenate([cache.key_exponent[0], cache.value_exponent[0]])


def expected_words(start: int, done: int, stored: np.ndarray, exponents: np.ndarray, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a command, in order: first and last cycle, vector, word, exponent and elements of the word; its bytes, [words, lanes]."""
    vectors, d = stored.shape
    per_vector, elements = max(d // lanes, 1), min(d, lanes)
    vector, word = np.divmod(np.arange(vectors * per_vector), per_vector)
    last = np.full_like(word, done + max(per_vector - 2, 0))
    rows = np.stack([np.full_like(word, start), last, vector, word, exponents[vector], np.full_like(word, elements)], axis=1)
    data = np.zeros((len(rows), lanes), np.int8)
    data[:, :elements] = stored.reshape(-1, elements)
    return rows, data


def check(outputs, lanes: int, rows: np.ndarray, data: np.ndarray) -> None:
    """The words written, in order; those of a cycle lie in its data one after another."""
    groups = lanes // 2
    cycles = np.flatnonzero(outputs["kv_valid"])
    at, group = np.nonzero(lanes_of(outputs["kv_valid"][cycles], groups, 1))
    cycle = cycles[at]
    assert len(cycle) == len(rows)
    first, last, *wanted, elements = rows.T
    vector = lanes_of(outputs["kv_vector"][cycles], groups, 6)[at, group] & 63
    exponent = lanes_of(outputs["kv_exponent"][cycles], groups, 5)[at, group] & 31
    assert np.array_equal(np.stack([vector, outputs["kv_word"][cycle].astype(np.int64), exponent]), np.stack(wanted))
    assert ((first <= cycle) & (cycle <= last)).all()
    lane = np.arange(lanes)
    source = np.minimum((group * elements)[:, None] + lane, lanes - 1)
    found = np.take_along_axis(lanes_of(outputs["kv_data"][cycles], lanes, 8)[at], source, axis=1)
    assert np.array_equal(np.where(lane < elements[:, None], found, 0), data)


def run(bench: Bench, lanes: int, latency: int, seed: int, cycles: int) -> None:
    """Random keys and values at random places, some commands back to back, for `cycles` cycles."""
    rng = np.random.default_rng(seed)
    script, expected, dones, elements, vectors, offsets = Script(lanes), [], [], 0, 0, 0
    while script.cycle < cycles:
        d = int(rng.choice([d for d in head_dims(lanes) if d <= MAX_HEAD_DIM]))
        heads = int(rng.integers(1, 7))
        offset = int(rng.integers(0, max(lanes // d, 1))) * d if d < lanes else 0
        size = 2 * heads * d
        k, v = random_vectors(rng, 2 * heads, d).reshape(2, heads, d)
        value_base = rng.integers(0, 34, heads)
        key_offset = random_vectors(rng, heads, d) if rng.integers(2) else None
        rows = words(np.concatenate([rng.integers(-(2**31), 2**31, offset), k.ravel(), v.ravel()]), lanes, rng)
        base = int(rng.integers(0, WORDS - len(rows) + 1))
        script.configure(0, d)
        script.configure(1, heads)
        for head in range(heads):
            script.configure(32 + head, int(value_base[head]))
        script.load(base, rows)
        offset_base = 0
        if key_offset is not None:  # the memory of the offsets is a copy of the vector memory: they lie in front of or behind the vector
            taken = np.pad(key_offset.ravel(), (offset, -(offset + heads * d) % lanes)).reshape(-1, lanes)  # 0 where a lane has no key
            free = [*range(base - len(taken) + 1), *range(base + len(rows), WORDS - len(taken) + 1)]
            offset_base = int(rng.choice(free))
            script.load(offset_base, taken)
        stored, exponents = quantised(k, v, value_base, key_offset)
        for _ in range(int(rng.integers(1, 4))):
            centred = int(key_offset is not None)
            script.drive(start=1, size=size, base=base, offset=offset, centred=centred, offset_base=offset_base)
            offsets += centred * heads * d
            start, script.cycle = script.cycle, script.cycle + -(-size // lanes) + latency
            dones.append(script.cycle - 1)
            expected.append(expected_words(start, dones[-1], stored, exponents, lanes))
            elements += size
            vectors += 2 * heads
        script.cycle += MAX_HEAD_DIM // lanes + 2  # the last words of the last value are still on their way
    bench.reset()
    outputs = bench.run(script.inputs(bench), outputs=[*OUTPUTS, *COUNTERS])
    assert np.flatnonzero(outputs["done"]).tolist() == dones
    check(outputs, lanes, *(np.concatenate(parts) for parts in zip(*expected, strict=True)))
    assert [int(outputs[name][-1]) for name in COUNTERS] == [elements, vectors, offsets]


@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector.lanes}")
def test_kv_write(spec) -> None:
    bench = Bench("nmllm_kv_write_tb", spec=spec)
    for seed in range(5):
        run(bench, spec.vector.lanes, spec.vector.latency, seed, 50_000)


def test_a_reset_leaves_nothing_on_its_way() -> None:
    bench, script = Bench("nmllm_kv_write_tb", spec=CHIPS[0]), Script(8)
    script.configure(0, 8)
    script.configure(1, 2)
    script.load(0, np.ones((4, 8), np.int64))
    begin = script.cycle
    script.drive(start=1, size=32)
    script.cycle += 16
    inputs = script.inputs(bench)
    for cycle in range(begin + 1, script.cycle):
        bench.reset()
        found = bench.run(inputs | {"rst": np.arange(script.cycle) == cycle}, outputs=["done", "kv_valid"])
        assert not any(values[cycle + 1 :].any() for values in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector.lanes}")
def test_kv_write_long(spec) -> None:
    bench = Bench("nmllm_kv_write_tb", spec=spec)
    for seed in range(100, 125):
        run(bench, spec.vector.lanes, spec.vector.latency, seed, 100_000)
