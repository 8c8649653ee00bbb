"""CPU kernels of the functional simulation (numba). Each is one operation of docs/reference/numerics.md over rows of tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from neuromorphic_llm.kernel_cache import kernel
from neuromorphic_llm.reference.fixed_point import EXP2, TANH

Array = NDArray[Any]
Integer = Any  # int64 once compiled; Python's and numpy's integers have no common static type

_INT32_MIN, _INT32_MAX = np.int64(-(2**31)), np.int64(2**31 - 1)
_EXP2 = np.ascontiguousarray(EXP2, dtype=np.int64)
_TANH = np.ascontiguousarray(TANH, dtype=np.int64)


@kernel(inline="always")
def _bit_length(n: int) -> Integer:
    """Number of bits of a non-negative int64."""
    bits = 0
    while n > 0:
        n >>= 1
        bits += 1
    return bits


@kernel(inline="always")
def _rsh(x: int, n: int) -> Integer:
    """Rounding shift, round half up; a left shift for n <= 0."""
    if n > 62:
        return 0
    if n > 0:
        return (x + (np.int64(1) << (n - 1))) >> n
    return x << -n


@kernel(inline="always")
def _saturate(x: int) -> Integer:
    return min(max(x, _INT32_MIN), _INT32_MAX)


@kernel
def _max_abs(x: Array) -> Integer:
    low, high = np.int32(0), np.int32(0)
    for i in range(x.size):
        low, high = min(low, x[i]), max(high, x[i])
    return max(-np.int64(low), np.int64(high))


@kernel
def _inverse_root(total: int) -> tuple[Integer, Integer]:
    """(floor(2^46 / rho), h) with rho = isqrt(total << 2h) in [2^30, 2^31)."""
    half = (62 - _bit_length(total)) >> 1
    scaled = total << (2 * half)
    root = np.int64(math.sqrt(float(scaled)))
    while root * root > scaled:
        root -= 1
    while (root + 1) * (root + 1) <= scaled:
        root += 1
    return (np.int64(1) << 46) // root, half


@kernel(parallel=True)
def norm(r: Array, gain: Array, epsilon: int, shift: int, out: Array) -> None:
    """RMSNorm of rows; shift = 24 + gain_fraction - f_norm."""
    for row in prange(r.shape[0]):
        x = r[row]
        e = max(_bit_length(_max_abs(x)) - 15, 0)
        half_unit = (np.int64(1) << e) >> 1
        total: Integer = np.int64(0)
        for i in range(x.size):
            scaled = (np.int64(x[i]) + half_unit) >> e
            total += scaled * scaled
        total = max(total + (epsilon >> min(2 * e, 63)), 1)
        inverse, half = _inverse_root(total)
        first = 22 + e - half
        y = out[row]
        if first > 0:
            offset = np.int64(1) << (first - 1)
            for i in range(x.size):
                u = (x[i] * inverse + offset) >> first
                y[i] = _saturate((u * gain[i] + (np.int64(1) << (shift - 1))) >> shift)
        else:
            for i in range(x.size):
                u = (x[i] * inverse) << -first
                y[i] = _saturate((u * gain[i] + (np.int64(1) << (shift - 1))) >> shift)


@kernel(inline="always")
def _code_row(x: Array, stop: Array, phases: int, v: Array) -> tuple[Integer, Integer, Integer]:
    """Signed-digit code of one row. Leaves the residual in v; returns (k_top, k_min, spikes)."""
    largest = _max_abs(x)
    k_top = 0
    while 3 * (np.int64(1) << k_top) < 2 * largest:
        k_top += 1
    k_min = max(k_top - phases + 1, 0)
    if largest == 0:
        k_min = 0
    count = np.int64(0)
    for i in range(x.size):
        v[i] = x[i]
    for k in range(k_top, k_min - 1, -1):
        weight = np.int64(1) << k
        least = np.uint32((3 * weight + 3) >> 2)
        half = np.uint32(weight >> 1)
        odd = np.uint32(weight & 1)
        step = np.uint32(weight)
        fired = np.int32(0)
        for i in range(x.size):
            value = v[i]
            negative = value < 0
            magnitude = np.uint32(-value) if negative else np.uint32(value)
            # 2|v| > 2^k + (R >> k)  <=>  |v| >= ((2^k + (R >> k)) >> 1) + 1
            price = np.uint32(stop[i]) >> np.uint32(k)
            threshold = max(least, np.uint32(half + ((price + odd) >> np.uint32(1)) + np.uint32(1)))
            fire = magnitude >= threshold
            fired += np.int32(fire)
            change = step if fire else np.uint32(0)
            rest = np.uint32(magnitude - change)
            v[i] = np.int32(-np.int32(rest)) if negative else np.int32(rest)
        count += fired
    return k_top, k_min, count


@kernel(parallel=True)
def encode(x: Array, stop: Array, phases: int, planes: Array, exponent: Array, spikes: Array) -> None:
    """Signed-digit code of rows: planes int8 [2, rows, inputs] with a = 128 planes[0] + planes[1]."""
    for row in prange(x.shape[0]):
        v = np.empty(x.shape[1], np.int32)
        _, k_min, count = _code_row(x[row], stop, phases, v)
        exponent[row] = k_min
        spikes[row] = count
        high, low, values = planes[0, row], planes[1, row], x[row]
        for i in range(v.size):
            a = (np.int64(values[i]) - v[i]) >> k_min
            upper = (a + 64) >> 7
            high[i] = upper
            low[i] = a - (upper << 7)


@kernel(parallel=True)
def encode_dense(x: Array, planes: Array, exponent: Array) -> None:
    """Uncoded 14-bit integers of rows, for sites that do not spike."""
    for row in prange(x.shape[0]):
        k_min = max(_bit_length(_max_abs(x[row])) - 13, 0)
        exponent[row] = k_min
        high, low, values = planes[0, row], planes[1, row], x[row]
        for i in range(values.size):
            a = min(_rsh(np.int64(values[i]), k_min), 8191)
            upper = (a + 64) >> 7
            high[i] = upper
            low[i] = a - (upper << 7)


@kernel(inline="always")
def _scaled(acc: int, multiplier: int, shift: int, bias: int) -> Integer:
    product = np.int64(acc) * multiplier
    if shift > 0:
        product = (product + (np.int64(1) << (shift - 1))) >> shift if shift <= 62 else np.int64(0)
    elif shift < 0:
        product = _saturate(product << min(-shift, 16))
    return _saturate(product + bias)


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
                y[j] = _saturate((product + half) >> n)
        else:
            for j in range(y.size):
                offset = np.int64(bias[j]) if bias.size else np.int64(0)
                y[j] = _scaled(np.int64(high[j]) * 128 + low[j], multiplier[j], n, offset)


@kernel(parallel=True)
def add(r: Array, y: Array) -> None:
    """r = sat32(r + y), in place."""
    for row in prange(r.shape[0]):
        for i in range(r.shape[1]):
            r[row, i] = _saturate(np.int64(r[row, i]) + y[row, i])


@kernel(inline="always")
def _passing(g: int, fraction: int, table: Array) -> Integer:
    """g times the share of it that passes, at 15 more fractional bits."""
    t = min(_rsh(abs(g), fraction - 12), 65535)
    index, rest = t >> 8, t & 255
    s = table[index] + (((table[index + 1] - table[index]) * rest + 128) >> 8)
    if g < 0:
        s = 32768 - s
    return g * s


@kernel(parallel=True)
def gate(y: Array, table: Array, fraction: int, hidden_fraction: int, out: Array) -> None:
    """h = activation(g) * u for rows [g | u]; table int64 [257]: the shares of the activation."""
    size = out.shape[1]
    last = 2 * fraction - hidden_fraction
    for row in prange(y.shape[0]):
        for i in range(size):
            gs = (_passing(np.int64(y[row, i]), fraction, table) + 16384) >> 15
            out[row, i] = _saturate(_rsh(gs * np.int64(y[row, size + i]), last))


@kernel(parallel=True)
def activate(y: Array, table: Array, fraction: int, hidden_fraction: int, out: Array) -> None:
    """h = activation(g) for rows g."""
    for row in prange(y.shape[0]):
        for i in range(y.shape[1]):
            out[row, i] = _saturate(_rsh(_passing(np.int64(y[row, i]), fraction, table), 15 + fraction - hidden_fraction))


@kernel(inline="always")
def _capped(x: int, limit: int, multiplier: int, shift: int) -> Integer:
    """c tanh(x / c); limit, multiplier and shift of reference.soft_cap.SoftCap."""
    t = min(_rsh(abs(x) * multiplier, shift), (1 << 23) - 1)
    index, rest = t >> 15, t & 32767
    tanh = (_TANH[index] << 15) + (_TANH[index + 1] - _TANH[index]) * rest
    y = (limit * tanh + (np.int64(1) << 29)) >> 30
    return -y if x < 0 else y


@kernel(parallel=True)
def soft_cap(x: Array, limit: int, multiplier: int, shift: int) -> None:
    """c tanh(x / c), in place."""
    for row in prange(x.shape[0]):
        for i in range(x.shape[1]):
            x[row, i] = _capped(np.int64(x[row, i]), limit, multiplier, shift)


@kernel(parallel=True)
def rotate_and_store(
    qkv: Array, heads: int, kv_heads: int, cos: Array, sin: Array, position: Array, slot: Array, value_base: Array,
    key_offset: Array, keys: Array, key_exponent: Array, values: Array,
) -> None:  # fmt: skip
    """Rotate q and k in place; write 8-bit keys and shifted values of each row into its cache slot.

    qkv int32 [rows, (heads + 2 kv_heads) * D]; cos, sin int16 [positions, D/2]; keys, values floats [slots, kv_heads, context, D];
    key_offset int32 [kv_heads, D], taken off the keys, or [0, 0] for none.
    """
    dim = qkv.shape[1] // (heads + 2 * kv_heads)
    half = dim // 2
    for row in prange(qkv.shape[0]):
        p, b = position[row], slot[row]
        for h in range(heads + kv_heads):
            x = qkv[row, h * dim : (h + 1) * dim]
            for j in range(half):
                c, s = np.int64(cos[p, j]), np.int64(sin[p, j])
                x1, x2 = np.int64(x[j]), np.int64(x[j + half])
                x[j] = _saturate((x1 * c - x2 * s + 8192) >> 14)
                x[j + half] = _saturate((x2 * c + x1 * s + 8192) >> 14)
        for g in range(kv_heads):
            k = qkv[row, (heads + g) * dim : (heads + g + 1) * dim]
            if key_offset.size:
                for j in range(dim):
                    k[j] = _saturate(np.int64(k[j]) - key_offset[g, j])
            e = max(_bit_length(_max_abs(k)) - 7, 0)
            key_exponent[b, g, p] = e
            for j in range(dim):
                keys[b, g, p, j] = min(_rsh(np.int64(k[j]), e), 127)
            v = qkv[row, (heads + kv_heads + g) * dim : (heads + kv_heads + g + 1) * dim]
            base = value_base[g]
            e = min(max(_bit_length(_max_abs(v)) - 7 - base, 0), 3)
            for j in range(dim):
                values[b, g, p, j] = max(min(_rsh(np.int64(v[j]), base + e), 127), -128) << e


@kernel(parallel=True)
def encode_query(qkv: Array, stop: Array, phases: int, out: Array, exponent: Array, spikes: Array) -> None:
    """Coded queries as exact floats [rows, heads, D]; stop int32 [heads, D]; phases 0 leaves them uncoded."""
    heads, dim = stop.shape
    for row in prange(qkv.shape[0]):
        v = np.empty(dim, np.int32)
        for h in range(heads):
            q = qkv[row, h * dim : (h + 1) * dim]
            if phases > 0:
                _, k_min, count = _code_row(q, stop[h], phases, v)
                spikes[row, h] = count
                for j in range(dim):
                    out[row, h, j] = (np.int64(q[j]) - v[j]) >> k_min
            else:
                k_min = max(_bit_length(_max_abs(q)) - 10, 0)
                spikes[row, h] = 0
                for j in range(dim):
                    out[row, h, j] = _rsh(np.int64(q[j]), k_min)
            exponent[row, h] = k_min


def probability_table() -> Array:
    """Decoded value and spikes of every u in 0 .. 2^15 for every lowest phase 0 .. 14: int32 [15, 32769, 2]."""
    table = np.zeros((15, 32769, 2), np.int32)
    u = np.arange(32769, dtype=np.int64)
    for lowest in range(15):
        v, count = u.copy(), np.zeros_like(u)
        for k in range(15, lowest - 1, -1):
            fire = 4 * np.abs(v) >= 3 << k
            v -= np.where(fire, np.sign(v) << k, 0)
            count += fire
        table[lowest, :, 0] = (u - v) >> lowest
        table[lowest, :, 1] = count
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
        line, exponents = scores[h, row, first:end], key_exponent[h // group, first:end]
        visible = end - first
        base = fraction - query_exponent[row, h]
        z = np.empty(visible, np.int32)
        largest = np.int32(-(2**23))
        for j in range(visible):
            n = base - exponents[j]
            s = np.int64(line[j])
            if n > 0:
                shifted = (s + (np.int64(1) << (n - 1))) >> n
            else:
                shifted = s << min(-n, 24)
            value = np.int32(min(max(shifted, -(2**23)), 2**23 - 1))
            z[j] = value
            largest = max(largest, value)
        if cap.size > 0:
            for j in range(visible):
                z[j] = _capped(np.int64(z[j]), cap[0], cap[1], cap[2])
            largest = np.int32(_capped(np.int64(largest), cap[0], cap[1], cap[2]))
        mass = np.int64(0)
        for j in range(visible):
            d = largest - z[j]
            shift = d >> 8
            u = np.int64(0)
            if shift < 17:
                u = _EXP2[d & 255]
                if shift > 0:
                    u = (u + (np.int64(1) << (shift - 1))) >> shift
            z[j] = u
            mass += u
        lowest = min(max(_bit_length(mass) - 1 - bits, 0), 14)
        decoded, count, used = np.int64(0), np.int64(0), np.int64(0)
        if spiking:
            entry = table[lowest]
            for j in range(visible):
                p = entry[z[j], 0]
                line[j] = p
                decoded += p
                count += entry[z[j], 1]
                used += entry[z[j], 1] > 0
        else:
            for j in range(visible):
                p = _rsh(np.int64(z[j]), lowest)
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
            b = _bit_length(total[row, h])
            inverse = (np.int64(1) << (b + 15)) // total[row, h]
            n = b + shift - value_base[h // group]
            for i in range(dim):
                out[row, h * dim + i] = _saturate(_rsh(np.int64(acc[h, row, i]) * inverse, n))
