"""Cells of a crossbar: differential pairs that hold slices of a weight's magnitude (docs/reference/devices.md, Cells)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
"""numpy array or torch tensor."""

Library = Any
"""The module `numpy` or `torch`, whichever made the arrays."""

DEVICES = ("generic", "pcm", "rram", "sonos")
"""Devices of the cells of a chip, which set the energy of a read (docs/reference/energy.md, Constants)."""

LARGEST_WEIGHT = 127
"""Largest magnitude of a weight; a weight is written as one byte."""

WORD_WEIGHTS = 8
"""Weights in a word that a crossbar is written with."""


@dataclass(frozen=True)
class Cell:
    """Storage of a weight in `slices` differential pairs, each with `bits` bits of its magnitude."""

    bits: int = 4
    slices: int = 2

    @property
    def largest_level(self) -> int:
        """Largest level of a pair."""
        return (1 << self.bits) - 1

    @property
    def largest_weight(self) -> int:
        """Largest magnitude of a weight."""
        return min((1 << self.bits * self.slices) - 1, LARGEST_WEIGHT)

    @property
    def slice_values(self) -> NDArray[np.int64]:
        """Value of level 1 in each slice, 2^(bits * s), int64 [slices]."""
        return np.int64(1) << self.bits * np.arange(self.slices)

    def levels(self, weights: Array, xp: Library = np) -> Array:
        """Levels of the pairs, positive minus negative cell, int8 [slices, ..] of weights [..] of the library xp.

        ValueError if a magnitude exceeds largest_weight.
        """
        wide = xp.asarray(weights, dtype=xp.int64)
        magnitude = abs(wide)
        if (magnitude > self.largest_weight).any():
            raise ValueError(f"a weight of magnitude {int(magnitude.max())} exceeds {self.slices} slices of {self.bits} bits")
        parts = [magnitude >> min(self.bits * s, 62) & self.largest_level for s in range(self.slices)]
        return xp.asarray(xp.sign(wide) * xp.stack(parts), dtype=xp.int8)

    def weights(self, levels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Weights of levels [slices, ..], int64 [..]."""
        return np.tensordot(self.slice_values, levels.astype(np.int64), axes=1)


def words(weights: NDArray[np.integer], columns: int) -> NDArray[np.uint64]:
    """Words that a crossbar is written with, [rows, words]: bytes of eight weights of a row, the first lowest.

    weights [rows, at most `columns`]; the remaining columns and the rest of the last word are zero.
    """
    padded = np.zeros((len(weights), -(-columns // WORD_WEIGHTS) * WORD_WEIGHTS), np.int8)
    padded[:, : weights.shape[1]] = weights
    return padded.view("<u8")
