"""Schedule: the vector tiles' instruction lists, in the order of the graph (timing.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuromorphic_llm.chip.selection import select_programs
from neuromorphic_llm.compiler.module import Module


@dataclass(frozen=True)
class Schedule:
    """One program per stage: receive the residual, one instruction per vector operation, send the result on."""

    name: str = "schedule"

    def apply(self, module: Module) -> Module:
        """CompileError for a node that no unit executes, or whose operands are not where its unit reads them."""
        return replace(module, programs=select_programs(module.graph, module.weights.config))
