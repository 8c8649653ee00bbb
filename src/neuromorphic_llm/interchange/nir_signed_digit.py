"""The signed-digit encoder in NIR's nodes: thresholds of every phase, and gates for the exponent of a token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.interchange.nir_graph import SiteGraph
from neuromorphic_llm.spikes.signed_digit import least_firing


@dataclass(frozen=True)
class Phase:
    """One phase of weight 2^k: neuron i fires if |v[i]| >= threshold[i]."""

    k: int
    threshold: NDArray[np.int64]  # [inputs]


def phases_of(stop: NDArray[np.int32], largest: int) -> list[Phase]:
    """Phases in which a neuron can fire for |x| <= largest, most significant first.

    The bound of |v| is followed as SignedDigit.worst_case_error does, for the longest train: what a neuron leaves is at most its
    threshold, or what firing leaves of the bound or of the threshold itself. (At most the threshold, not below it: above k_top a neuron on
    it stays silent. Phases below a token's k_min send nothing, and so do all after them.)
    """
    top = max(-(-2 * largest // 3) - 1, 0).bit_length()
    price, bound = stop.astype(np.int64), np.full(len(stop), largest, np.int64)
    phases = []
    for k in range(top, -1, -1):
        weight = 1 << k
        threshold = least_firing(weight, price >> k)
        can_fire = bound >= threshold
        if can_fire.any():
            # Thresholds out of reach may stand for any other: these stay exact.
            phases.append(Phase(k, np.minimum(threshold, largest + 1)))
        left = np.maximum(np.minimum(bound, threshold), np.maximum(bound - weight, weight - threshold))
        bound = np.where(can_fire, left, bound)
    return phases


def add_signed_digit(graph: SiteGraph, stop: NDArray[np.int32], code_phases: int) -> list[str]:
    """Add the encoder; names of the nodes whose sum is a * 2^k_min, none if nothing can fire."""
    phases = phases_of(stop, graph.largest)
    if not phases:
        return []
    graph.scale("mirror", -1.0, "input")
    exponents = {phase.k for phase in phases}
    for k in range(phases[0].k):
        opens, closes = k + 1 in exponents, k - code_phases + 1 in exponents
        if opens or closes:
            # k_top > k, which is 2 m > 3 * 2^k.
            graph.gate(str(k), (3 << k >> 1) + 1, f"opens_{k + 1}" if opens else None, f"closes_{k - code_phases + 1}" if closes else None)
    values: list[str] = []
    residue: tuple[str, ...] = ("input",)
    for phase in phases:
        k = phase.k
        residue = (graph.scale(f"residue_{k}", 1.0, *residue),)
        graph.scale(f"mirror_{k}", -1.0, *residue)
        # Phase 0 is open for every token.
        least = phase.threshold + (graph.largest if k else 0)
        gates = (f"opens_{k}", f"closes_{k}")
        sent = [graph.spikes(k, 1, least, *residue, *gates), graph.spikes(k, -1, least, f"mirror_{k}", *gates)]
        residue = (*residue, graph.scale(f"sent_{k}", -1.0, *sent))
        values += sent
    graph.remove(residue[-1])
    return values
