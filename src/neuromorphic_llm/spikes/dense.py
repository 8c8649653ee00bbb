"""Inputs of sites that do not spike (hybrids): 14-bit integers with a block exponent."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from neuromorphic_llm.spikes.code import Coded, as_vectors
from neuromorphic_llm.spikes.integers import bit_length, rsh, saturate


def quantise_dense(x: ArrayLike) -> Coded:
    """a = sat_14(rsh(x, k_min)) of x int32 [tokens, inputs]; no spikes and no phases."""
    vectors = as_vectors(x)
    k_min = np.maximum(bit_length(np.abs(vectors).max(axis=1)) - 13, 0)
    a = saturate(rsh(vectors, k_min[:, None]), 14).astype(np.int32)
    return Coded(a, k_min.astype(np.int32), np.zeros_like(a), np.zeros(len(a), np.int32))
