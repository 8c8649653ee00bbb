"""Units of the chip: which operations of a graph it executes (docs/reference/compiler.md)."""

from __future__ import annotations

from neuromorphic_llm.chip.instructions import kinds_by_operation
from neuromorphic_llm.chip.selection import HOST_OPERATIONS
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.graph.ir import Graph
from neuromorphic_llm.graph.operations import EPILOGUES
from neuromorphic_llm.graph.parts import other_parts
from neuromorphic_llm.reference.weights import DecoderWeights

_FUSED = {*HOST_OPERATIONS, *EPILOGUES, "shift", "normalise", "gain", "matmul", "scale", "bias", "slice"}
"""Operations of the host and of synapse tiles, and steps that become one instruction together (fusion.py)."""


def missing_units(graph: Graph) -> list[str]:
    """Operations of a network that the chip has no unit for, each once."""
    return other_parts(graph, _FUSED | set(kinds_by_operation()))


def other_readout(weights: DecoderWeights, spec: ChipSpec) -> str | None:
    """Difference between the readouts of a network and a chip; None if the chip computes what the network is defined by.

    An exact readout computes the same whatever its sizes are.
    """
    needed, found = weights.readout, spec.readout_circuit
    if needed == found or (needed.exact and found.exact):
        return None
    return f"the network is for the readout {needed.described()}, chip {spec.name} has {found.described()}"
