"""Gated feed-forward product silu(g) * u with a table sigmoid."""

from __future__ import annotations

import numpy as np

from neuromorphic_llm.reference.fixed_point import SIG, Integers, rsh, rsh_saturate_32


def sigmoid(g: Integers, fraction: int) -> Integers:
    """Sigmoid of g (at `fraction` >= 12) at fraction 15, linear between the table's points."""
    t = np.minimum(rsh(np.abs(g), fraction - 12), 65535)
    i, r = t >> 8, t & 255
    s = SIG[i] + rsh((SIG[i + 1] - SIG[i]) * r, 8)
    result: Integers = np.where(g < 0, (1 << 15) - s, s)
    return result


def gated_product(gate_up: Integers, fraction: int, hidden_fraction: int) -> Integers:
    """silu(g) * u at `hidden_fraction`, [tokens, intermediate]; gate_up [tokens, 2 * intermediate] stacks g and u."""
    g, u = np.split(gate_up, 2, axis=-1)
    gs = rsh(g * sigmoid(g, fraction), 15)
    return rsh_saturate_32(gs * u, 2 * fraction - hidden_fraction)
