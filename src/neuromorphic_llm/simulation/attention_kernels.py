"""Spike-driven attention of one token, compiled (docs/reference/numerics.md).

Query spikes add or subtract rows of the transposed keys (one element of all keys), probability spikes add or subtract rows of V.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.arithmetic import attention
from neuromorphic_llm.arithmetic.scalars import reciprocal, rounding_shift_saturated
from neuromorphic_llm.arithmetic.signed_digit import PROBABILITY_PHASES, free_digit
from neuromorphic_llm.kernel_cache import kernel
from neuromorphic_llm.simulation.crossbar_kernels import accumulate
from neuromorphic_llm.simulation.encoder_kernels import SIGNED_DIGIT, encode_events


@kernel
def write_key_value(
    keys: NDArray[np.int32],
    values: NDArray[np.int32],
    value_base: NDArray[np.int32],
    key_offset: NDArray[np.int32],
    position: int,
    key_cache: NDArray[np.int8],
    value_cache: NDArray[np.int8],
    key_exponents: NDArray[np.int32],
    value_exponents: NDArray[np.int32],
) -> None:
    """Store keys, values [kv_heads, head_dim] of token `position`.

    key_offset [kv_heads, head_dim], taken off `keys` in place, or [0, 0] for none; key_cache [kv_heads, head_dim, context],
    value_cache [kv_heads, context, head_dim], exponents [kv_heads, context].
    """
    for head in range(len(keys)):
        if key_offset.size:
            attention.take_off(keys[head], key_offset[head])
        exponent = attention.key_exponent(keys[head])
        key_exponents[head, position] = exponent
        attention.shift_into(keys[head], exponent, 0, key_cache[head, :, position])
        base = value_base[head]
        exponent = attention.value_exponent(values[head], base)
        value_exponents[head, position] = exponent
        attention.shift_into(values[head], base + exponent, 0, value_cache[head, position])


@kernel
def _apply_probabilities(
    weights: NDArray[np.int32],
    least: int,
    values: NDArray[np.int8],
    value_exponents: NDArray[np.int32],
    total: NDArray[np.int32],
) -> tuple[int, int, int]:
    """Code weights [context] over phases 15 .. least; every spike adds a row of V to `total`. (sum of p, spikes, keys with a spike)."""
    total[:] = 0
    probability = np.int64(0)
    spikes = 0
    keys = 0
    for j in range(len(weights)):
        rest = np.int64(weights[j])
        if free_digit(rest, least) == 0:
            continue  # stays below the threshold of every phase
        keys += 1
        row = values[j]
        for k in range(PROBABILITY_PHASES - 1, least - 1, -1):
            digit = free_digit(rest, k)
            if digit == 0:
                continue
            rest -= digit << k
            spikes += 1
            probability += digit << (k - least)
            factor = np.int32(digit << (k - least + value_exponents[j]))
            for i in range(len(total)):
                total[i] += factor * np.int32(row[i])
    return int(probability), spikes, keys


@kernel
def attend(
    queries: NDArray[np.int32],
    query_stop: NDArray[np.int32],
    value_base: NDArray[np.int32],
    key_cache: NDArray[np.int8],
    value_cache: NDArray[np.int8],
    key_exponents: NDArray[np.int32],
    value_exponents: NDArray[np.int32],
    context: int,
    parameters: tuple[int, int, int, int],
    output: NDArray[np.int32],
    counts: NDArray[np.int32],
) -> None:
    """Attention of queries [heads, head_dim] over the first `context` stored tokens into output [heads, head_dim].

    `parameters` = (query phases, probability bits, fraction of q, k, v, fraction of the output); `counts` [5, heads] receives query phases,
    query spikes, elements in which the group spikes (at its first head), probability spikes and keys with a spike.
    """
    query_phases, probability_bits, fraction, output_fraction = parameters
    heads, head_dim = queries.shape
    group = heads // len(key_cache)
    digits = np.empty((query_phases, head_dim), np.int8)
    rows = np.empty(query_phases * head_dim + 1, np.int32)
    bounds = np.empty((query_phases, 3), np.int64)
    events = np.empty((query_phases, 1), np.int32)
    scores = np.empty(context, np.int32)
    weights = np.empty(context, np.int32)
    total = np.empty(head_dim, np.int32)
    touched = np.empty(head_dim, np.bool_)
    for head in range(heads):
        kv_head = head // group
        phases, k_query, spikes = encode_events(queries[head], query_stop[head], SIGNED_DIGIT, head_dim, digits, rows, bounds, events)
        counts[0, head] = phases
        counts[1, head] = spikes
        first = kv_head * group
        if head == first:
            touched[:] = False
        for event in range(counts[1, head]):
            touched[rows[event]] = True
        counts[2, head] = 0
        if head == first + group - 1:
            counts[2, first] = touched.sum()
        accumulate(key_cache[kv_head], rows, bounds, phases, 1, scores)
        largest = attention.scale_scores(scores, key_exponents[kv_head], 2 * fraction - 8 - k_query, weights)
        least = attention.lowest_phase(attention.exponentials(weights, largest), probability_bits)
        probability, spikes, keys = _apply_probabilities(weights, least, value_cache[kv_head], value_exponents[kv_head], total)
        counts[3, head] = spikes
        counts[4, head] = keys
        inverse, b = reciprocal(probability)
        places = b + 15 + fraction - value_base[kv_head] - output_fraction
        for i in range(head_dim):
            output[head, i] = rounding_shift_saturated(np.int64(total[i]) * inverse, places)
