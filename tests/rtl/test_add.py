"""Residual addition: outputs and cycles equal to numerics.md and timing.md."""

from __future__ import annotations

import numpy as np
import pytest
from vector_script import WORDS, Expected, Script, chip, random_vector, words

from neuromorphic_llm.reference.fixed_point import saturate
from neuromorphic_llm.rtl.bench import Bench

CHIPS = [chip(8), chip(2, {"vector.latency": 3}), chip(16, {"vector.latency": 7})]
COUNTERS = ("count_elements", "count_words_read", "count_words_written")


def run(bench: Bench, lanes: int, latency: int, seed: int, cycles: int) -> None:
    """Additions to random residuals, some back to back, for `cycles` cycles."""
    rng = np.random.default_rng(seed)
    script, expected, elements = Script(lanes), Expected(), 0
    while script.cycle < cycles:
        size = int(rng.integers(1, 60 * lanes))
        passes = -(-size // lanes)
        residual_base, operand_base = (int(base) for base in rng.integers(0, WORDS - passes + 1, 2))
        residual, operand = words(random_vector(rng, size), lanes, rng), words(random_vector(rng, size), lanes, rng)
        script.load(residual_base, residual, 0)
        script.load(operand_base, operand, 1)
        for _ in range(int(rng.integers(1, 5))):  # back to back: the next one reads what this one wrote
            script.drive(start=1, size=size, residual_base=residual_base, operand_base=operand_base)
            total = residual.ravel().copy()
            total[:size] = saturate(total[:size] + operand.ravel()[:size], 32)
            residual = total.reshape(-1, lanes)
            taken = passes + latency
            expected.commands.append((script.cycle, script.cycle + taken - 1, residual_base, residual))
            script.cycle += taken
            elements += size
        script.cycle += int(rng.integers(0, 3))
    script.cycle += 1
    bench.reset()
    outputs = bench.run(script.inputs(bench), outputs=["done", "write_enable", "write_address", "write_data", *COUNTERS])
    expected.check(outputs, lanes)
    assert [int(outputs[name][-1]) for name in COUNTERS] == [elements, 2 * elements, elements]


@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector.lanes}")
def test_add(spec) -> None:
    bench = Bench("nmllm_add_tb", spec=spec)
    for seed in range(4):
        run(bench, spec.vector.lanes, spec.vector.latency, seed, 90_000)


@pytest.mark.slow
@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector.lanes}")
def test_add_long(spec) -> None:
    bench = Bench("nmllm_add_tb", spec=spec)
    for seed in range(100, 135):
        run(bench, spec.vector.lanes, spec.vector.latency, seed, 100_000)
