"""Rotary embedding: outputs, largest magnitudes and cycles equal to the reference and timing.md."""

from __future__ import annotations

import numpy as np
import pytest
from vector_script import WORDS, Expected, Script, chip, lanes_of, random_vector, words

from neuromorphic_llm.reference.rotary import rotary_tables, rotate
from neuromorphic_llm.rtl.bench import Bench

CHIPS = [chip(8), chip(2, {"vector.latency": 6}), chip(4), chip(32, {"vector.latency": 5})]
COUNTERS = ("count_elements", "count_maximum_elements", "count_words_read", "count_words_written", "count_table_entries")
MAXIMUM = ("maximum_valid", "maximum_head", "maximum")


def head_dims(lanes: int) -> list[int]:
    """Sizes of a head that the lanes allow: divisors of the lanes, multiples of twice as many."""
    return [d for d in range(2, lanes + 1, 2) if lanes % d == 0] + [2 * lanes, 4 * lanes, 6 * lanes]


def check_maxima(outputs, lanes: int, expected: list[tuple[int, list[int]]]) -> None:
    """The largest magnitudes of the heads in order, none later than in the cycle after `done`."""
    groups = lanes // 2
    cycles = np.flatnonzero(outputs["maximum_valid"])
    valid = lanes_of(outputs["maximum_valid"][cycles], groups, 1) != 0
    values = lanes_of(outputs["maximum"][cycles], groups) & 0xFFFFFFFF
    found = [
        (cycle, int(head) + g, int(value[g]))
        for cycle, head, value, mask in zip(cycles, outputs["maximum_head"][cycles], values, valid, strict=True)
        for g in np.flatnonzero(mask)
    ]
    assert [(head, value) for _, head, value in found] == [pair for _, maxima in expected for pair in enumerate(maxima)]
    last = np.repeat([done for done, _ in expected], [len(maxima) for _, maxima in expected])
    assert (np.array([cycle for cycle, _, _ in found]) <= last + 1).all()


def run(bench: Bench, lanes: int, latency: int, seed: int, cycles: int) -> None:
    """Rotations of random heads, positions and shapes for `cycles` cycles."""
    rng = np.random.default_rng(seed)
    script, expected, maxima, counts = Script(lanes), Expected(), [], np.zeros(5, np.int64)
    while script.cycle < cycles:
        d, heads, kv_heads = int(rng.choice(head_dims(lanes))), int(rng.integers(1, 10)), int(rng.integers(1, 5))
        size, half = (heads + kv_heads) * d, d // 2
        passes, rows = -(-size // lanes), -(-half // lanes)
        if rng.random() < 0.5:
            cos, sin = (table[-1:] for table in rotary_tables(int(rng.integers(1, 50)), d, 1e4))
        else:
            cos, sin = rng.integers(-(2**14), 2**14 + 1, (2, 1, half)).astype(np.int16)
        vector_base, table_base = int(rng.integers(0, WORDS - passes + 1)), int(rng.integers(0, WORDS - rows + 1))
        vector = words(random_vector(rng, size), lanes, rng)
        pairs = (cos[0].astype(np.int64) & 0xFFFF) | sin[0].astype(np.int64) << 16
        script.configure(0, d)
        script.configure(1, heads)
        script.load(vector_base, vector, 0)
        script.load(table_base, words(pairs, lanes, rng), 1)
        for _ in range(int(rng.integers(1, 4))):
            script.drive(start=1, size=size, vector_base=vector_base, table_base=table_base)
            values = vector.ravel().copy()
            rotated = rotate(values[:size].reshape(1, -1, d), cos, sin)[0]
            values[:size] = rotated.ravel()
            vector = values.reshape(-1, lanes)
            done = script.cycle + passes + latency - 1
            expected.commands.append((script.cycle, done, vector_base, vector))
            maxima.append((done, np.abs(rotated[:heads]).max(axis=1).tolist()))
            script.cycle = done + 1
            counts += np.array([size, heads * d, size, size, size])
        script.cycle += int(rng.integers(0, 3))
    script.cycle += 2
    bench.reset()
    outputs = bench.run(script.inputs(bench), outputs=["done", "write_enable", "write_address", "write_data", *MAXIMUM, *COUNTERS])
    expected.check(outputs, lanes)
    check_maxima(outputs, lanes, maxima)
    assert [int(outputs[name][-1]) for name in COUNTERS] == counts.tolist()


@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector.lanes}")
def test_rope(spec) -> None:
    bench = Bench("nmllm_rope_tb", spec=spec)
    for seed in range(5):
        run(bench, spec.vector.lanes, spec.vector.latency, seed, 50_000)


def test_a_reset_leaves_nothing_on_its_way() -> None:
    bench, script = Bench("nmllm_rope_tb", spec=CHIPS[0]), Script(8)
    script.configure(0, 8)
    script.configure(1, 4)
    script.load(0, np.ones((6, 8), np.int64), 0)
    script.load(0, np.ones((1, 8), np.int64), 1)
    begin = script.cycle
    script.drive(start=1, size=48)
    script.cycle += 16
    inputs = script.inputs(bench)
    for cycle in range(begin + 1, script.cycle):
        bench.reset()
        found = bench.run(inputs | {"rst": np.arange(script.cycle) == cycle}, outputs=["done", "write_enable", "maximum_valid"])
        assert not any(values[cycle + 1 :].any() for values in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector.lanes}")
def test_rope_long(spec) -> None:
    bench = Bench("nmllm_rope_tb", spec=spec)
    for seed in range(100, 125):
        run(bench, spec.vector.lanes, spec.vector.latency, seed, 100_000)
