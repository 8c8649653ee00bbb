"""Lockstep of the whole chip with the simulators: nothing differs, and what is wrong is found where and when it first shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nano_chip import chip, program, recorded
from numpy.typing import NDArray

from neuromorphic_llm.chip.routes import routes_of
from neuromorphic_llm.chip.topology import LOCAL
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.rtl.bench import EVENT
from neuromorphic_llm.rtl.expected import expected_channels
from neuromorphic_llm.rtl.lockstep import SIGNALS, Difference, DifferenceFoundError, EventComparison, LockstepResult, run_lockstep
from neuromorphic_llm.rtl.trace import write_waveform
from neuromorphic_llm.simulation.counters import count
from neuromorphic_llm.simulation.recorded import RecordedRun

PROMPT = (5, 17, 3)


@cache
def short() -> RecordedRun:
    return recorded(PROMPT, 2)


# ---------------------------------------------------------------- the comparison, fed with what is expected


def names() -> list[str]:
    return [
        f"chip.g_tile[{tile}].unit" + (f".g_engine[{engine}].bank" if engine >= 0 else "") + f".observe {signal}"
        for (tile, engine), signal in expected_channels(short())
    ]


@cache
def perfect() -> NDArray[Any]:
    """Events of a chip without a fault; those compared by order come all in cycle 0."""
    parts = []
    for number, channel in enumerate(expected_channels(short()).values()):
        part = np.zeros(len(channel.words), EVENT)
        part["channel"], part["words"] = number, channel.words
        if channel.cycles is not None:
            part["cycle"] = channel.cycles
        parts.append(part)
    return by_cycle(np.concatenate(parts))


def by_cycle(events: NDArray[Any]) -> NDArray[Any]:
    return events[np.argsort(events["cycle"], kind="stable")]


def number(tile: int, signal: str, engine: int = -1) -> int:
    return list(expected_channels(short())).index(((tile, engine), signal))


def compare(events: NDArray[Any], chunk: int = 512) -> Difference | None:
    comparison = EventComparison(short())
    end = int(perfect()["cycle"].max()) + 1
    for begin in range(0, end, chunk):
        part = events[(events["cycle"] >= begin) & (events["cycle"] < begin + chunk)]
        if (difference := comparison.take(part, names, begin + chunk)) is not None:
            return difference
    assert sum(comparison.counts().values()) == len(events) or len(events) < len(perfect())
    return comparison.take(events[:0], names, end, last=True)


@pytest.mark.parametrize("chunk", [100, 512, 10**6])
def test_what_is_expected_does_not_differ(chunk: int) -> None:
    assert compare(perfect(), chunk) is None


@pytest.mark.parametrize("chunk", [100, 10**6])
def test_a_wrong_a_missing_and_an_early_flit(chunk: int) -> None:
    vector = program().stages[1].vector_tile
    places = np.flatnonzero(perfect()["channel"] == number(vector, "inject"))
    cycle = int(perfect()["cycle"][places[40]])
    wrong = perfect().copy()
    wrong["words"][places[40], 1] ^= 1 << 14
    found = compare(wrong, chunk)
    assert found is not None and found.seen and found.expected and found.seen != found.expected
    assert (found.cycle, found.tile, found.signal, found.layer) == (cycle, vector, "inject", 1)
    missing = compare(np.delete(perfect(), places[40]), chunk)
    assert missing is not None and missing.cycle == cycle and missing.seen is None and missing.expected == found.expected
    early = perfect().copy()
    gap = int(np.flatnonzero(np.diff(perfect()["cycle"][places]) > 3)[5]) + 1
    early["cycle"][places[gap]] -= 2
    found = compare(by_cycle(early), chunk)
    assert found is not None and found.cycle == int(perfect()["cycle"][places[gap]]) - 2
    assert found.expected is not None and found.expected.startswith(f"nothing before cycle {found.cycle + 2:,}")
    more = np.insert(perfect(), places[-1] + 1, perfect()[places[-1]])
    more["cycle"][places[-1] + 1] += 1
    found = compare(more, chunk)
    assert found is not None and found.expected is None and found.cycle == int(perfect()["cycle"][places[-1]]) + 1


def test_signals_compared_by_order() -> None:
    region = program().stages[2].regions[1][0]
    vector = program().stages[2].vector_tile
    for tile, engine, signal, site in (
        (region.tile, -1, "accumulator", "layers.2.output"),
        (vector, -1, "residual", "layers.2.output"),
        (vector, 1, "query_spike", None),
        (vector, 0, "score", None),
        (vector, 1, "probability_spike", None),
        (vector, 0, "value_sum", None),
    ):
        places = np.flatnonzero(perfect()["channel"] == number(tile, signal, engine))
        wrong = perfect().copy()
        wrong["words"][places[10], 1] += 1
        found = compare(wrong)
        assert found is not None
        assert (found.tile, found.signal, found.layer, found.site) == (tile, signal, 2, site)
        assert found.token == expected_channels(short())[(tile, engine), signal].rows[10]
        assert len(found.last_events) == 8
        found = compare(np.delete(perfect(), places[-1]))
        assert found is not None and (found.tile, found.signal) == (tile, signal) and found.seen is None


def test_of_one_cycle_the_event_furthest_upstream_comes_first() -> None:
    region = program().stages[0].regions[0][0]
    wrong = perfect().copy()
    flit = np.flatnonzero(perfect()["channel"] == number(region.tile, "inject"))[0]
    accumulator = np.flatnonzero(perfect()["channel"] == number(region.tile, "accumulator"))[0]
    wrong["cycle"][accumulator] = wrong["cycle"][flit]
    wrong["words"][[accumulator, flit], 1] += 1
    wrong = np.concatenate([wrong[perfect()["channel"] != wrong["channel"][accumulator]], wrong[accumulator : accumulator + 1]])
    found = compare(by_cycle(wrong))
    assert found is not None and found.signal == "accumulator"


# ---------------------------------------------------------------- the chip


def test_nano_equals_the_simulators() -> None:
    run = recorded(PROMPT, 2)
    result, difference = run_lockstep(chip(), run, ())
    assert difference is None
    counters = count(program(), run.trace, run.timing, slice(0, run.trace.tokens))
    compared = result.compared
    assert list(compared) == list(SIGNALS)
    assert compared["inject"] == counters.flits and compared["token"] == 2
    assert compared["accumulator"] == counters.output_values
    assert compared["residual"] == counters.add_elements
    assert compared["query_spike"] == counters.query_spikes and compared["probability_spike"] == counters.probability_spikes
    assert compared["value_sum"] == counters.attention_values and 0 < compared["score"] <= counters.softmax_elements
    assert result.cycles >= run.timing.cycles_total


@dataclass(frozen=True)
class Fault:
    """A bit of one write of the load that is changed, and where that shows first."""

    write: Callable[[], tuple[int, int, int]]  # tile, unit, address
    flip: int
    tile: Callable[[], int]
    signal: str
    layer: int | None
    site: str | None
    engine: str = ""
    late: int = 0  # cycles from a spike that is missing to the next one, with which that shows


def stage(number: int) -> Any:
    return program().stages[number]


def tile_of(layer: int, site: int) -> int:
    return int(stage(layer).regions[site][0].tile)


def passed_tile() -> tuple[int, int]:
    """The first spike route that passes a synapse tile's router without stopping there, and that tile."""
    used = {region.tile for stage in program().stages for site in stage.regions for region in site}
    for number, route in enumerate(routes_of(program().stages, program().weights.config)):
        masks = program().route_masks[number]
        for tile in sorted(used):
            if route.kind == "spike" and masks[tile] and not masks[tile] & LOCAL:
                return number, tile
    raise AssertionError("every spike route is a link long")


