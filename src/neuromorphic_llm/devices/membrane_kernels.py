"""Conversion of the charges on membranes (docs/reference/devices.md, Membrane), compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.devices.membrane import LARGEST_SHIFT, REPEAT_SHIFT
from neuromorphic_llm.kernel_cache import kernel

Array = NDArray[Any]
Integer = Any  # int64 once compiled

_COLUMNS = 64
"""Columns that are looked at again together, if one of them saturates."""


@kernel
def convert(charges: Array, ranges: Array, exponent: int, bits: int, repeats: int, out: Array) -> Integer:
    """Add the conversions of the columns of one block to out int64 [outputs]; the number of repeated ones.

    charges: sums, integers [outputs]; ranges int8 [outputs] of the columns, beside the exponent of the block.
    """
    most, repeated = (np.int64(1) << (bits - 1)) - 1, np.int64(0)
    for first in range(0, out.size, _COLUMNS):
        some = slice(first, first + _COLUMNS)
        if _convert_once(charges[some], ranges[some], exponent, most, out[some]):
            repeated += _repeat(charges[some], ranges[some], exponent, most, repeats, out[some])
    return repeated


@kernel
def _shift_of(exponent: int, column_range: int) -> Integer:
    return min(max(exponent + column_range, 0), LARGEST_SHIFT)


@kernel
def _rounded(charge: int, shift: int) -> Integer:
    return (charge + ((np.int64(1) << shift) >> 1)) >> shift


@kernel
def _convert_once(charges: Array, ranges: Array, exponent: int, most: int, out: Array) -> Integer:
    """Add first conversions, saturated, to out; not zero if one was beyond the converter. Without branches: vectorised."""
    beyond = np.int64(0)
    for j in range(out.size):
        shift = _shift_of(exponent, ranges[j])
        converted = _rounded(np.int64(charges[j]), shift)
        clipped = min(max(converted, -most - 1), most)
        beyond |= converted ^ clipped
        out[j] += clipped << shift
    return beyond


@kernel
def _repeat(charges: Array, ranges: Array, exponent: int, most: int, repeats: int, out: Array) -> Integer:
    """Take first conversions that saturated off out, and add those of the same charge repeated; the number of these."""
    repeated = np.int64(0)
    for j in range(out.size):
        shift = _shift_of(exponent, ranges[j])
        charge = np.int64(charges[j])
        converted = _rounded(charge, shift)
        if -most - 1 <= converted <= most:
            continue
        out[j] -= min(max(converted, -most - 1), most) << shift
        for _ in range(repeats):
            if -most - 1 <= converted <= most:
                break
            shift += REPEAT_SHIFT
            repeated += 1
            converted = _rounded(charge, shift)
        out[j] += min(max(converted, -most - 1), most) << shift
    return repeated
