"""Keys and values to 8 bits: bytes, exponents and cycles equal to the reference and timing.md."""

from __future__ import annotations

import numpy as np
import pytest
from test_rope import head_dims
from vector_script import WORDS, Script, chip, lanes_of, random_vector, words

from neuromorphic_llm.reference.attention import LayerCache
from neuromorphic_llm.rtl.bench import Bench

CHIPS = [chip(8), chip(2, vector_latency=6), chip(4), chip(32, vector_latency=5)]
COUNTERS = ("count_elements", "count_vectors")
OUTPUTS = ("done", "kv_valid", "kv_vector", "kv_word", "kv_data", "kv_exponent")
MAX_HEAD_DIM = 64


def quantised(k, v, value_base) -> tuple[np.ndarray, np.ndarray]:
    """Bytes [2 * heads, D] and exponents [2 * heads] of a token by the reference, keys first."""
    shape = (1, *k.shape)
    cache = LayerCache(np.zeros(shape, np.int8), np.zeros(shape[:2], np.int8), np.zeros(shape, np.int8), np.zeros(shape[:2], np.int8))
    cache.write(0, k[None], v[None], value_base)
    return np.concatenate([cache.keys[0], cache.values[0]]), np.concatenate([cache.key_exponent[0], cache.value_exponent[0]])


def written(outputs, lanes: int) -> list[tuple[int, int, int, int, np.ndarray]]:
    """(cycle, vector, word, exponent, all lanes' bytes from the vector's first on) in order."""
    groups = lanes // 2
    cycles = np.flatnonzero(outputs["kv_valid"])
    valid = lanes_of(outputs["kv_valid"][cycles], groups, 1) != 0
    vector = lanes_of(outputs["kv_vector"][cycles], groups, 6) & 63
    exponent = lanes_of(outputs["kv_exponent"][cycles], groups, 5) & 31
    data = lanes_of(outputs["kv_data"][cycles], lanes, 8)
    return [
        (int(cycles[n]), int(vector[n, g]), int(outputs["kv_word"][cycles[n]]), int(exponent[n, g]), (g, data[n]))
        for n in range(len(cycles))
        for g in np.flatnonzero(valid[n])
    ]


def run(bench: Bench, lanes: int, latency: int, seed: int, cycles: int) -> None:
    """Random keys and values at random places, some commands back to back, for `cycles` cycles."""
    rng = np.random.default_rng(seed)
    script, expected, dones, elements, vectors = Script(lanes), [], [], 0, 0
    while script.cycle < cycles:
        d = int(rng.choice([d for d in head_dims(lanes) if d <= MAX_HEAD_DIM]))
        heads = int(rng.integers(1, 7))
        offset = int(rng.integers(0, max(lanes // d, 1))) * d if d < lanes else 0
        size = 2 * heads * d
        k, v = (np.stack([random_vector(rng, d) for _ in range(heads)]) for _ in range(2))
        value_base = rng.integers(0, 34, heads)
        rows = words(np.concatenate([rng.integers(-(2**31), 2**31, offset), k.ravel(), v.ravel()]), lanes, rng)
        base = int(rng.integers(0, WORDS - len(rows) + 1))
        script.configure(0, d)
        script.configure(1, heads)
        for head in range(heads):
            script.configure(32 + head, int(value_base[head]))
        script.load(base, rows)
        stored, exponents = quantised(k, v, value_base)
        for _ in range(int(rng.integers(1, 4))):
            script.drive(start=1, size=size, base=base, offset=offset)
            start, script.cycle = script.cycle, script.cycle + -(-size // lanes) + latency
            dones.append(script.cycle - 1)
            per_vector = max(d // lanes, 1)
            expected += [
                (start, dones[-1] + max(per_vector - 2, 0), vector, word, int(exponents[vector]), stored[vector][word * lanes :][:lanes])
                for vector in range(2 * heads)
                for word in range(per_vector)
            ]
            elements += size
            vectors += 2 * heads
        script.cycle += MAX_HEAD_DIM // lanes + 2  # the last words of the last value are still on their way
    bench.reset()
    outputs = bench.run(script.inputs(bench), outputs=[*OUTPUTS, *COUNTERS])
    assert np.flatnonzero(outputs["done"]).tolist() == dones
    found = written(outputs, lanes)
    assert len(found) == len(expected)
    for (cycle, vector, word, exponent, (group, data)), (first, last, *wanted, values) in zip(found, expected, strict=True):
        assert [vector, word, exponent] == wanted and first <= cycle <= last
        assert np.array_equal(data[group * len(values) :][: len(values)], values)
    assert [int(outputs[name][-1]) for name in COUNTERS] == [elements, vectors]


@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector_lanes}")
def test_kv_write(spec) -> None:
    bench = Bench("nmllm_kv_write_tb", spec=spec)
    for seed in range(5):
        run(bench, spec.vector_lanes, spec.vector_latency, seed, 50_000)


@pytest.mark.slow
@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector_lanes}")
def test_kv_write_long(spec) -> None:
    bench = Bench("nmllm_kv_write_tb", spec=spec)
    for seed in range(100, 125):
        run(bench, spec.vector_lanes, spec.vector_latency, seed, 100_000)
