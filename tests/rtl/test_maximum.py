"""The largest magnitude of a vector, taken while it is written."""

from __future__ import annotations

import numpy as np
import pytest
from vector_script import chip

from neuromorphic_llm.rtl.bench import Bench


@pytest.mark.parametrize("lanes", [8, 4])
def test_every_word_is_compared_from_clear_to_clear(lanes: int) -> None:
    rng, cycles = np.random.default_rng(lanes), 1_000_000
    clear = rng.random(cycles) < 0.02
    clear[0] = True
    mask = rng.integers(0, 2**lanes, cycles) * (rng.random(cycles) < 0.5)
    data = (rng.uniform(-1, 1, (cycles, lanes)) * 2.0 ** rng.integers(0, 32, (cycles, 1))).astype(np.int64)
    data[rng.random(cycles) < 0.01, 0] = -(2**31)
    bench = Bench("nmllm_maximum", spec=chip(lanes))
    bench.reset()
    found = bench.run({"clear": clear, "mask": mask, "data": data.astype(np.int32).view(np.uint32)}, outputs=["maximum"])["maximum"]
    written = np.where((mask[:, None] >> np.arange(lanes)) & 1 == 1, np.abs(data), 0).max(axis=1)
    expected = np.zeros(cycles, np.int64)
    for cycle in range(1, cycles):
        expected[cycle] = 0 if clear[cycle - 1] else max(expected[cycle - 1], written[cycle - 1])
    assert np.array_equal(found[1:], expected[1:].astype(np.uint64))
