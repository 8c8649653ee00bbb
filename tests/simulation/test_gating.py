"""Gated tiles: cycles on and wake-ups by hand and against a mark for every cycle, and what waking costs in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest
from small_programs import make_program
from timing_oracle import Chip

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation.counters import Counters, count
from neuromorphic_llm.simulation.run import SimulationResult, simulate
from neuromorphic_llm.simulation.timing import simulate_timing

UNGATED = ChipSpec("test").with_fields(
    {"mesh.width": 7, "mesh.height": 6, "synapse.rows": 4, "synapse.columns": 8, "readout.active_rows": 2, "power.wake_cycles": 20}
)
GATED = UNGATED.with_fields({"power.gating": "tiles"})
ONE_LAYER = random_decoder(0, config=replace(SMALL_CONFIG, layers=1))
PROMPT = [4, 8, 15]


def run(spec: ChipSpec, new: int = 3) -> tuple[Program, SimulationResult]:
    program = make_program(ONE_LAYER, spec)
    return program, simulate(program, PROMPT, new, stop=())


def figures(counters: Counters) -> tuple[int, int, int, int]:
    """Cycles on of vector and synapse tiles, wake-ups of both."""
    return (
        counters.vector_tile_cycles_on,
        counters.synapse_tile_cycles_on,
        counters.vector_tile_wakes,
        counters.synapse_tile_wakes,
    )


def test_by_hand() -> None:
    """Three tokens of a prompt; the head sees the last one. Layer 0 is still at work when it is woken for the second token."""
    program, result = run(GATED, new=1)
    tiles = [len(regions) for stage in program.stages for regions in stage.regions]
    site_begin = np.array([[110, 150, 190, 230, 0], [310, 350, 390, 430, 0], [610, 650, 690, 730, 830]])
    timing = replace(
        result.timing,
        step_begin_cycle=np.array([0, 140, 500]),
        stage_end_cycle=np.array([[300, 0], [499, 0], [800, 900]]),
        site_begin_cycle=site_begin,
        site_end_cycle=np.where(site_begin, site_begin + 30, 0),
        token_end_cycle=np.array([300, 499, 950]),
    )
    first, second, third = (figures(count(program, result.trace, timing, slice(row, row + 1))) for row in range(3))
    assert first == (300, 30 * sum(tiles[:4]), 1, sum(tiles[:4]))
    assert second == (499 - 300, 30 * sum(tiles[:4]), 0, sum(tiles[:4]))
    assert third == ((800 - 500) + (900 - 730), 30 * sum(tiles), 2, sum(tiles))
    prompt = figures(count(program, result.trace, timing))
    assert prompt == tuple(sum(each) for each in zip(first, second, third, strict=True))


def spans(oracle_chip: Chip) -> Iterator[tuple[str, int, list[tuple[int, int]]]]:
    """Spans in which tiles that are switched together have an order to be on: kind, number of tiles, (order, end) of every token."""
    program, found = oracle_chip.program, oracle_chip.run()
    for number, stage in enumerate(program.stages):
        rows = [row for row in range(oracle_chip.trace.tokens) if (row, number) in found.stage_end]
        before = program.stages[number - 1].sites[-1]
        yield (
            "vector",
            1,
            [(found.site_begin[row, before] if number else found.step_begin[row], found.stage_end[row, number]) for row in rows],
        )
        for site, regions in zip(stage.sites, stage.regions, strict=True):
            yield "synapse", len(regions), [(found.site_begin[row, site], found.site_end[row, site]) for row in rows]


def test_every_cycle_of_a_run() -> None:
    """Every tile and cycle of a run marked on or off, with the times of the oracle."""
    program, result = run(GATED)
    on, wakes = {"vector": 0, "synapse": 0}, {"vector": 0, "synapse": 0}
    for kind, tiles, ordered in spans(Chip(program, result.trace)):
        marks = np.zeros(result.timing.cycles_total + 1, np.bool_)
        for begin, end in ordered:
            marks[begin:end] = True
        on[kind] += tiles * int(marks.sum())
        wakes[kind] += tiles * (int(marks[0]) + int(np.count_nonzero(~marks[:-1] & marks[1:])))
    whole = count(program, result.trace, result.timing)
    assert figures(whole) == (on["vector"], on["synapse"], wakes["vector"], wakes["synapse"])
    assert wakes["vector"] > 2 and on["vector"] < 2 * whole.cycles


def test_parts_of_a_run_add_up() -> None:
    _, result = run(GATED)
    assert result.decode is not None
    program = make_program(ONE_LAYER, GATED)
    whole = count(program, result.trace, result.timing)
    parts = zip(figures(result.prefill), figures(result.decode), strict=True)
    assert figures(whole) == tuple(first + second for first, second in parts)


def test_nothing_else_changes_where_the_work_in_front_is_long_enough() -> None:
    """The shortest work is the encoding of 48 hidden values, 6 cycles and a scan of 2."""
    (_, plain), (_, gated) = (run(spec.with_fields({"power.wake_cycles": 8})) for spec in (UNGATED, GATED))
    assert figures(plain.prefill) == (0, 0, 0, 0)
    differing = {field.name for field in fields(Counters) if getattr(plain.prefill, field.name) != getattr(gated.prefill, field.name)}
    assert differing == {"vector_tile_cycles_on", "synapse_tile_cycles_on", "vector_tile_wakes", "synapse_tile_wakes"}
    assert gated.timing.token_end_cycle.tolist() == plain.timing.token_end_cycle.tolist()
    _, late = run(GATED.with_fields({"power.wake_cycles": 9}))
    assert late.timing.token_end_cycle[-1] > plain.timing.token_end_cycle[-1]


@pytest.mark.parametrize("encoder", ["phase", "element"])
def test_a_long_wake_takes_time(encoder: str) -> None:
    """A decoded token waits for its first vector tile behind the host and once for every site."""
    spec = GATED.with_fields({"vector.encoder": encoder})
    program, result = run(spec.with_fields({"power.wake_cycles": 10_000}))
    slower = replace(program, spec=spec.with_fields({"power.wake_cycles": 10_100}))
    longer = simulate_timing(slower, result.trace).decode_cycles - result.timing.decode_cycles
    assert longer.tolist() == [100 * (1 + 5)] * 2
