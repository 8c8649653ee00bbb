"""Programming noise of cells, rounded to the weights that all engines share (docs/reference/devices.md, Programming noise)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.devices.cells import Cell
from neuromorphic_llm.registry import Registry


@dataclass(frozen=True)
class ProgrammingNoise:
    """Normally distributed error of a programmed conductance G in uS; its standard deviation is a polynomial in G."""

    largest_conductance: float  # uS, of the largest level
    deviation: tuple[float, ...]  # coefficients of sigma(G), uS, the constant first

    def sigma(self, conductance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard deviation of programming a conductance, uS, elementwise."""
        return np.maximum(np.polynomial.polynomial.polyval(conductance, self.deviation), 0.0)

    def programmed(self, weights: NDArray[np.integer], cell: Cell, rng: np.random.Generator, scale: float = 1.0) -> NDArray[np.int8]:
        """Weights that cells hold after programming, int8 of the same shape; scale multiplies sigma.

        ValueError if a cell cannot hold a weight.
        """
        levels = cell.levels(weights)
        step = self.largest_conductance / cell.largest_level
        conductance = np.stack([np.maximum(levels, 0), np.maximum(-levels, 0)]) * step  # positive and negative cells, uS
        reached = np.maximum(conductance + scale * self.sigma(conductance) * rng.standard_normal(conductance.shape), 0.0)
        held = np.tensordot(cell.slice_values, (reached[0] - reached[1]) / step, axes=1)
        return np.clip(np.rint(held), -cell.largest_weight, cell.largest_weight).astype(np.int8)


PROGRAMMING_NOISES: Registry[ProgrammingNoise] = Registry(
    "programming noise",
    [
        ("pcm", ProgrammingNoise(25.0, (0.26348, 1.9650 / 25.0, -1.1731 / 25.0**2))),
        ("rram", ProgrammingNoise(39.26, (1.053, 0.2374, -1.167e-2, 1.536e-4))),
    ],
)
"""Name -> noise of a kind of device; docs/reference/devices.md has the sources."""
