"""Stamped trains in the event simulation: every input has one level or none (docs/reference/timing.md, Stamped trains)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.simulation.crossbar_kernels import accumulate_levels
from neuromorphic_llm.simulation.encoder_kernels import encode_levels
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog


class StampedTrains:
    """Codes vectors into levels, and adds up what these drive, for a program whose trains are stamped."""

    def __init__(self, program: Program) -> None:
        code = program.weights.code.spike_code()
        assert isinstance(code, FirstSpikeLog)  # the compiler refuses others
        self.code, self._rows = code, program.spec.synapse.rows
        self._levels = np.array(code.levels, np.int32)

    @property
    def slots(self) -> int:
        """Time slots of a train."""
        return len(self._levels)

    def encode(self, values: NDArray[np.int32], stop: NDArray[np.int32], events: NDArray[np.int32]) -> tuple[int, NDArray[np.int32]]:
        """Exponent k_min and signed levels of values [inputs]; `events` [slots, row blocks] counts their spikes."""
        levels = np.empty(len(values), np.int32)
        return encode_levels(values, stop, self._levels, self._rows, levels, events), levels

    def block_sums(self, levels: NDArray[np.int32], weights_t: NDArray[np.int8], rows: int) -> NDArray[np.int32]:
        """Integer products of the blocks of `rows` inputs, [blocks, 1, outputs]."""
        sums = np.zeros((-(-len(levels) // rows), 1, weights_t.shape[1]), np.int32)
        for block, total in enumerate(sums[:, 0]):
            part = slice(block * rows, (block + 1) * rows)
            accumulate_levels(weights_t[part], levels[part], total)
        return sums

    def digits(self, levels: NDArray[np.int32]) -> NDArray[np.int8]:
        """Digits of the code, [phases, inputs], one empty phase of a vector of zeros."""
        digits = self.code.digits_of(levels.astype(np.int64))
        return digits if levels.any() else digits[-1:]
