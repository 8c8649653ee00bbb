"""The sequential square root and divider."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neuromorphic_llm.rtl.bench import Bench


def _run(bench: Bench, operands: dict[str, np.ndarray], cycles: int, result: str) -> list[int]:
    """Back-to-back commands of `cycles` cycles each; checks `done` and returns the results."""
    count = len(next(iter(operands.values())))
    start = np.zeros(count * cycles + 1, np.int64)
    start[:-1:cycles] = 1
    inputs = {"start": start}
    for name, values in operands.items():
        inputs[name] = np.zeros((len(start), *values.shape[1:]), values.dtype)
        inputs[name][:-1:cycles] = values
    outputs = bench.run(inputs)
    assert np.array_equal(np.flatnonzero(outputs["done"]), np.arange(1, count + 1) * cycles - 1)
    return outputs[result][cycles::cycles].tolist()


@pytest.mark.parametrize("bits", [62, 30, 8])
def test_square_roots(bits: int) -> None:
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 1 << bits, 19_000) >> rng.integers(0, bits, 19_000)
    roots = rng.integers(0, 1 << (bits // 2), 500)
    values = np.concatenate([values, roots**2, np.maximum(roots**2 - 1, 0), [0, 1, 2, 3, (1 << bits) - 1]])
    assert _run(Bench("nmllm_isqrt", {"RADICAND_BITS": bits}), {"radicand": values}, bits // 2 + 1, "root") == [
        math.isqrt(int(value)) for value in values
    ]


@pytest.mark.parametrize(("divisor_bits", "quotient_bits"), [(31, 17), (16, 17), (5, 3)])
def test_quotients(divisor_bits: int, quotient_bits: int) -> None:
    rng = np.random.default_rng(divisor_bits)
    divisor = np.maximum(rng.integers(0, 1 << divisor_bits, 26_000) >> rng.integers(0, divisor_bits, 26_000), 1)
    dividend = rng.integers(0, divisor << quotient_bits)
    dividend[:100] = (divisor[:100] << quotient_bits) - 1
    dividend[100:200] = 0
    bench = Bench("nmllm_divide", {"DIVISOR_BITS": divisor_bits, "QUOTIENT_BITS": quotient_bits})
    assert _run(bench, {"dividend": dividend, "divisor": divisor}, quotient_bits + 1, "quotient") == (dividend // divisor).tolist()
