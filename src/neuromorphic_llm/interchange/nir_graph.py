"""Graphs of NIR's stateless nodes under construction (docs/reference/interchange.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import NeuromorphicLLMError

INSTALL = "install the extra: pip install 'neuromorphic-llm[interchange]'"


def import_nir() -> Any:
    """The package nir; NeuromorphicLLMError that says how to install it."""
    try:
        import nir
    except ImportError as error:
        raise NeuromorphicLLMError(f"NIR files need the package nir ({error}); {INSTALL}") from error
    return nir


@dataclass
class SiteGraph:
    """Nodes and edges of a site in the order of execution, for inputs of |x| <= largest; "input" is there."""

    inputs: int
    largest: int
    nir: Any = field(default_factory=import_nir)
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add("input", self.nir.Input(input_type=np.array([self.inputs])))

    def add(self, name: str, node: Any, *sources: str) -> str:
        """A node that reads the sum of its sources."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def remove(self, name: str) -> None:
        """Take out a node that nothing reads."""
        del self.nodes[name]
        self.edges = [edge for edge in self.edges if name not in edge]

    def scale(self, name: str, factor: float, *sources: str) -> str:
        """`inputs` values times a factor."""
        return self.add(name, self.nir.Scale(scale=np.full(self.inputs, factor, np.float64)), *sources)

    def at_least(self, name: str, least: NDArray[np.int64], *sources: str) -> str:
        """1 where an integer input is at least `least`: half-integers as thresholds, on which no integer lies."""
        return self.add(name, self.nir.Threshold(threshold=least.astype(np.float64) - 0.5), *sources)

    def gate(self, name: str, least: int, opens: str | None, closes: str | None) -> None:
        """[some |x| >= least], spread as `largest` to the node `opens` and as -`largest` to the node `closes`; needs "mirror"."""
        bound = np.full(self.inputs, least, np.int64)
        exceeding = [self.at_least(f"exceeds_{sign}_{name}", bound, source) for sign, source in (("plus", "input"), ("minus", "mirror"))]
        self.add(f"exceeding_{name}", self.nir.Linear(weight=np.ones((1, self.inputs))), *exceeding)
        self.at_least(f"gate_{name}", np.ones(1, np.int64), f"exceeding_{name}")
        for target, factor in ((opens, self.largest), (closes, -self.largest)):
            if target is not None:
                self.add(target, self.nir.Linear(weight=np.full((self.inputs, 1), float(factor))), f"gate_{name}")

    def spikes(self, k: int, sign: int, least: NDArray[np.int64], *sources: str) -> str:
        """Neurons of the phase of weight 2^k and one sign, and the node with what their spikes stand for."""
        name = "plus" if sign > 0 else "minus"
        self.at_least(f"{name}_{k}", least, *(source for source in sources if source in self.nodes))
        return self.scale(f"value_{name}_{k}", sign * 2.0**k, f"{name}_{k}")
