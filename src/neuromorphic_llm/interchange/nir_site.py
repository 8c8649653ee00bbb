"""A crossbar site as a NIR graph: Threshold nodes for every phase of the signed-digit code, then the weights (interchange.md).

NIR: Pedersen et al., Nature Communications 15, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import neuromorphic_llm
from neuromorphic_llm.errors import ConversionError, NeuromorphicLLMError, UsageError
from neuromorphic_llm.interchange.sayable import check_sayable
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

if TYPE_CHECKING:
    import nir

SMALLEST_BITS, LARGEST_BITS = 2, 32
LARGEST_EXACT = 1 << 53
"""Integers up to here are exact in float64."""

INSTALL = "install the extra: pip install 'neuromorphic-llm[interchange]'"


def import_nir() -> Any:
    """The package nir; NeuromorphicLLMError that says how to install it."""
    try:
        import nir
    except ImportError as error:
        raise NeuromorphicLLMError(f"NIR files need the package nir ({error}); {INSTALL}") from error
    return nir


@dataclass(frozen=True)
class Phase:
    """One phase of weight 2^k: neuron i fires if |v[i]| >= threshold[i]."""

    k: int
    threshold: NDArray[np.int64]  # [inputs]


def phases_of(stop: NDArray[np.int32], bits: int) -> list[Phase]:
    """Phases in which a neuron can fire for |x| <= 2^(bits-1), most significant first.

    The bound of |v| is followed as SignedDigit.worst_case_error does, for the longest train: what a neuron leaves is at most its
    threshold, or what firing leaves of the bound or of the threshold itself. (At most the threshold, not below it: above k_top a neuron on
    it stays silent. Phases below a token's k_min send nothing, and so do all after them.)
    """
    largest = 1 << (bits - 1)
    top = max(-(-2 * largest // 3) - 1, 0).bit_length()
    price, bound = stop.astype(np.int64), np.full(len(stop), largest, np.int64)
    phases = []
    for k in range(top, -1, -1):
        weight = 1 << k
        threshold = np.maximum((3 * weight + 3) >> 2, ((weight + (price >> k)) >> 1) + 1)
        can_fire = bound >= threshold
        if can_fire.any():
            # Thresholds out of reach may stand for any other: these stay exact.
            phases.append(Phase(k, np.minimum(threshold, largest + 1)))
        left = np.maximum(np.minimum(bound, threshold), np.maximum(bound - weight, weight - threshold))
        bound = np.where(can_fire, left, bound)
    return phases


@dataclass
class _Graph:
    """Nodes and edges under construction, in the order of execution."""

    nir: Any
    inputs: int
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, node: Any, *sources: str) -> str:
        """A node that reads the sum of its sources."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def scale(self, name: str, factor: float, *sources: str) -> str:
        return self.add(name, self.nir.Scale(scale=np.full(self.inputs, factor, np.float64)), *sources)

    def threshold(self, name: str, threshold: NDArray[np.float64], *sources: str) -> str:
        return self.add(name, self.nir.Threshold(threshold=threshold), *sources)

    def constant_linear(self, name: str, factor: float, shape: tuple[int, int], source: str) -> str:
        return self.add(name, self.nir.Linear(weight=np.full(shape, factor, np.float64)), source)


def _add_gates(graph: _Graph, exponents: list[int], largest: int, code_phases: int) -> None:
    """Nodes that tell k_top: g_K for every phase K + 1 that it opens and every phase K - T + 1 that it closes."""
    inputs = graph.inputs
    graph.scale("mirror", -1.0, "input")
    for k in range(exponents[0]):
        opens, closes = k + 1 in exponents, k - code_phases + 1 in exponents
        if not opens and not closes:
            continue
        beyond = np.full(inputs, 1.5 * 2.0**k)
        exceeding = [
            graph.threshold(f"exceeds_plus_{k}", beyond, "input"),
            graph.threshold(f"exceeds_minus_{k}", beyond, "mirror"),
        ]
        graph.add(f"exceeding_{k}", graph.nir.Linear(weight=np.ones((1, inputs))), *exceeding)
        above = graph.threshold(f"top_above_{k}", np.array([0.5]), f"exceeding_{k}")
        if opens:
            graph.constant_linear(f"opens_{k}", float(largest), (inputs, 1), above)
        if closes:
            graph.constant_linear(f"closes_{k}", -float(largest), (inputs, 1), above)


def _add_phase(graph: _Graph, phase: Phase, residue: tuple[str, ...], largest: int, code_phases: int) -> tuple[str, ...]:
    """One phase of the spike train; returns what the next phase's residue is the sum of."""
    k = phase.k
    residue = (graph.scale(f"residue_{k}", 1.0, *residue),)
    mirror = graph.scale(f"mirror_{k}", -1.0, *residue)
    gates = [name for name in (f"opens_{k - 1}", f"closes_{k + code_phases - 1}") if name in graph.nodes]
    # Half-integers: no integer lies on a threshold. Phase 0 is open for every token.
    threshold = (phase.threshold + (largest if k else 0)).astype(np.float64) - 0.5
    sent = []
    for sign, name, source in ((1.0, "plus", residue[0]), (-1.0, "minus", mirror)):
        graph.threshold(f"{name}_{k}", threshold, source, *gates)
        sent.append(graph.scale(f"value_{name}_{k}", sign * 2.0**k, f"{name}_{k}"))
    return (*residue, graph.scale(f"sent_{k}", -1.0, *sent))


def _check_exact(site: LinearWeights, largest: int, name: str, bits: int) -> None:
    """ConversionError if an accumulator could leave the integers of float64; |a 2^k_min| <= |x| + |v| <= 2 X."""
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
    library = import_nir()
    site, name, code_phases = weights.site(index), weights.config.site_name(index), weights.code.phases
    largest = 1 << (bits - 1)
    _check_exact(site, largest, name, bits)
    phases = phases_of(site.stop, bits)
    if not phases:
        raise ConversionError(f"{name}: no input of {bits} bits ever fires at these prices; use a larger --bits")
    outputs, inputs = site.weight.shape
    graph = _Graph(library, inputs)
    graph.add("input", library.Input(input_type=np.array([inputs])))
    _add_gates(graph, [phase.k for phase in phases], largest, code_phases)
    residue: tuple[str, ...] = ("input",)
    for phase in phases:
        residue = _add_phase(graph, phase, residue, largest, code_phases)
    # Nothing reads what the last phase leaves.
    last = graph.nodes.pop(f"sent_{phases[-1].k}")
    graph.edges = [edge for edge in graph.edges if graph.nodes.get(edge[1], last) is not last]
    values = [f"value_{sign}_{phase.k}" for phase in phases for sign in ("plus", "minus")]
    graph.add("synapses", library.Linear(weight=site.weight.astype(np.float32)), *values)
    graph.add("output", library.Output(output_type=np.array([outputs])), "synapses")
    metadata = {
        "producer": f"neuromorphic-llm {neuromorphic_llm.__version__}", "network_hash": network_hash, "site": name,
        "code": weights.code.name, "phases": code_phases, "bits": bits, "multiplier": site.multiplier, "shift": site.shift,
    }  # fmt: skip
    if site.bias is not None:
        metadata["bias"] = site.bias
    return library.NIRGraph(graph.nodes, graph.edges, metadata=metadata)