FAULTS = {
    "a weight": Fault(lambda: (tile_of(0, 2), 3, 8), 1 << 3, lambda: tile_of(0, 2), "accumulator", 0, "layers.0.gate_up"),
    "a multiplier": Fault(lambda: (tile_of(0, 0), 2, 7), 1 << 8, lambda: tile_of(0, 0), "inject", 0, "layers.0.qkv"),
    "a gain": Fault(lambda: (stage(0).vector_tile, 3, 0), 1 << 12, lambda: stage(0).vector_tile, "inject", 0, "layers.0.qkv"),
    "a stop price": Fault(lambda: (stage(1).vector_tile, 3, 100), 1 << 27, lambda: stage(1).vector_tile, "inject", 1, "layers.1.qkv"),
    "a query's stop price": Fault(
        lambda: (stage(2).vector_tile, 5, 3), 1 << 26, lambda: stage(2).vector_tile, "query_spike", 2, None, ", attention engine 0", 1
    ),
    "a route": Fault(lambda: (passed_tile()[1], 0, passed_tile()[0]), LOCAL, lambda: passed_tile()[1], "arrive", None, ""),
    "an embedding": Fault(lambda: (program().spec.topology.tiles, 0, 17 * 32 + 2), 1, lambda: 0, "inject", 0, None),
    "the head's shift": Fault(lambda: (tile_of(4, 0), 1, 4), 1, lambda: tile_of(4, 0), "inject", None, "head"),
}


