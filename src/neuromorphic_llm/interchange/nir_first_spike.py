"""The first-spike encoder in NIR's nodes: every phase takes the inputs of one interval, and larger ones are inhibited."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.interchange.nir_graph import SiteGraph


def add_first_spike(graph: SiteGraph, stop: NDArray[np.int32], code_phases: int) -> list[str]:
    """Add the encoder; names of the nodes whose sum is a * 2^k_min, none if nothing can fire.

    2^k is the nearest power of two of 3/4 * 2^k <= |x| < 3/2 * 2^k; a neuron is silent if x^2 <= stop.
    """
    price = np.array([isqrt(int(each)) + 1 for each in stop], np.int64)
    values: list[str] = []
    graph.scale("mirror", -1.0, "input")
    for k in range(graph.largest.bit_length(), -1, -1):
        least, above = np.maximum((3 * (1 << k) + 3) >> 2, price), (3 * (1 << (k + 1)) + 3) >> 2
        if not (least <= min(above - 1, graph.largest)).any():
            continue
        # k < k_min, which is m >= 2^(k + T - 1).
        if 1 << (k + code_phases - 1) <= graph.largest:
            graph.gate(str(k), 1 << (k + code_phases - 1), None, f"closes_{k}")
        for sign, name, source in ((1, "plus", "input"), (-1, "minus", "mirror")):
            if above <= graph.largest:
                graph.at_least(f"above_{name}_{k}", np.full(graph.inputs, above, np.int64), source)
                graph.scale(f"inhibits_{name}_{k}", -float(graph.largest), f"above_{name}_{k}")
            reachable = np.minimum(least, graph.largest + 1)
            values.append(graph.spikes(k, sign, reachable, source, f"inhibits_{name}_{k}", f"closes_{k}"))
    return values
