"""Rotary position embedding from 16-bit tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.fixed_point import Integers, rsh_saturate_32

Table = NDArray[np.int16]


LARGEST_SCALE = 1.999
"""Largest scale of cosines and sines: 16 bits hold numbers below 2 at fraction 14."""


def rotary_frequencies(head_dim: int, theta: float) -> NDArray[np.float64]:
    """Radians a position of each pair, [head_dim / 2], without scaling."""
    return np.asarray(theta ** (-2.0 * np.arange(head_dim // 2) / head_dim))


def tables_of(frequencies: NDArray[np.float64], positions: int, scale: float = 1.0) -> tuple[Table, Table]:
    """scale * cos and scale * sin at fraction 14, int16 [positions, pairs]; ValueError if `scale` leaves 16 bits."""
    if not 0.0 < scale <= LARGEST_SCALE:
        raise ValueError(f"the scale of rotary tables must be positive and at most {LARGEST_SCALE}, got {scale}")
    angle = np.arange(positions)[:, None] * frequencies
    unit = scale * 2.0**14
    return np.rint(unit * np.cos(angle)).astype(np.int16), np.rint(unit * np.sin(angle)).astype(np.int16)


def rotary_tables(positions: int, head_dim: int, theta: float) -> tuple[Table, Table]:
    """cos and sin at fraction 14, int16 [positions, head_dim / 2]."""
    return tables_of(rotary_frequencies(head_dim, theta), positions)


def rotate(x: Integers, cos: Table, sin: Table) -> Integers:
    """Rotate the halves of x [tokens, heads, head_dim] by the table rows of each token, [tokens, head_dim / 2]."""
    x1, x2 = np.split(x, 2, axis=-1)
    c, s = cos.astype(np.int64)[:, None], sin.astype(np.int64)[:, None]
    return np.concatenate([rsh_saturate_32(x1 * c - x2 * s, 14), rsh_saturate_32(x2 * c + x1 * s, 14)], axis=-1)
