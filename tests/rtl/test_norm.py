"""RMSNorm: outputs and cycles equal to the reference and timing.md."""

from __future__ import annotations

import numpy as np
import pytest
from vector_script import WORDS, Expected, Script, chip, random_vector, words

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.reference.config import Formats
from neuromorphic_llm.reference.norm import rms_norm
from neuromorphic_llm.rtl.bench import Bench

WRITTEN = {"vector.maximum": "written"}
CHIPS = [
    chip(4, WRITTEN | {"vector.norm_latency": 63}),
    chip(16, WRITTEN),
    chip(8),
    chip(4, {"vector.norm_latency": 63}),
    chip(32, {"vector.norm_latency": 100}),
    chip(2, {"vector.norm_latency": 64}),
]
COUNTERS = ("count_elements", "count_square_roots", "count_divisions", "count_words_read", "count_words_written")


def run(bench: Bench, spec: ChipSpec, seed: int, cycles: int) -> None:
    """Norms of random vectors, formats and addresses, some back to back, for `cycles` cycles."""
    rng, lanes, reads = np.random.default_rng(seed), spec.vector.lanes, 3 if spec.maximum_read else 2
    script, expected, elements = Script(lanes), Expected(), 0
    while script.cycle < cycles:
        size = int(rng.integers(1, min(WORDS * lanes, 40 * lanes)))
        passes = -(-size // lanes)
        formats = Formats(norm=int(rng.integers(0, 24)), gain_fraction=int(rng.integers(0, 31)))
        epsilon = int(rng.integers(0, 1 << int(rng.integers(1, 60))))
        r = random_vector(rng, size)
        gain = np.clip(np.rint(rng.normal(0, 2.0 ** rng.integers(0, 33), size)), -(2**31), 2**31 - 1).astype(np.int64)
        residual_base, gain_base, output_base = (int(base) for base in rng.integers(0, WORDS - passes + 1, 3))
        script.configure(0, epsilon)
        script.configure(1, 24 + formats.gain_fraction - formats.norm)
        script.load(residual_base, words(r, lanes, rng), 0)
        script.load(gain_base, words(gain, lanes, rng), 1)
        y = rms_norm(r[None], gain.astype(np.int32), epsilon, formats)[0]
        written = np.zeros(passes * lanes, np.int64)
        written[:size] = y
        bases = {"residual_base": residual_base, "gain_base": gain_base, "output_base": output_base}
        magnitudes = int(np.bitwise_or.reduce(np.abs(r.astype(np.int64))))
        for _ in range(int(rng.integers(1, 3))):
            script.drive(start=1, size=size, **bases, magnitudes=magnitudes)
            taken = reads * passes + spec.vector.norm_latency
            expected.commands.append((script.cycle, script.cycle + taken - 1, output_base, written.reshape(-1, lanes)))
            script.cycle += taken
            elements += size
        script.cycle += int(rng.integers(0, 3))
    script.cycle += 1
    bench.reset()
    outputs = bench.run(script.inputs(bench), outputs=["done", "write_enable", "write_address", "write_data", *COUNTERS])
    expected.check(outputs, lanes)
    norms = len(expected.commands)
    assert [int(outputs[name][-1]) for name in COUNTERS] == [elements, norms, norms, (1 + reads) * elements, elements]


@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"{spec.vector.maximum}-L{spec.vector.lanes}")
def test_norm(spec) -> None:
    bench = Bench("nmllm_norm_tb", spec=spec)
    for seed in range(5):
        run(bench, spec, seed, 50_000)


def test_a_latency_that_does_not_suffice_is_refused() -> None:
    with pytest.raises(SimulationError, match="NORM_LATENCY must be at least 63"):
        Bench("nmllm_norm_tb", spec=chip(8, {"vector.norm_latency": 62}))


@pytest.mark.slow
@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"{spec.vector.maximum}-L{spec.vector.lanes}")
def test_norm_long(spec) -> None:
    bench = Bench("nmllm_norm_tb", spec=spec)
    for seed in range(100, 125):
        run(bench, spec, seed, 100_000)