Events = set[tuple[int, int, tuple[int, ...]]]
"""Cycle, channel and words."""


def lockstep_with(load: NDArray[np.uint64]) -> tuple[LockstepResult, DifferenceFoundError | None, Events]:
    """Lockstep of the short run after a load, and every event that the chip reported."""
    seen: list[NDArray[Any]] = []
    take = chip().events

    def events() -> NDArray[Any]:
        seen.append(take())
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chip(), "_load", load)
        patch.setattr(chip(), "events", events)
        result, error = run_lockstep(chip(), short(), ())
    return result, error, {(int(e["cycle"]), int(e["channel"]), tuple(e["words"].tolist())) for part in seen for e in part}


@cache
def good_events() -> Events:
    return lockstep_with(chip()._load)[2]


QUICK = ("a weight", "a multiplier", "a query's stop price", "a route")


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAULTS])
def test_a_fault_is_found_where_it_first_shows(name: str) -> None:
    fault = FAULTS[name]
    load = chip()._load.copy()
    (place,) = np.flatnonzero((load[:, :3] == np.array(fault.write(), np.uint64)).all(axis=1))
    load[place, 3] ^= np.uint64(fault.flip)
    result, error, events = lockstep_with(load)
    assert error is not None
    found = error.difference
    assert (found.tile, found.signal) == (fault.tile(), fault.signal)
    assert fault.engine in found.unit
    if fault.site != "":
        assert (found.layer, found.site) == (fault.layer, fault.site)
    assert found.cycle <= result.cycles and found.seen is not None and found.seen != found.expected
    assert found.last_events[-1] == f"cycle {found.cycle:,}: {found.signal}: {found.seen}"
    assert f"cycle {found.cycle:,}: tile {found.tile} ({found.unit}), {found.signal}" in str(error)
    # Nothing that the chip did before is otherwise without the fault.
    assert min(cycle for cycle, *_ in events ^ good_events() if cycle <= found.cycle) == found.cycle - fault.late


def test_a_failed_assertion_is_reported_with_the_difference_or_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    load = chip()._load.copy()
    spike = int(program().routes.spike[0])
    (place,) = np.flatnonzero((load[:, :3] == np.array((stage(0).vector_tile, 0, spike), np.uint64)).all(axis=1))
    load[place, 3] = 0  # the head flit has no way out
    monkeypatch.setattr(chip(), "_load", load)
    with pytest.raises(SimulationError, match="head_has_an_output"):
        run_lockstep(chip(), short(), ())


@pytest.mark.slow
def test_32_tokens_of_nano_equal_the_simulators() -> None:
    tokenizer = load_checkpoint("nano").tokenizer()
    run = recorded(tokenizer("Once upon a time", add_special_tokens=False)["input_ids"], 32)
    result, difference = run_lockstep(chip(), run, ())
    assert difference is None and result.compared["token"] == len(run.token_ids)


@pytest.mark.slow
def test_a_waveform_shows_the_cycles_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "wave.vcd"
    cycles = range(160, 180)
    write_waveform(program(), [PROMPT], 2, (), path, cycles, 0, 1)
    text = path.read_text()
    times = [int(line[1:]) for line in text.splitlines() if line.startswith("#")]
    assert times[0] == 10 * cycles.start and times[-1] == 10 * (cycles.stop - 1) + 5
    assert " decoded_q " in text and " begun_q " not in text  # of the host tile, of vector tiles
    assert [path.name for path in tmp_path.iterdir()] == ["wave.vcd"]
