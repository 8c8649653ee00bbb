"""Fold: fuse the steps of numerics.md into the units that execute them in one go."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuromorphic_llm.chip.fusion import fused_graph
from neuromorphic_llm.compiler.module import Module


@dataclass(frozen=True)
class Fold:
    """Shift into the embedding lookup, gain into the norm, scale and bias into the linear layer, slices into the rotary embedding
    and attention, gate and argmax into the output stage of the synapse tiles."""

    name: str = "fold"

    def apply(self, module: Module) -> Module:
        """The module with a fused graph."""
        return replace(module, graph=fused_graph(module.graph))
