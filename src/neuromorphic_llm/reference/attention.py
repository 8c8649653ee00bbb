"""Attention of one token over an 8-bit key/value cache: spiking scores, base-2 softmax, spiking probabilities."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.config import CodeConfig, Formats
from neuromorphic_llm.reference.fixed_point import EXP2, Integers, bit_length, check_int32, rsh, rsh_saturate_32, saturate
from neuromorphic_llm.reference.soft_cap import SoftCap, apply_soft_cap
from neuromorphic_llm.spikes.code import Coded
from neuromorphic_llm.spikes.signed_digit import SignedDigit, signed_digits

PROBABILITY_TOP = 15
"""Most significant phase of the probability code."""


@dataclass
class LayerCache:
    """Keys and values of one layer, growing with the context."""

    keys: NDArray[np.int8]  # [positions, kv_heads, head_dim]
    key_exponent: NDArray[np.int8]  # [positions, kv_heads]
    values: NDArray[np.int8]  # [positions, kv_heads, head_dim]
    value_exponent: NDArray[np.int8]  # [positions, kv_heads], on top of the layer's value_base

    @classmethod
    def empty(cls, positions: int, kv_heads: int, head_dim: int) -> LayerCache:
        """A cache for `positions` tokens."""
        heads = (positions, kv_heads)
        vectors = (*heads, head_dim)
        return cls(np.zeros(vectors, np.int8), np.zeros(heads, np.int8), np.zeros(vectors, np.int8), np.zeros(heads, np.int8))

    def write(
        self, position: int, k: Integers, v: Integers, value_base: NDArray[np.int32], key_offset: NDArray[np.int32] | None = None
    ) -> None:
        """Store keys and values of consecutive tokens, [tokens, kv_heads, head_dim], from `position` on; the keys less `key_offset`."""
        rows = slice(position, position + len(k))
        if key_offset is not None:
            k = saturate(k - key_offset.astype(np.int64), 32)
        e_k = np.maximum(bit_length(np.abs(k).max(axis=-1)) - 7, 0)
        e_v = np.clip(bit_length(np.abs(v).max(axis=-1)) - 7 - value_base, 0, 3)
        self.keys[rows] = saturate(rsh(k, e_k[..., None]), 8)
        self.key_exponent[rows] = e_k
        self.values[rows] = saturate(rsh(v, (value_base + e_v)[..., None]), 8)
        self.value_exponent[rows] = e_v


@dataclass(frozen=True)
class AttentionActivity:
    """Spikes of one layer's attention products; zeros where they do not spike."""

    query_phases: NDArray[np.int32]  # [tokens, heads]
    query_spikes: NDArray[np.int32]  # [tokens, heads]
    key_columns: NDArray[np.int32]  # [tokens, heads], elements in which a head of the group spikes, at the group's first head
    probability_spikes: NDArray[np.int32]  # [tokens, heads]
    probability_keys: NDArray[np.int32]  # [tokens, heads], keys with at least one spike
    element_spikes: NDArray[np.int8]  # [tokens, heads, head_dim], spikes of the queries
    key_spikes: NDArray[np.int8]  # [tokens, heads, positions], spikes of the probabilities

    @classmethod
    def empty(cls, tokens: int, heads: int, head_dim: int, positions: int) -> AttentionActivity:
        """No spikes of tokens that see so many positions at most."""
        a, b, c, d, e = np.zeros((5, tokens, heads), np.int32)
        return cls(a, b, c, d, e, np.zeros((tokens, heads, head_dim), np.int8), np.zeros((tokens, heads, positions), np.int8))


@dataclass(frozen=True)
class Probabilities:
    """Coded softmax of one token: weights p in units of 2^m."""

    p: Integers  # [heads, context]
    spikes: NDArray[np.int32] = field(repr=False)  # [heads, context]


def encode_query(q: Integers, stop: NDArray[np.int32], code: CodeConfig, spiking: bool) -> Coded:
    """Code the query vectors of one token, [heads, head_dim], each head with its own exponent and stop table."""
    if spiking:
        return SignedDigit(code.query_phases).quantise(q, stop)
    k_q = np.maximum(bit_length(np.abs(q).max(axis=1)) - 10, 0)
    a = rsh(q, k_q[:, None]).astype(np.int32)
    return Coded(a, k_q.astype(np.int32), np.zeros_like(a), np.zeros(len(a), np.int32))


def softmax_base2(z: Integers) -> Integers:
    """u = rsh(EXP2[d & 255], d >> 8) with d = max z - z, for z [heads, context] at fraction 8; u at fraction 15."""
    d = z.max(axis=1, keepdims=True) - z
    return rsh(EXP2[d & 255], d >> 8)


