"""A crossbar site as a NIR graph: its encoder in Threshold nodes, phase by phase, then the weights (docs/reference/interchange.md).

NIR: Pedersen et al., Nature Communications 15, 2024.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import neuromorphic_llm
from neuromorphic_llm.errors import ConversionError, UsageError
from neuromorphic_llm.interchange.nir_first_spike import add_first_spike
from neuromorphic_llm.interchange.nir_graph import SiteGraph
from neuromorphic_llm.interchange.nir_signed_digit import add_signed_digit
from neuromorphic_llm.interchange.sayable import check_sayable
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

if TYPE_CHECKING:
    import nir

SMALLEST_BITS, LARGEST_BITS = 2, 32
LARGEST_EXACT = 1 << 53
"""Integers up to here are exact in float64."""

_ENCODERS = {"signed-digit": add_signed_digit, "first-spike": add_first_spike}


def _check_exact(site: LinearWeights, largest: int, name: str, bits: int) -> None:
    """ConversionError if an accumulator could leave the integers of float64; |a 2^k_min| <= 2 largest with either code."""
    reach = int(np.abs(site.weight.astype(np.int64)).sum(axis=1).max()) * 2 * largest
    if reach > LARGEST_EXACT:
        raise ConversionError(f"{name}: accumulators of inputs of {bits} bits may leave the integers of float64; use a smaller --bits")


def site_graph(weights: DecoderWeights, index: int, *, bits: int = LARGEST_BITS, network_hash: str = "") -> nir.NIRGraph:
    """NIR graph of crossbar site `index`, exact for inputs of |x| <= 2^(bits-1).

    Input: x [inputs], integers as numbers; output: acc * 2^k_min [outputs]. UsageError for bits out of range, ConversionError for what NIR
    cannot say, NeuromorphicLLMError without the package nir.
    """
    if not SMALLEST_BITS <= bits <= LARGEST_BITS:
        raise UsageError(f"--bits must lie in {SMALLEST_BITS}..{LARGEST_BITS}, got {bits}")
    check_sayable(weights, index)
    site, name = weights.site(index), weights.config.sites[index].name
    largest = 1 << (bits - 1)
    _check_exact(site, largest, name, bits)
    outputs, inputs = site.weight.shape
    graph = SiteGraph(inputs, largest)
    values = _ENCODERS[weights.code.name](graph, site.stop, weights.code.phases)
    if not values:
        raise ConversionError(f"{name}: no input of {bits} bits ever fires at these prices; use a larger --bits")
    graph.add("synapses", graph.nir.Linear(weight=site.weight.astype(np.float32)), *values)
    graph.add("output", graph.nir.Output(output_type=np.array([outputs])), "synapses")
    metadata = {
        "producer": f"neuromorphic-llm {neuromorphic_llm.__version__}", "network_hash": network_hash, "site": name,
        "code": weights.code.name, "phases": weights.code.phases, "bits": bits, "multiplier": site.multiplier, "shift": site.shift,
    }  # fmt: skip
    if site.bias is not None:
        metadata["bias"] = site.bias
    return graph.nir.NIRGraph(graph.nodes, graph.edges, metadata=metadata)
