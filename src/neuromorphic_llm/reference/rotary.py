"""Rotary position embedding from 16-bit tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.fixed_point import Integers, rsh_saturate_32

Table = NDArray[np.int16]


def rotary_tables(positions: int, head_dim: int, theta: float) -> tuple[Table, Table]:
    """cos and sin at fraction 14, int16 [positions, head_dim / 2]."""
    frequency = theta ** (-2.0 * np.arange(head_dim // 2) / head_dim)
    angle = np.arange(positions)[:, None] * frequency
    return np.rint(2.0**14 * np.cos(angle)).astype(np.int16), np.rint(2.0**14 * np.sin(angle)).astype(np.int16)


def rotate(x: Integers, cos: Table, sin: Table) -> Integers:
    """Rotate the halves of x [tokens, heads, head_dim] by the table rows of each token, [tokens, head_dim / 2]."""
    x1, x2 = np.split(x, 2, axis=-1)
    c, s = cos.astype(np.int64)[:, None], sin.astype(np.int64)[:, None]
    return np.concatenate([rsh_saturate_32(x1 * c - x2 * s, 14), rsh_saturate_32(x2 * c + x1 * s, 14)], axis=-1)