def encode_probabilities(u: Integers, probability_bits: int, spiking: bool) -> Probabilities:
    """Code u [heads, context] over the phases 15 .. m, m from the sum of each head."""
    m = np.clip(bit_length(u.sum(axis=1)) - 1 - probability_bits, 0, 14)
    if not spiking:
        return Probabilities(rsh(u, m[:, None]), np.zeros(u.shape, np.int32))
    digits = signed_digits(u, np.zeros(1, np.int64), np.full_like(m, PROBABILITY_TOP), m)
    p = np.zeros_like(u)
    for phase in digits:
        p = 2 * p + phase
    return Probabilities(p, np.count_nonzero(digits, axis=0).astype(np.int32))


def scores(query: Coded, keys: NDArray[np.int8], key_exponent: NDArray[np.int8], qkv_fraction: int) -> Integers:
    """z: base-2 logarithms of the weights at fraction 8, [heads, context].

    query [heads, head_dim]; keys [context, heads, head_dim] and key_exponent [context, heads], repeated to the query heads.
    """
    s = check_int32(np.einsum("hi,chi->hc", query.a.astype(np.int64), keys.astype(np.int64)), "the attention scores")
    shift = 2 * qkv_fraction - 8 - query.exponent.astype(np.int64)[:, None] - key_exponent.T.astype(np.int64)
    return saturate(rsh(s, np.maximum(shift, -24)), 24)


def weighted_values(
    p: Integers, values: NDArray[np.int8], value_exponent: NDArray[np.int8], value_base: NDArray[np.int32], formats: Formats
) -> Integers:
    """Attention output [heads, head_dim] at fraction `formats.attention`; arguments repeated to the query heads as in `scores`."""
    scaled = values.astype(np.int64) << value_exponent.astype(np.int64)[..., None]
    accumulators = check_int32(np.einsum("hc,chi->hi", p, scaled), "the attention output")
    total = p.sum(axis=1, keepdims=True)
    b = bit_length(total)
    inverse = (np.int64(1) << (b + 15)) // total
    return rsh_saturate_32(accumulators * inverse, b + 15 + formats.qkv - value_base[:, None] - formats.attention)


def attend(
    q: Integers,
    cache: LayerCache,
    position: int,
    query_stop: NDArray[np.int32],
    value_base: NDArray[np.int32],
    formats: Formats,
    code: CodeConfig,
    *,
    spiking: bool = True,
    window: int = 0,
    cap: SoftCap | None = None,
) -> tuple[Integers, AttentionActivity]:
    """Attention of the tokens q [tokens, heads, head_dim] at `position` on, their keys and values already in the cache.

    query_stop: prices [heads, head_dim]; value_base: exponents [kv_heads]; with a window each token sees that many tokens at most; cap of
    the scores. Returns the output [tokens, heads, head_dim] and the spikes.
    """
    output, (_, heads, head_dim) = np.zeros_like(q), q.shape
    group, seen = heads // len(value_base), position + len(q)
    activity = AttentionActivity.empty(len(q), heads, head_dim, seen)
    base = value_base.repeat(group)
    keys, key_exponent = cache.keys[:seen].repeat(group, axis=1), cache.key_exponent[:seen].repeat(group, axis=1)
    values, value_exponent = cache.values[:seen].repeat(group, axis=1), cache.value_exponent[:seen].repeat(group, axis=1)
    for n in range(len(q)):
        context = position + n + 1
        visible = slice(max(context - window, 0) if window else 0, context)
        query = encode_query(q[n], query_stop, code, spiking)
        z = scores(query, keys[visible], key_exponent[visible], formats.qkv)
        z = z if cap is None else apply_soft_cap(z, cap)
        coded = encode_probabilities(softmax_base2(z), code.probability_bits, spiking)
        output[n] = weighted_values(coded.p, values[visible], value_exponent[visible], base, formats)
        activity.query_phases[n] = query.phases
        activity.query_spikes[n] = query.spikes.sum(axis=1)
        activity.key_columns[n, ::group] = (query.spikes > 0).reshape(-1, group, head_dim).any(axis=1).sum(axis=1)
        activity.probability_spikes[n] = coded.spikes.sum(axis=1)
        activity.probability_keys[n] = np.count_nonzero(coded.spikes, axis=1)
        activity.element_spikes[n], activity.key_spikes[n, :, visible] = query.spikes, coded.spikes
    return output, activity
