"""Cycles in which gated tiles are on, and their wake-ups (docs/reference/timing.md, Power gating)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.simulation.trace import ActivityTrace

if TYPE_CHECKING:
    from neuromorphic_llm.simulation.timing import TimingResult

Cycles = NDArray[np.int64]


def gating_counts(program: Program, trace: ActivityTrace, timing: TimingResult, rows: slice) -> dict[str, int]:
    """Counters of power gating for the tokens `rows`; all zero on a chip whose tiles are always on."""
    counted = dict.fromkeys(("vector_tile_cycles_on", "synapse_tile_cycles_on", "vector_tile_wakes", "synapse_tile_wakes"), 0)
    if not program.spec.gated:
        return counted
    for kind, tiles, ran, ordered, ended in _work(program, trace, timing):
        cycles, wakes = _on(ordered[ran], ended[ran])
        chosen = np.isin(np.flatnonzero(ran), np.arange(trace.tokens)[rows])
        counted[f"{kind}_tile_cycles_on"] += tiles * int(cycles[chosen].sum())
        counted[f"{kind}_tile_wakes"] += tiles * int(wakes[chosen].sum())
    return counted


def _work(program: Program, trace: ActivityTrace, timing: TimingResult) -> Iterator[tuple[str, int, NDArray[np.bool_], Cycles, Cycles]]:
    """Tiles that are switched together: kind, number, and of every row whether they work on it, the order to wake, the end of the work."""
    order = timing.step_begin_cycle
    for number, stage in enumerate(program.stages):
        ran = trace.logits_wanted if number == len(program.stages) - 1 else np.ones(trace.tokens, np.bool_)
        yield "vector", 1, ran, order, timing.stage_end_cycle[:, number]
        for site, regions in zip(stage.sites, stage.regions, strict=True):
            yield "synapse", len(regions), ran, timing.site_begin_cycle[:, site], timing.site_end_cycle[:, site]
        order = timing.site_begin_cycle[:, stage.sites[-1]]


def _on(ordered: Cycles, ended: Cycles) -> tuple[Cycles, NDArray[np.bool_]]:
    """Cycles on for each row, and whether a tile woke for it: it stays on if the next order comes by the end of its work."""
    before = np.concatenate([[-1], ended[:-1]])
    return ended - np.maximum(ordered, before), ordered > before
