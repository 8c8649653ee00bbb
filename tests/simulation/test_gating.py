"""Gated tiles: cycles on and wake-ups by hand and against a mark for every cycle, and what waking costs in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest
from small_programs import make_program
from timing_oracle import Chip, Oracle

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.routes import Route, routes_of
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation.counters import Counters, count
from neuromorphic_llm.simulation.run import SimulationResult, simulate, simulate_sequences
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


def figures(counters: Counters) -> tuple[int, ...]:
    """Cycles on of vector tiles, synapse tiles and routers, wake-ups of each."""
    kinds = ("vector_tile", "synapse_tile", "router")
    return tuple(getattr(counters, f"{kind}_{what}") for what in ("cycles_on", "wakes") for kind in kinds)


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
    assert first == (300, 30 * sum(tiles[:4]), 0, 1, sum(tiles[:4]), 0)
    assert second == (499 - 300, 30 * sum(tiles[:4]), 0, 0, sum(tiles[:4]), 0)
    assert third == ((800 - 500) + (900 - 730), 30 * sum(tiles), 0, 2, sum(tiles), 0)
    prompt = figures(count(program, result.trace, timing))
    assert prompt == tuple(sum(each) for each in zip(first, second, third, strict=True))


def spans(oracle_chip: Chip, found: Oracle) -> Iterator[tuple[str, int, list[tuple[int, int]]]]:
    """Spans in which tiles that are switched together have an order to be on: kind, number of tiles, (order, end) of every token."""
    program = oracle_chip.program
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


def crossed_by(route: Route, width: int) -> set[int]:
    """Tiles on the ways of a route, which go along x first."""
    tiles = set()
    for end in route.destinations:
        (y, x), (last_y, last_x) = divmod(route.source, width), divmod(end, width)
        tiles |= {y * width + each for each in range(min(x, last_x), max(x, last_x) + 1)}
        tiles |= {each * width + last_x for each in range(min(y, last_y), max(y, last_y) + 1)}
    return tiles


def router_spans(oracle_chip: Chip, found: Oracle) -> Iterator[tuple[str, int, list[tuple[int, int]]]]:
    """Spans in which each router is needed: those of every stage whose flits cross it, by their routes' labels."""
    program = oracle_chip.program
    rows = range(oracle_chip.trace.tokens)
    layer, head = program.stages
    layer_spans = [(found.step_begin[row], found.stage_end[row, 0]) for row in rows]
    head_spans = [(found.site_begin[row, 3], int(found.token_end[row])) for row in rows if (row, 1) in found.stage_end]
    crossed: dict[int, list[tuple[int, int]]] = {}
    for route in routes_of(program.stages, program.weights.config):
        if route.kind != "logits":
            of_head = route.kind == "token" or route.label in ("1", "head") or route.label.startswith("head.")
            for tile in crossed_by(route, program.spec.mesh.width):
                crossed.setdefault(tile, []).extend(head_spans if of_head else layer_spans)
    assert layer.sites[-1] == 3 and head.sites == (4,)
    for tile, needed in crossed.items():
        if tile != 0:
            yield "router", 1, needed


@pytest.mark.parametrize("gating", ["tiles", "all"])
@pytest.mark.parametrize("sequences", [1, 2, 4])
def test_every_cycle_of_a_run(gating: str, sequences: int) -> None:
    """Every tile, router and cycle of a run marked on or off, with the times of the oracle."""
    program = make_program(ONE_LAYER, GATED.with_fields({"power.gating": gating}))
    result = simulate_sequences(program, [PROMPT[:length] for length in (3, 1, 2, 3)[:sequences]], 3, stop=())
    on, wakes = Counter[str](), Counter[str]()
    oracle_chip = Chip(program, result.trace)
    found = oracle_chip.run()
    routers = router_spans(oracle_chip, found) if gating == "all" else ()
    for kind, tiles, ordered in (*spans(oracle_chip, found), *routers):
        marks = np.zeros(result.timing.cycles_total + 1, np.bool_)
        for begin, end in ordered:
            marks[begin:end] = True
        on[kind] += tiles * int(marks.sum())
        wakes[kind] += tiles * (int(marks[0]) + int(np.count_nonzero(~marks[:-1] & marks[1:])))
    whole = count(program, result.trace, result.timing)
    assert figures(whole) == tuple(each[kind] for each in (on, wakes) for kind in ("vector", "synapse", "router"))
    assert (wakes["router"] > 0) == (gating == "all")
    assert wakes["vector"] >= 2 and on["vector"] < 2 * whole.cycles


def test_parts_of_a_run_add_up() -> None:
    program, result = run(GATED.with_fields({"power.gating": "all"}))
    assert result.decode is not None
    whole = count(program, result.trace, result.timing)
    parts = zip(figures(result.prefill), figures(result.decode), strict=True)
    assert figures(whole) == tuple(first + second for first, second in parts)


def test_nothing_else_changes_where_the_work_in_front_is_long_enough() -> None:
    """The shortest work is the encoding of 48 hidden values, 6 cycles and a scan of 2."""
    (_, plain), (_, gated) = (run(spec.with_fields({"power.wake_cycles": 8})) for spec in (UNGATED, GATED))
    assert not any(figures(plain.prefill))
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
