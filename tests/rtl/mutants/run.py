"""Runs the tests against every mutant until one fails.

A test belongs to the bench that it builds first; a bench tests all modules in it. A mutant meets the tests of the smallest bench that holds
its module, and if it survives those of the other ones, the smaller ones first.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import pytest

import neuromorphic_llm.rtl.bench as bench_module
import neuromorphic_llm.rtl.build as build_module
from mutants.find import Mutant, instantiated
from mutants.processes import Ended, run_forked
from mutants.schema import VARIABLE
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.build import Port, build, source_files

_PATIENCE = 3.0
_TIMES = 2
"""A test hangs after so many seconds of processor time and so many times what it takes without a mutant."""

_OTHERS = ("test_mutants.py", "test_package.py", "test_protocol.py", "test_synth.py")
"""Tests that run no bench of their own: of tools, or on builds of other tools."""

_GRACE = 5.0
"""Seconds that the benches have to hand over what they know when the time is over; builds are given up."""


@dataclass(frozen=True)
class Killed:
    """A mutant's end: by a failed comparison ("test"), an "assertion" of the RTL, or a "hang" (no end, or a crash)."""

    by: str
    test: str


class BrokenTestError(Exception):
    """A test fails without a mutant."""


class Runner:
    """A pytest plugin that runs every mutant instead of the collected tests.

    The results, by number: `killed`, and `survived`, those that met all tests there are for them. `complete` if there are no others.
    """

    def __init__(self, mutants: Sequence[Mutant], workers: int, minutes: float | None = None) -> None:
        self.mutants = mutants
        self.workers = workers
        self.until = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.report: Callable[[str], None] = print
        self.keep: Callable[[], None] = lambda: None
        self.killed: dict[int, Killed] = {}
        self.met: dict[str, set[int]] = {}  # bench -> mutants that met all of its tests
        self.libraries: set[str] = set()
        self.tests: dict[str, list[pytest.Item]] = {}
        self.modules: dict[str, set[str]] = {}

    @property
    def survived(self) -> set[int]:
        left = (m for m in self.mutants if m.number not in self.killed)
        return {m.number for m in left if self.modules and all(m.number in self.met.get(top, ()) for top in self._holding(m.module))}

    @property
    def complete(self) -> bool:
        return len(self.killed) + len(self.survived) == len(self.mutants)

    def _holding(self, module: str) -> list[str]:
        """Benches with the module."""
        return [top for top, modules in self.modules.items() if module in modules]

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        began = time.monotonic()
        self._sort(session.items)
        self.report(f"{len(self.tests)} benches after {time.monotonic() - began:.0f} s")
        if not self.tests:
            return True  # no time was left
        smallest = {module: top for top in reversed(self._by_size()) for module in self.modules[top]}
        first = {top: [m for m in self.mutants if smallest.get(m.module) == top] for top in reversed(self._by_size())}
        # The largest build takes long: it is made beside everything else, and its mutants run when all processors are free.
        largest = self._by_size()[-1]
        jobs = {largest: partial(self._prepare, largest)} if first[largest] else {}
        together = sum(len(own) for top, own in first.items() if top != largest)
        for top, own in first.items():
            if own and top != largest:
                jobs[top] = partial(self._bench, top, own, max(1, self.workers * len(own) // together))
        self._take(run_forked(jobs, self.workers, until=self.until + _GRACE))
        for top in self._by_size():
            rest = [m for m in self.mutants if m.module in self.modules[top] and m.number not in self.killed]
            if top != largest:
                rest = [m for m in rest if m not in first[top]]
            if rest:
                self._take(run_forked({top: partial(self._bench, top, rest, self.workers)}, 1, until=self.until + _GRACE))
        return True

    def _by_size(self) -> list[str]:
        return sorted(self.tests, key=lambda top: (len(self.modules[top]), top))

    def _sort(self, items: Sequence[pytest.Item]) -> None:
        """Find out which bench every test builds."""
        files = {item.path: [one for one in items if one.path == item.path] for item in items}
        # A process a file, so that what its tests share is made once.
        calls = {path: partial(_first_benches, own) for path, own in files.items()}
        modules = {path.stem for path in build_module.RTL_FOLDER.rglob("nmllm_*.sv")}
        for path, ended in run_forked(calls, self.workers, until=self.until):
            if ended.result is None:
                raise BrokenTestError(f"{path.name} ended without a result")
            for item, top in zip(files[path], ended.result, strict=True):
                if top in modules:
                    self.tests.setdefault(top, []).append(item)
        for own in self.tests.values():
            own.sort(key=items.index)
        self.modules = {top: _modules_in(top) for top in self.tests}

    def _take(self, ended: Iterable[tuple[str, Ended]]) -> None:
        for top, end in ended:
            if end.result is None or "broken" in end.result:
                raise BrokenTestError(f"{top}: {end.result['broken'] if end.result else 'ended without a result'}")
            self.killed |= {int(number): Killed(*how) for number, how in end.result["killed"].items()}
            self.libraries |= set(end.result["libraries"])
            self.met.setdefault(top, set()).update(end.result["met"])
            self.keep()

    def _prepare(self, top: str) -> dict[str, Any]:
        """The build of a bench's first test."""
        libraries: list[str] = []
        with patch.object(bench_module, "build", partial(_recorded, libraries)):
            _outcome(self.tests[top][0], 0)
        return {"killed": {}, "met": [], "libraries": libraries}

    def _bench(self, top: str, mutants: Sequence[Mutant], workers: int) -> dict[str, Any]:
        """Tests of one bench against these mutants."""
        killed: dict[int, tuple[str, str]] = {}
        libraries: list[str] = []
        began, finished = time.monotonic(), True
        with patch.object(bench_module, "build", partial(_recorded, libraries)):
            for item in self.tests[top]:
                alive = [m.number for m in mutants if m.number not in killed]
                if not alive or not (finished := finished and time.monotonic() < self.until):
                    break
                started = time.monotonic()
                if failure := _outcome(item, 0):  # here, so that what the tests keep is made once
                    return {"broken": f"{item.nodeid} fails without a mutant: {failure}"}
                built = time.monotonic() - started
                ((_, plain),) = run_forked({0: partial(_outcome, item, 0)}, 1)
                calls = {number: partial(_outcome, item, number) for number in alive}
                for number, ended in run_forked(calls, workers, _PATIENCE + _TIMES * plain.seconds, self.until):
                    del calls[number]
                    if ended.result is None or ended.result:
                        killed[number] = (ended.result or "hang", item.nodeid)
                finished = not calls
                took = time.monotonic() - started
                now = sum(number in killed for number in alive)
                self.report(f"{item.nodeid}: {len(alive)} mutants, {now} killed; {built:.0f} s for the first run, {took:.0f} s in all")
        left = [m for m in mutants if m.number not in killed]
        names = ", ".join(f"{m.module}:{m.line}" for m in left)
        state = "" if finished else ", stopped before the end"
        took = time.monotonic() - began
        self.report(f"{top}: {len(killed)} of {len(mutants)} mutants killed in {took:.0f} s{state}{names and '; left: '}{names}")
        return {"killed": killed, "met": [m.number for m in left] if finished else [], "libraries": libraries}


def run_mutants(folder: Path, runner: Runner, report: Callable[[str], None], keep: Callable[[], None]) -> None:
    """Runs all fast tests in the folder, until the runner's time is over or the process is interrupted; `keep` is called after every bench.

    Raises BrokenTestError if they fail without a mutant.
    """
    runner.report, runner.keep = report, keep
    # Nothing is printed by pytest, so its options for that are left out.
    arguments = ["-m", "not slow", "-p", "no:cacheprovider", "-p", "no:terminal", "-o", "addopts=", "--import-mode=importlib", str(folder)]
    code = pytest.main([*arguments, *(f"--ignore={folder / name}" for name in _OTHERS)], plugins=[runner])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.INTERRUPTED):
        raise BrokenTestError(f"pytest ended with {code!r}")


class _Failures:
    """A plugin that keeps how a test failed."""

    def __init__(self) -> None:
        self.how = ""

    def pytest_exception_interact(self, call: pytest.CallInfo[Any]) -> None:
        error = call.excinfo.value if call.excinfo else None
        self.how = self.how or ("assertion" if isinstance(error, SimulationError) else "test")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.how = self.how or "test"


def _outcome(item: pytest.Item, number: int) -> str:
    """Run a test with a mutant chosen: how it failed, or nothing."""
    os.environ[VARIABLE] = str(number)
    failures = _Failures()
    item.config.pluginmanager.register(failures)
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    item.config.pluginmanager.unregister(failures)
    return failures.how


def _first_benches(items: Sequence[pytest.Item]) -> list[str]:
    return [_first_bench(item) for item in items]


def _first_bench(item: pytest.Item) -> str:
    """Top module of the first bench that a test builds."""
    found: list[str] = []

    def stop(top: str, *_: Any, **__: Any) -> NoReturn:
        found.append(top)
        raise pytest.fail.Exception("found")

    with patch.object(bench_module, "build", stop):
        _outcome(item, 0)
    return found[0] if found else ""


def _modules_in(top: str) -> set[str]:
    """The module itself and all of which there are instances in it."""
    paths = {path.stem: path for path in source_files(top)}
    found: set[str] = set()
    waiting = {top}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= (instantiated(paths[name]) & set(paths)) - found
    return found


def _recorded(libraries: list[str], *arguments: Any, **options: Any) -> tuple[Path, list[Port]]:
    """A build, noted."""
    library, ports = build(*arguments, **options)
    libraries.append(library.parent.name)
    return library, ports
