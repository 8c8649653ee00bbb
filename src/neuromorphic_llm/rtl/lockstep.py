"""The Verilated chip and the simulators side by side, up to the first different event (docs/reference/rtl/verification.md, Lockstep)."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.chip import RtlChip
from neuromorphic_llm.rtl.describe import Describer
from neuromorphic_llm.rtl.expected import Channel, Unit, expected_channels
from neuromorphic_llm.rtl.recorded import Run

SIGNALS = (
    "arrive",
    "query_spike",
    "score",
    "probability_spike",
    "value_sum",
    "accumulator",
    "residual",
    "instructions_done",
    "inject",
    "token",
)
"""Along the data's way through a tile: at equal cycles a difference in an earlier one comes first."""

_KEPT = 8
"""Events of a signal kept for the report."""

_NOTHING = Channel(np.zeros((0, 4), np.int32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Difference:
    """The first event in which the chip differs from the simulators."""

    cycle: int
    tile: int
    unit: str
    layer: int | None
    site: str | None
    signal: str
    sequence: int | None  # number; none where nothing more was expected
    token: int | None  # of the run, counted from 0 in the order in which the host takes them
    expected: str | None  # none: an additional event
    seen: str | None  # none: a missing one
    last_events: tuple[str, ...]  # of the unit, up to this one

    def line(self) -> str:
        """Everything but the events before."""
        row = "" if self.token is None else f" of token {self.token}"
        return (
            f"cycle {self.cycle:,}: tile {self.tile} ({self.unit}), {self.signal}{row}: "
            f"expected {self.expected or 'nothing'}, seen {self.seen or 'nothing'}"
        )


class DifferenceFoundError(SimulationError):
    """The RTL is not what the simulators are."""

    def __init__(self, difference: Difference, assertion: str = "") -> None:
        super().__init__(f"the RTL differs in {difference.line()}{assertion}")
        self.difference = difference


@dataclass(frozen=True)
class LockstepResult:
    """Events compared, up to the first difference or the end."""

    cycles: int
    wall_s: float  # chip and comparison
    compared: dict[str, int]  # events of each signal


class EventComparison:
    """Compares what the observers report with what is expected, as it comes."""

    def __init__(self, run: Run) -> None:
        self._compared: Counter[str] = Counter()
        self._expected = expected_channels(run)
        self._sequence = run.sequence
        self._describer = Describer(run.program)
        self._keys: list[tuple[Unit, str]] = []
        self._position: Counter[tuple[Unit, str]] = Counter()
        self._tails: dict[tuple[Unit, str], NDArray[Any]] = {}

    def counts(self) -> dict[str, int]:
        """Events of each signal that were equal."""
        return {signal: self._compared[signal] for signal in SIGNALS}

    def take(self, events: NDArray[Any], channels: Callable[[], Sequence[str]], cycle: int, *, last: bool = False) -> Difference | None:
        """Compare all events of the cycles before `cycle`, at the end of the run also that nothing is missing; the first difference."""
        if len(events) and int(events["channel"].max()) >= len(self._keys):
            self._keys = [_key(name) for name in channels()]
        order = np.argsort(events["channel"], kind="stable")
        bounds = np.flatnonzero(np.diff(events["channel"][order])) + 1
        parts = {self._keys[part["channel"][0]]: part for part in np.split(events[order], bounds) if len(part)}
        found = []
        for key in {**parts, **self._expected}:
            part = parts.get(key, events[:0])
            wanted = self._expected.get(key, _NOTHING)
            index = self._first(key, part, wanted, cycle, last)
            if index is None:
                self._position[key] += len(part)
                self._compared[key[1]] += len(part)
            else:
                found.append((_when(part, wanted, index, self._position[key], cycle), SIGNALS.index(key[1]), key, index))
        if found:
            at, _, key, index = min(found)
            return self._difference(at, key, parts, index)
        for key, part in parts.items():
            self._tails[key] = np.concatenate([self._tails.get(key, events[:0]), part])[-_KEPT:]
        return None

    def _first(self, key: tuple[Unit, str], part: NDArray[Any], wanted: Channel, cycle: int, last: bool) -> int | None:
        """Place in `part` of the first event that differs; its length if one is missing after all of them."""
        begin = self._position[key]
        words = wanted.words[begin : begin + len(part)]
        same = (part["words"][: len(words)] == words).all(axis=1)
        if wanted.cycles is not None:
            same &= part["cycle"][: len(words)] == wanted.cycles[begin : begin + len(words)]
        if not same.all():
            return int(np.argmin(same))
        if len(words) < len(part):
            return len(words)
        after = begin + len(part)
        late = wanted.cycles is not None and after < len(wanted.cycles) and wanted.cycles[after] < cycle
        return len(part) if late or (last and after < len(wanted.words)) else None

    def _difference(self, cycle: int, key: tuple[Unit, str], parts: dict[tuple[Unit, str], NDArray[Any]], index: int) -> Difference:
        (tile, engine), signal = key
        wanted, part, place = self._expected.get(key, _NOTHING), parts.get(key), self._position[key] + index
        expected = seen = token = None
        words: list[int] = []
        if part is not None and index < len(part) and int(part["cycle"][index]) == cycle:
            words = part["words"][index].tolist()
            seen = self._describer.event(engine, signal, words)
        if place < len(wanted.words):
            token = int(wanted.rows[place])
            due = cycle if wanted.cycles is None else int(wanted.cycles[place])
            next_words = wanted.words[place].tolist()
            text = self._describer.event(engine, signal, next_words)
            words = words or next_words
            expected = text if due == cycle else f"nothing before cycle {due:,} ({text})"
        layer, site = self._describer.place(tile, signal, words, place)
        if part is not None:
            parts = parts | {key: part[: index + 1]}
        sequence = None if token is None else int(self._sequence[token])
        history = self._history((tile, engine), parts, cycle)
        return Difference(cycle, tile, self._describer.unit(tile, engine), layer, site, signal, sequence, token, expected, seen, history)

    def _history(self, unit: Unit, parts: dict[tuple[Unit, str], NDArray[Any]], cycle: int) -> tuple[str, ...]:
        events = []
        for key in {**self._tails, **parts}:
            if key[0] == unit:
                both = np.concatenate([part for part in (self._tails.get(key), parts.get(key)) if part is not None])
                recent = both[both["cycle"] <= cycle][-_KEPT:]
                events += [(int(event["cycle"]), SIGNALS.index(key[1]), event["words"].tolist()) for event in recent]
        # Stable: events of one signal and cycle stay in their order.
        events.sort(key=lambda event: event[:2])
        texts = ((at, SIGNALS[number], words) for at, number, words in events[-_KEPT:])
        return tuple(f"cycle {at:,}: {signal}: {self._describer.event(unit[1], signal, words)}" for at, signal, words in texts)


def _key(name: str) -> tuple[Unit, str]:
    """Unit and signal of a channel `path signal`."""
    path, signal = name.rsplit(" ", 1)
    tile, engine = re.search(r"g_tile\[(\d+)\]", path), re.search(r"g_engine\[(\d+)\]", path)
    if tile is None:
        raise SimulationError(f"{path} is in no tile of the chip; observers belong to units of tiles")
    return (int(tile[1]), int(engine[1]) if engine else -1), signal


def _when(part: NDArray[Any], wanted: Channel, index: int, position: int, cycle: int) -> int:
    """Cycle of the difference at an index: of the event seen or of the one expected, whichever is earlier."""
    cycles = [int(part["cycle"][index])] if index < len(part) else []
    if wanted.cycles is not None and position + index < len(wanted.cycles):
        cycles.append(int(wanted.cycles[position + index]))
    return min(cycles, default=cycle)


def run_lockstep(
    chip: RtlChip, run: Run, stop: Sequence[int], progress: Callable[[int], None] | None = None
) -> tuple[LockstepResult, DifferenceFoundError | None]:
    """Run the chip beside the simulators up to the first difference; `progress` is called with the cycles run since its last call.

    SimulationError if an assertion of the RTL fails before any difference.
    """
    comparison = EventComparison(run)
    before = 0

    def compare(cycle: int, *, last: bool = False, assertion: str = "") -> None:
        difference = comparison.take(chip.events(), chip.channels, cycle, last=last)
        if difference is not None:
            raise DifferenceFoundError(difference, assertion)

    def watch(cycle: int) -> None:
        nonlocal before
        compare(cycle)
        if progress is not None:
            progress(cycle - before)
        before = cycle

    begin, found = time.perf_counter(), None
    try:
        try:
            chip.run(run.prompts, max(map(len, run.generated)), stop, watch=watch)
        except DifferenceFoundError:
            raise
        except SimulationError as error:
            compare(chip.cycle, assertion=f"; then {error}")
            raise
        compare(chip.cycle, last=True)
    except DifferenceFoundError as error:
        found = error
    return LockstepResult(chip.cycle, time.perf_counter() - begin, comparison.counts()), found
