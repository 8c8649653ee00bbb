"""Event-driven crossbar arithmetic, compiled: every spike adds or subtracts one row of int8 weights."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from neuromorphic_llm.arithmetic.scalars import output_stage
from neuromorphic_llm.devices import membrane_kernels
from neuromorphic_llm.kernel_cache import kernel

FLUSH_ROWS = 256
"""Rows of int8 that an int16 partial sum takes: 256 * -128 = -2^15."""

BLOCK_COLUMNS = 1024
"""Columns accumulated together: their sums stay in the first-level cache, the weights of a site's block in the second."""

PARALLEL_GRAIN = 1 << 26
"""Synaptic operations below which waking other threads costs more than it saves."""


@kernel
def accumulate_columns(
    weights_t: NDArray[np.int8],
    rows: NDArray[np.int32],
    bounds: NDArray[np.int64],
    phases: int,
    horner_shift: int,
    first: int,
    total: NDArray[np.int32],
) -> None:
    """Accumulators of columns first .. first + len(total) of weights_t [inputs, outputs], phase by phase (event form of numerics.md)."""
    width = len(total)
    last = first + width
    partial = np.empty(width, np.int16)
    total[:] = 0
    shift = 0
    for phase in range(phases):
        shift += horner_shift
        if bounds[phase, 0] == bounds[phase, 2]:
            continue
        for j in range(width):
            total[j] = total[j] << shift
        shift = 0
        for negative in range(2):
            s = bounds[phase, negative]
            end = bounds[phase, negative + 1]
            while s < end:
                limit = min(end, s + FLUSH_ROWS)
                partial[:] = 0
                while s + 4 <= limit:
                    row_0 = weights_t[rows[s], first:last]
                    row_1 = weights_t[rows[s + 1], first:last]
                    row_2 = weights_t[rows[s + 2], first:last]
                    row_3 = weights_t[rows[s + 3], first:last]
                    for j in range(width):
                        partial[j] += np.int16(row_0[j]) + np.int16(row_1[j]) + np.int16(row_2[j]) + np.int16(row_3[j])
                    s += 4
                while s < limit:
                    row_0 = weights_t[rows[s], first:last]
                    for j in range(width):
                        partial[j] += np.int16(row_0[j])
                    s += 1
                if negative:
                    for j in range(width):
                        total[j] -= np.int32(partial[j])
                else:
                    for j in range(width):
                        total[j] += np.int32(partial[j])
    for j in range(width):
        total[j] = total[j] << shift


@kernel
def accumulate(
    weights_t: NDArray[np.int8],
    rows: NDArray[np.int32],
    bounds: NDArray[np.int64],
    phases: int,
    horner_shift: int,
    total: NDArray[np.int32],
) -> None:
    """Accumulators of all columns on the calling thread; see accumulate_columns."""
    for first in range(0, len(total), BLOCK_COLUMNS):
        accumulate_columns(weights_t, rows, bounds, phases, horner_shift, first, total[first : first + BLOCK_COLUMNS])


@kernel(parallel=True)
def accumulate_parallel(
    weights_t: NDArray[np.int8],
    rows: NDArray[np.int32],
    bounds: NDArray[np.int64],
    phases: int,
    horner_shift: int,
    total: NDArray[np.int32],
) -> None:
    """The same with the blocks of columns shared among threads; no sum crosses a block, so the result cannot depend on them."""
    for block in prange((len(total) + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS):
        first = block * BLOCK_COLUMNS
        accumulate_columns(weights_t, rows, bounds, phases, horner_shift, first, total[first : first + BLOCK_COLUMNS])


@kernel
def accumulate_levels(weights_t: NDArray[np.int8], coded: NDArray[np.int32], total: NDArray[np.int32]) -> None:
    """Products of weights_t [inputs, outputs] and signed levels [inputs], row by row of those that are not 0."""
    total[:] = 0
    for first in range(0, len(total), BLOCK_COLUMNS):
        part = total[first : first + BLOCK_COLUMNS]
        for i in range(len(coded)):
            level = coded[i]
            if level != 0:
                row = weights_t[i, first : first + len(part)]
                for j in range(len(part)):
                    part[j] += level * np.int32(row[j])


@kernel
def read_membranes(
    sums: NDArray[np.int32], exponents: NDArray[np.int64], ranges: NDArray[np.int8], bits: int, repeats: int, total: NDArray[np.int64]
) -> np.int64:
    """Add the conversions of the membranes of a site to total [outputs]; the number of repeated ones.

    sums of a block and column [blocks, outputs], exponents [blocks], ranges [blocks, outputs].
    """
    repeated = np.int64(0)
    for block in range(len(sums)):
        repeated += membrane_kernels.convert(sums[block], ranges[block], exponents[block], bits, repeats, total)
    return repeated


@kernel
def scale(
    accumulators: NDArray[np.int32],
    multiplier: NDArray[np.int32],
    shift: int,
    bias: NDArray[np.int32],
    values: NDArray[np.int32],
) -> None:
    """Output stage: values = sat32(rsh(acc * multiplier, shift) + bias), shift = S - k_min; an empty bias is none."""
    for j in range(len(accumulators)):
        offset = np.int64(bias[j]) if len(bias) else np.int64(0)
        values[j] = output_stage(accumulators[j], np.int64(multiplier[j]), shift, offset)
