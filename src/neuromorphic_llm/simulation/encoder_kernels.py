"""Spike encoders, compiled: one vector to signed digits, and digits to lists of events (docs/reference/numerics.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.arithmetic.scalars import bit_length, rounding_shift
from neuromorphic_llm.arithmetic.signed_digit import fire_phase, phase_range
from neuromorphic_llm.arithmetic.vectors import largest_magnitude
from neuromorphic_llm.chip.codes import CHIP_CODES
from neuromorphic_llm.kernel_cache import kernel

SIGNED_DIGIT, RATE, FIRST_SPIKE, BIT_PLANES = range(len(CHIP_CODES))
CODES = {name: number for number, name in enumerate(CHIP_CODES)}
"""Number by which the kernels know a code."""


@kernel
def _signed_digit(values: NDArray[np.int32], stop: NDArray[np.int32], m: int, limit: int, digits: NDArray[np.int8]) -> tuple[int, int]:
    top, least = phase_range(m, limit)
    rest = values.astype(np.int64)
    for phase in range(top - least + 1):
        fire_phase(rest, stop, top - phase, digits[phase])
    return top - least + 1, least


@kernel
def _rate(values: NDArray[np.int32], stop: NDArray[np.int32], m: int, limit: int, digits: NDArray[np.int8]) -> tuple[int, int]:
    k = 0
    while limit << k < m:
        k += 1
    for i in range(len(values)):
        value = np.int64(values[i])
        code = min(max(rounding_shift(value, k), -limit), limit)
        if value * value <= stop[i]:
            code = 0
        sign = 1 - 2 * (code < 0)
        size = abs(code)
        for phase in range(limit):
            digits[phase, i] = sign * ((phase + 1) * size // limit - phase * size // limit)
    return limit, k


@kernel
def _first_spike(values: NDArray[np.int32], stop: NDArray[np.int32], m: int, limit: int, digits: NDArray[np.int8]) -> tuple[int, int]:
    top = bit_length(m)
    least = max(top - limit + 1, 0)
    phases = top - least + 1
    digits[:phases] = 0
    for i in range(len(values)):
        value = np.int64(values[i])
        size = abs(value)
        if value * value <= stop[i]:
            continue
        k = bit_length(size) - 1
        if 2 * size >= np.int64(3) << k:
            k += 1
        if k >= least:
            digits[top - k, i] = 1 - 2 * (value < 0)
    return phases, least


@kernel
def _bit_planes(values: NDArray[np.int32], stop: NDArray[np.int32], m: int, limit: int, digits: NDArray[np.int8]) -> tuple[int, int]:
    least = max(bit_length(m) - (limit - 1), 0)
    for i in range(len(values)):
        value = np.int64(values[i])
        code = min(max(rounding_shift(value, least), -(1 << (limit - 1))), (1 << (limit - 1)) - 1)
        if value * value <= stop[i]:
            code = 0
        digits[0, i] = -(code < 0)
        for phase in range(1, limit):
            digits[phase, i] = (code >> (limit - 1 - phase)) & 1
    return limit, least


@kernel
def _encode(values: NDArray[np.int32], stop: NDArray[np.int32], code: int, limit: int, digits: NDArray[np.int8]) -> tuple[int, int]:
    """Code int32 values [n] into digits int8 [>= limit, n] with at most `limit` phases; (phases, k_min)."""
    m = largest_magnitude(values)
    if m == 0:
        digits[0] = 0
        return 1, 0
    if code == SIGNED_DIGIT:
        phases, exponent = _signed_digit(values, stop, m, limit, digits)
    elif code == RATE:
        phases, exponent = _rate(values, stop, m, limit, digits)
    elif code == FIRST_SPIKE:
        phases, exponent = _first_spike(values, stop, m, limit, digits)
    else:
        phases, exponent = _bit_planes(values, stop, m, limit, digits)
    return phases, exponent


@kernel
def _collect_events(
    digits: NDArray[np.int8], phases: int, block_rows: int, rows: NDArray[np.int32], bounds: NDArray[np.int64], events: NDArray[np.int32]
) -> int:
    """Number of spikes of digits [phases, n], which it lists as encode_events does."""
    size = digits.shape[1]
    negative = np.empty(size + 1, np.int32)
    position = 0
    for phase in range(phases):
        row = digits[phase]
        bounds[phase, 0] = position
        negatives = 0
        for first in range(0, size, block_rows):
            before = position + negatives
            for i in range(first, min(first + block_rows, size)):
                # stored always, kept if it is a spike: no branch to mispredict
                rows[position] = i
                position += row[i] > 0
                negative[negatives] = i
                negatives += row[i] < 0
            events[phase, first // block_rows] = position + negatives - before
        bounds[phase, 1] = position
        for i in range(negatives):
            rows[position + i] = negative[i]
        position += negatives
        bounds[phase, 2] = position
    return position


@kernel
def encode_events(
    values: NDArray[np.int32],
    stop: NDArray[np.int32],
    code: int,
    block_rows: int,
    digits: NDArray[np.int8],
    rows: NDArray[np.int32],
    bounds: NDArray[np.int64],
    events: NDArray[np.int32],
) -> tuple[int, int, int]:
    """(phases, k_min, spikes) of values [n] coded into digits int8 [largest number of phases, n], with the lists of their spikes.

    `rows` [>= phases * n] lists per phase the positive, then the negative ones; `bounds` [phases, 3] is the begin, the begin of the
    negative ones and the end of each phase; `events` [phases, row blocks] the counts.
    """
    phases, exponent = _encode(values, stop, code, len(digits), digits)
    return phases, exponent, _collect_events(digits, phases, block_rows, rows, bounds, events)


@kernel
def collect_events(
    digits: NDArray[np.int8], phases: int, block_rows: int, rows: NDArray[np.int32], bounds: NDArray[np.int64], events: NDArray[np.int32]
) -> int:
    """Lists of the spikes of digits [phases, n], as encode_events makes them; their number."""
    number: int = _collect_events(digits, phases, block_rows, rows, bounds, events)
    return number


@kernel
def encode_levels(
    values: NDArray[np.int32],
    stop: NDArray[np.int32],
    levels: NDArray[np.int32],
    block_rows: int,
    coded: NDArray[np.int32],
    events: NDArray[np.int32],
) -> int:
    """Exponent k_min of values [n], whose signed levels, 0 where silent, it writes to `coded` [n].

    levels: values of the code, ascending; events [slots, row blocks]: spikes at each level.
    """
    m = largest_magnitude(values)
    k = 0
    while np.int64(levels[-1]) << k < m:
        k += 1
    for i in range(len(values)):
        value = np.int64(values[i])
        coded[i] = 0
        if value * value <= stop[i]:
            continue
        size = 2 * abs(value) >> k
        slot, above = -1, len(levels)  # the middle below `slot` + 1 is reached, that below `above` + 1 is not
        while above - slot > 1:
            between = (slot + above) // 2
            if size >= levels[between] + (levels[between - 1] if between else 0):
                slot = between
            else:
                above = between
        if slot >= 0:
            coded[i] = levels[slot] if value > 0 else -levels[slot]
            events[slot, i // block_rows] += 1
    return k
