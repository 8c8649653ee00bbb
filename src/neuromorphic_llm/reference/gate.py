"""Activation of the feed-forward: the share of each value that passes, from a table, times the value and its partner."""

from __future__ import annotations

import numpy as np

from neuromorphic_llm.reference.fixed_point import SHARES, SIG, Integers, rsh, rsh_saturate_32


def share(g: Integers, fraction: int, table: Integers) -> Integers:
    """Share of g (at `fraction` >= 12) that passes, at fraction 15, linear between the points of `table` [257] (numerics.md, SIG)."""
    t = np.minimum(rsh(np.abs(g), fraction - 12), 65535)
    i, r = t >> 8, t & 255
    s = table[i] + rsh((table[i + 1] - table[i]) * r, 8)
    result: Integers = np.where(g < 0, (1 << 15) - s, s)
    return result


def sigmoid(g: Integers, fraction: int) -> Integers:
    """Sigmoid of g (at `fraction` >= 12) at fraction 15."""
    return share(g, fraction, SIG)


def gated_product(gate_up: Integers, fraction: int, hidden_fraction: int, activation: str = "silu") -> Integers:
    """activation(g) * u at `hidden_fraction`, [tokens, intermediate]; gate_up [tokens, 2 * intermediate] stacks g and u."""
    g, u = np.split(gate_up, 2, axis=-1)
    gs = rsh(g * share(g, fraction, SHARES[activation]), 15)
    return rsh_saturate_32(gs * u, 2 * fraction - hidden_fraction)


def activated(g: Integers, fraction: int, hidden_fraction: int, activation: str) -> Integers:
    """activation(g) at `hidden_fraction`, [tokens, intermediate], of a feed-forward without a gate."""
    return rsh_saturate_32(g * share(g, fraction, SHARES[activation]), 15 + fraction - hidden_fraction)
