"""The readout of membranes that decay: one pulse per spike, whose time says its value (docs/reference/devices.md, Decay)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.devices.membrane import Membrane
from neuromorphic_llm.devices.readout import Counts
from neuromorphic_llm.errors import UsageError

STEPS = (1, 2, 3, 4, 8)
"""Slots of an octave for which the code has integer weights."""


@dataclass(frozen=True)
class MembraneDecay(Membrane):
    """Charge of a block that decays from time slot to time slot, converted once.

    Events [tokens, sites, slots, row_blocks] are in the order of the slots, the least significant one first.
    """

    steps: int = 8  # slots of an octave

    name: ClassVar[str] = "membrane-decay"
    stamped: ClassVar[bool] = True
    capacitors: ClassVar[int] = 2
    bounds: ClassVar[Mapping[str, tuple[int, int]]] = MappingProxyType({**Membrane.bounds, "steps": (1, 8)})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps not in STEPS:
            raise UsageError(f"readout {self.name!r}: steps must be one of {', '.join(map(str, STEPS))}, not {self.steps}")

    def decays(self, events: Counts) -> Counts:
        """See Readout.decays: of every slice of a row block with a spike, from the first slot with an event on."""
        blocks = (events.sum(axis=2) > 0).sum(axis=2)  # [tokens, sites]
        counted: Counts = (blocks * _decays(events)).sum(axis=0)
        return self.slices * counted

    def train_cycles(self, events: Counts, read_latency: int, mux_cycles: int) -> Counts:
        """See Readout.train_cycles: decays and integrations, then a conversion and its repetitions."""
        groups = self.reads(events).max(axis=-1).sum(axis=-1)  # [tokens, sites]
        spiking = groups > 0
        cycles: Counts = 1 + _decays(events) + read_latency * groups + mux_cycles * (1 + self.repeats) * spiking
        return cycles

    def rtl_parameters(self) -> dict[str, int]:
        """See Readout.rtl_parameters."""
        return {**super().rtl_parameters(), "STEPS": self.steps}


def _decays(events: Counts) -> NDArray[np.int64]:
    """Decays from the first slot with an event to the last slot, [tokens, sites]; none of a train without an event."""
    occupied = events.sum(axis=-1) > 0
    after: NDArray[np.int64] = occupied.shape[-1] - 1 - occupied.argmax(axis=-1)
    return np.where(occupied.any(axis=-1), after, 0)
