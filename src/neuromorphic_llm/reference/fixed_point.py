"""Fixed-point operations and tables of docs/reference/numerics.md, vectorised over int64 arrays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.spikes.integers import Integers, bit_length, rsh, rsh_saturate_32, saturate

__all__ = [
    "EXP2",
    "SHARES",
    "SIG",
    "TANH",
    "Integers",
    "bit_length",
    "check_int32",
    "exact_product",
    "isqrt",
    "rsh",
    "rsh_saturate_32",
    "saturate",
]

EXP2: Integers = np.rint(2.0**15 * np.exp2(-np.arange(256) / 256)).astype(np.int64)
"""EXP2[i] = round(2^15 * 2^(-i/256)), int64 [256]."""

SIG: Integers = np.rint(2.0**15 / (1 + np.exp(-np.arange(257) / 16))).astype(np.int64)
"""SIG[i] = round(2^15 / (1 + exp(-i/16))), int64 [257]."""

TANH: Integers = np.rint(2.0**15 * np.tanh(np.arange(257) / 32)).astype(np.int64)
"""TANH[i] = round(2^15 tanh(i/32)), int64 [257]."""

_X = np.arange(257) / 16
SHARES: dict[str, Integers] = {
    "silu": SIG,
    "gelu": np.rint(2.0**14 * (1 + np.array([math.erf(x) for x in _X / math.sqrt(2)]))).astype(np.int64),
    "gelu-tanh": np.rint(2.0**14 * (1 + np.tanh(math.sqrt(2 / math.pi) * (_X + 0.044715 * _X**3)))).astype(np.int64),
    "relu": np.full(257, 1 << 15, np.int64),
}
"""Share of x = i/16 that passes each activation, at fraction 15, int64 [257] (families.md)."""


def isqrt(n: ArrayLike) -> Integers:
    """Floor of the square root of each integer in 0 .. 2^62."""
    values = np.asarray(n, np.int64)
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    # The conversion and the root round to 53 bits, so the floor is off by one at most.
    root = np.where(root * root > values, root - 1, root)
    return np.where((root + 1) * (root + 1) <= values, root + 1, root)


def exact_product(a: NDArray[np.integer], weight: NDArray[np.integer]) -> Integers:
    """The integer product a @ weight.T, [tokens, outputs], of a [tokens, inputs] and weight [outputs, inputs].

    Computed in float64, which is exact while all partial sums stay below 2^53: |a| < 2^31, |weight| < 2^8 and fewer than 2^14 inputs.
    """
    return (a.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64)


def check_int32(accumulators: Integers, where: str) -> Integers:
    """The accumulators unchanged; SimulationError if one does not fit 32 bits, which conversion rules out."""
    if accumulators.size and np.abs(accumulators).max() >= 1 << 31:
        raise SimulationError(f"an accumulator of {where} exceeds 32 bits; convert the model again, the network's weights are not valid")
    return accumulators
