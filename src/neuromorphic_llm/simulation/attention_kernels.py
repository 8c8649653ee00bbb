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

COUNTS = ("query_phases", "query_spikes", "key_columns", "score_steps", "probability_spikes", "value_steps", "probability_keys")
"""Counts of a token's attention in the order of their rows; their meaning is that of the activity trace (docs/reference/formats.md)."""


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
    most: NDArray[np.int32],
) -> tuple[int, int]:
    """Code weights [context] over phases 15 .. least; every spike adds a row of V to `total`. (sum of p, spikes).

    most [context] is raised to the spikes of each key.
    """
    total[:] = 0
    probability = np.int64(0)
    spikes = 0
    for j in range(len(weights)):
        rest = np.int64(weights[j])
        if free_digit(rest, least) == 0:
            continue  # stays below the threshold of every phase
        before = spikes
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
        most[j] = max(most[j], spikes - before)
    return int(probability), spikes


@kernel
def _count_elements(elements: NDArray[np.int32], spikes: NDArray[np.int32], most: NDArray[np.int32]) -> None:
    """Count events by their element into spikes [head_dim], and raise `most` [head_dim] to them."""
    spikes[:] = 0
    for element in elements:
        spikes[element] += 1
    for i in range(len(most)):
        most[i] = max(most[i], spikes[i])


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
    parameters: tuple[int, int, int, int, int],
    output: NDArray[np.int32],
    counts: NDArray[np.int32],
) -> None:
    """Attention of queries [heads, head_dim] over the first `context` stored tokens into output [heads, head_dim].

    `parameters` = (query phases, probability bits, fractions of q, k, v and of the output, heads of a set); counts [len(COUNTS), heads].
    """
    query_phases, probability_bits, fraction, output_fraction, lanes = parameters
    heads, head_dim = queries.shape
    group = heads // len(key_cache)
    digits = np.empty((query_phases, head_dim), np.int8)
    rows = np.empty(query_phases * head_dim + 1, np.int32)
    bounds = np.empty((query_phases, 3), np.int64)
    events = np.empty((query_phases, 1), np.int32)
    scores = np.empty(context, np.int32)
    weights = np.empty(context, np.int32)
    total = np.empty(head_dim, np.int32)
    element_spikes = np.empty(head_dim, np.int32)
    most_of_group, most_of_set = np.empty(head_dim, np.int32), np.empty(head_dim, np.int32)
    most_at_keys = np.empty(context, np.int32)
    counts[:] = 0
    for head in range(heads):
        kv_head = head // group
        phases, k_query, spikes = encode_events(queries[head], query_stop[head], SIGNED_DIGIT, head_dim, digits, rows, bounds, events)
        counts[0, head] = phases
        counts[1, head] = spikes
        first = kv_head * group
        first_of_set = first + (head - first) // lanes * lanes
        if head == first:
            most_of_group[:] = 0
        if head == first_of_set:
            most_of_set[:] = 0
            most_at_keys[:] = 0
        _count_elements(rows[:spikes], element_spikes, most_of_group)
        _count_elements(rows[:spikes], element_spikes, most_of_set)
        counts[2, first] = (most_of_group > 0).sum()
        counts[3, first_of_set] = most_of_set.sum()
        accumulate(key_cache[kv_head], rows, bounds, phases, 1, scores)
        largest = attention.scale_scores(scores, key_exponents[kv_head], 2 * fraction - 8 - k_query, weights)
        least = attention.lowest_phase(attention.exponentials(weights, largest), probability_bits)
        probability, counts[4, head] = _apply_probabilities(
            weights, least, value_cache[kv_head], value_exponents[kv_head], total, most_at_keys
        )
        counts[5, first_of_set] = most_at_keys.sum()
        counts[6, first_of_set] = (most_at_keys > 0).sum()
        inverse, b = reciprocal(probability)
        places = b + 15 + fraction - value_base[kv_head] - output_fraction
        for i in range(head_dim):
            output[head, i] = rounding_shift_saturated(np.int64(total[i]) * inverse, places)
