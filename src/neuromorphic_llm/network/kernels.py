"""CPU kernels of the functional simulation: operations of docs/reference/numerics.md over rows of tokens, shared among threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from neuromorphic_llm.arithmetic import attention, vectors
from neuromorphic_llm.arithmetic.scalars import (
    Integer,
    bit_length,
    gated,
    output_stage,
    passing,
    reciprocal,
    rounding_shift,
    rounding_shift_saturated,
    saturate_32,
    soft_capped,
)
from neuromorphic_llm.arithmetic.signed_digit import fill_probability_table, fire_phase, phase_range
from neuromorphic_llm.devices import membrane_kernels
from neuromorphic_llm.kernel_cache import kernel

Array = NDArray[Any]


@kernel(parallel=True)
def norm(r: Array, gain: Array, epsilon: int, shift: int, out: Array) -> None:
    """RMSNorm of rows; shift = 24 + gain_fraction - f_norm."""
    for row in prange(r.shape[0]):
        vectors.rms_norm(r[row], gain, epsilon, shift, out[row])


@kernel(inline="always")
def _code_row(x: Array, stop: Array, phases: int, v: Array) -> tuple[Integer, Integer]:
    """Signed-digit code of one row. Leaves the residual in v, int64; returns (k_min, spikes)."""
    k_top, k_min = phase_range(vectors.largest_magnitude(x), phases)
    count = np.int64(0)
    for i in range(x.size):
        v[i] = x[i]
    for k in range(k_top, k_min - 1, -1):
        count += fire_phase(v, stop, k, None)
    return k_min, count


@kernel(inline="always")
def _split(a: int) -> tuple[Integer, Integer]:
    """(high, low) signed bytes with a = 128 high + low."""
    high = (a + 64) >> 7
    return high, a - (high << 7)


@kernel(parallel=True)
def encode(x: Array, stop: Array, phases: int, planes: Array, exponent: Array, spikes: Array) -> None:
    """Signed-digit code of rows: planes int8 [2, rows, inputs] with a = 128 planes[0] + planes[1]."""
    for row in prange(x.shape[0]):
        v = np.empty(x.shape[1], np.int64)
        k_min, count = _code_row(x[row], stop, phases, v)
        exponent[row] = k_min
        spikes[row] = count
        high, low, values = planes[0, row], planes[1, row], x[row]
        for i in range(v.size):
            high[i], low[i] = _split((values[i] - v[i]) >> k_min)


@kernel(parallel=True)
def read_membranes(products: Array, exponents: Array, ranges: Array, bits: int, repeats: int, acc: Array) -> None:
    """Accumulators acc int32 [2, rows, outputs] of the membranes of a site (devices.md, Membrane), each 128 acc[0] + acc[1].

    products int32 [blocks, 2, rows, outputs], likewise of the sums; exponents int64 [blocks, rows], ranges int8 [blocks, outputs].
    """
    for row in prange(acc.shape[1]):
        charges, total = np.empty(acc.shape[2], np.int64), np.zeros(acc.shape[2], np.int64)
        for block in range(products.shape[0]):
            high, low = products[block, 0, row], products[block, 1, row]
            for i in range(charges.size):
                charges[i] = 128 * np.int64(high[i]) + low[i]
            membrane_kernels.convert(charges, ranges[block], exponents[block, row], bits, repeats, total)
        high, low = acc[0, row], acc[1, row]
        for i in range(total.size):
            high[i], low[i] = total[i] >> 7, total[i] & 127


@kernel(parallel=True)
def encode_dense(x: Array, planes: Array, exponent: Array) -> None:
    """Uncoded 14-bit integers of rows, for sites that do not spike."""
    for row in prange(x.shape[0]):
        k_min = max(bit_length(vectors.largest_magnitude(x[row])) - 13, 0)
        exponent[row] = k_min
        high, low, values = planes[0, row], planes[1, row], x[row]
        for i in range(values.size):
            high[i], low[i] = _split(min(rounding_shift(np.int64(values[i]), k_min), 8191))


@kernel(parallel=True)
def scale(acc: Array, multiplier: Array, bias: Array, shift: int, exponent: Array, out: Array) -> None:
    """y = sat32(rsh((128 acc[0] + acc[1]) * M, S - k_min) + bias); acc int32 [2, rows, outputs]."""
    for row in prange(out.shape[0]):
        n = shift - exponent[row]
        high, low, y = acc[0, row], acc[1, row], out[row]
        if n > 0 and n <= 62 and bias.size == 0:
            half = np.int64(1) << (n - 1)
            for j in range(y.size):
                product = (np.int64(high[j]) * 128 + low[j]) * multiplier[j]
                y[j] = saturate_32((product + half) >> n)
        else:
            for j in range(y.size):
                offset = np.int64(bias[j]) if bias.size else np.int64(0)
                y[j] = output_stage(np.int64(high[j]) * 128 + low[j], multiplier[j], n, offset)


@kernel(parallel=True)
def add(r: Array, y: Array) -> None:
    """r = sat32(r + y), in place."""
    for row in prange(r.shape[0]):
        vectors.add(r[row], y[row])


@kernel(parallel=True)
def gate(y: Array, table: Array, fraction: int, hidden_fraction: int, out: Array) -> None:
    """h = activation(g) * u for rows [g | u]; table int64 [257]: the shares of the activation."""
    size, places = out.shape[1], 2 * fraction - hidden_fraction
    # Written out: within a callee numba takes the rows for overlapping ones, and the loop takes twice as long.
    for row in prange(y.shape[0]):
        for i in range(size):
            out[row, i] = gated(np.int64(y[row, i]), np.int64(y[row, size + i]), fraction, places, table)


@kernel(parallel=True)
def activate(y: Array, table: Array, fraction: int, hidden_fraction: int, out: Array) -> None:
    """h = activation(g) for rows g."""
    for row in prange(y.shape[0]):
        for i in range(y.shape[1]):
            passed = passing(np.int64(y[row, i]), fraction, table)
            out[row, i] = saturate_32(rounding_shift(passed, 15 + fraction - hidden_fraction))


@kernel(parallel=True)
def soft_cap(x: Array, limit: int, multiplier: int, shift: int) -> None:
    """c tanh(x / c), in place."""
    for row in prange(x.shape[0]):
        for i in range(x.shape[1]):
            x[row, i] = soft_capped(np.int64(x[row, i]), limit, multiplier, shift)


@kernel(parallel=True)
def rotate_and_store(
    qkv: Array, heads: int, kv_heads: int, cos: Array, sin: Array, position: Array, slot: Array, value_base: Array,
    key_offset: Array, keys: Array, key_exponent: Array, values: Array,
) -> None:  # fmt: skip
    """Rotate q and k in place; write 8-bit keys and shifted values of each row into its cache slot.

    qkv int32 [rows, (heads + 2 kv_heads) * D]; cos, sin int16 [positions, D/2]; keys, values floats [slots, kv_heads, context, D];
    key_offset int32 [kv_heads, D], taken off the keys, or [0, 0] for none.
    """
    for row in prange(qkv.shape[0]):
        p, b = position[row], slot[row]
        parts = qkv[row].reshape(heads + 2 * kv_heads, -1)
        vectors.rotate(parts[: heads + kv_heads], cos[p], sin[p])
        for g in range(kv_heads):
            k = parts[heads + g]
            if key_offset.size:
                attention.take_off(k, key_offset[g])
            e = attention.key_exponent(k)
            key_exponent[b, g, p] = e
            attention.shift_into(k, e, 0, keys[b, g, p])
            v = parts[heads + kv_heads + g]
            e = attention.value_exponent(v, value_base[g])
            attention.shift_into(v, value_base[g] + e, e, values[b, g, p])


@kernel(parallel=True)
def encode_query(qkv: Array, stop: Array, phases: int, out: Array, exponent: Array, spikes: Array) -> None:
    """Coded queries as exact floats [rows, heads, D]; stop int32 [heads, D]; phases 0 leaves them uncoded."""
    heads, dim = stop.shape
    for row in prange(qkv.shape[0]):
        v = np.empty(dim, np.int64)
        for h in range(heads):
            q = qkv[row, h * dim : (h + 1) * dim]
            if phases > 0:
                k_min, count = _code_row(q, stop[h], phases, v)
                spikes[row, h] = count
                for j in range(dim):
                    out[row, h, j] = (q[j] - v[j]) >> k_min
            else:
                k_min = max(bit_length(vectors.largest_magnitude(q)) - 10, 0)
                spikes[row, h] = 0
                for j in range(dim):
                    out[row, h, j] = rounding_shift(np.int64(q[j]), k_min)
            exponent[row, h] = k_min


def probability_table() -> Array:
    """Decoded value and spikes of every u in 0 .. 2^15 for every lowest phase 0 .. 14: int32 [15, 32769, 2]."""
    table = np.zeros((15, 32769, 2), np.int32)
    fill_probability_table(table)
    return table


@kernel(parallel=True)
def softmax(
    scores: Array, key_exponent: Array, query_exponent: Array, position: Array, fraction: int, bits: int, spiking: bool, table: Array,
    window: int, cap: Array, total: Array, spikes: Array, keys: Array,
) -> None:  # fmt: skip
    """Base-2 softmax and probability code, in place on scores, floats [heads, rows, context] of one sequence.

    key_exponent int32 [kv_heads, context], query_exponent int32 [rows, heads], position int64 [rows] within this context; a row sees
    `window` keys at most; cap int64 [3], or [0] for none; the results total, spikes and keys int64 [rows, heads].
    """
    heads, rows, _ = scores.shape
    group = heads // key_exponent.shape[0]
    for index in prange(heads * rows):
        h, row = index // rows, index % rows
        end = position[row] + 1
        first = max(end - window, 0)
        # Views from 0 on: loops with another start would not be vectorised.
        line = scores[h, row, first:end]
        z = np.empty(end - first, np.int32)
        largest = attention.scale_scores(line, key_exponent[h // group, first:end], fraction - query_exponent[row, h], z)
        if cap.size > 0:
            for j in range(z.size):
                z[j] = soft_capped(np.int64(z[j]), cap[0], cap[1], cap[2])
            largest = np.int32(soft_capped(np.int64(largest), cap[0], cap[1], cap[2]))
        lowest = attention.lowest_phase(attention.exponentials(z, largest), bits)
        decoded, count, used = np.int64(0), np.int64(0), np.int64(0)
        if spiking:
            entry = table[lowest]
            for j in range(z.size):
                p = entry[z[j], 0]
                line[j] = p
                decoded += p
                count += entry[z[j], 1]
                used += entry[z[j], 1] > 0
        else:
            for j in range(z.size):
                p = rounding_shift(np.int64(z[j]), lowest)
                line[j] = p
                decoded += p
        scores[h, row, :first] = 0.0
        scores[h, row, end:] = 0.0
        total[row, h], spikes[row, h], keys[row, h] = decoded, count, used


@kernel(parallel=True)
def attention_output(acc: Array, total: Array, value_base: Array, shift: int, out: Array) -> None:
    """o = sat32(rsh(acc * inv, b + shift - value_base)); acc floats [heads, rows, D], out int32 [rows, heads * D]."""
    heads, rows, dim = acc.shape
    group = heads // value_base.size
    for row in prange(rows):
        for h in range(heads):
            inverse, b = reciprocal(total[row, h])
            places = b + shift - value_base[h // group]
            for i in range(dim):
                out[row, h * dim + i] = rounding_shift_saturated(np.int64(acc[h, row, i]) * inverse, places)
