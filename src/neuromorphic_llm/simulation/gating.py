"""Cycles in which gated tiles and routers are on, and their wake-ups (docs/reference/timing.md, Power gating)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.routes import router_stages
from neuromorphic_llm.simulation.trace import ActivityTrace

if TYPE_CHECKING:
    from neuromorphic_llm.simulation.timing import TimingResult

Cycles = NDArray[np.int64]


@dataclass(frozen=True)
class _Spans:
    """Spans for which something is needed, in the order of the orders to wake: arrays [spans]."""

    rows: Cycles  # token that needs it
    ordered: Cycles
    ended: Cycles

    @classmethod
    def merged(cls, parts: list[_Spans]) -> _Spans:
        """Union of several parts."""
        rows, ordered, ended = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "ordered", "ended"))
        order = np.argsort(ordered, kind="stable")
        return cls(rows[order], ordered[order], ended[order])

    def on(self) -> tuple[Cycles, NDArray[np.bool_]]:
        """Cycles on for each span beyond those of the spans before it, and whether it wakes what it needs.

        What is on stays on if it is ordered again by the end of its work.
        """
        before = np.concatenate([[-1], np.maximum.accumulate(self.ended)[:-1]])
        return np.maximum(self.ended - np.maximum(self.ordered, before), 0), self.ordered > before


def gating_counts(program: Program, trace: ActivityTrace, timing: TimingResult, rows: slice) -> dict[str, int]:
    """Counters of power gating for the tokens `rows`; zero of what is always on."""
    counted = {f"{kind}_{what}": 0 for kind in ("vector_tile", "synapse_tile", "router") for what in ("cycles_on", "wakes")}
    if not program.spec.gated:
        return counted
    chosen_rows = np.arange(trace.tokens)[rows]
    for kind, number, spans in _needs(program, trace, timing):
        cycles, wakes = spans.on()
        chosen = np.isin(spans.rows, chosen_rows)
        counted[f"{kind}_cycles_on"] += number * int(cycles[chosen].sum())
        counted[f"{kind}_wakes"] += number * int(wakes[chosen].sum())
    return counted


def _needs(program: Program, trace: ActivityTrace, timing: TimingResult) -> Iterator[tuple[str, int, _Spans]]:
    """Kind, number and spans of tiles and routers that are switched together."""
    stages = list(_stages(program, trace, timing))
    for stage, own in zip(program.stages, stages, strict=True):
        yield "vector_tile", 1, own
        for site, regions in zip(stage.sites, stage.regions, strict=True):
            times = (each[own.rows, site] for each in (timing.site_begin_cycle, timing.site_end_cycle))
            yield "synapse_tile", len(regions), _Spans(own.rows, *times)
    if program.spec.routers_gated:
        head = stages[-1]
        stages[-1] = _Spans(head.rows, head.ordered, timing.token_end_cycle[head.rows])  # its token is on the way for longer
        for served, routers in Counter(filter(None, router_stages(program))).items():
            yield "router", routers, _Spans.merged([stages[number] for number in served])


def _stages(program: Program, trace: ActivityTrace, timing: TimingResult) -> Iterator[_Spans]:
    """Spans of the vector tile of each stage."""
    order = timing.step_begin_cycle
    for number, stage in enumerate(program.stages):
        ran = trace.logits_wanted if number == len(program.stages) - 1 else np.ones(trace.tokens, np.bool_)
        rows = np.flatnonzero(ran)
        yield _Spans(rows, order[rows], timing.stage_end_cycle[rows, number])
        order = timing.site_begin_cycle[:, stage.sites[-1]]
