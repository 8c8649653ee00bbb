"""Progress on standard error: bars and spinners on a terminal, lines in a file or a pipe.

Lines come where a person who reads the file later wants them: one when a step is done, and one now and then while it lasts. A step that
fails leaves none, and neither does a command that fails in its first seconds, so that what went wrong stands alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SHORT, LONG = 10.0, 60.0
"""Seconds from one line of a lasting step to the next: in its first minute, and from then on."""

_TICK = 0.5


class _Writer:
    """Writes lines, at once or after they were held."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._held: list[tuple[Console, str]] = []
        self._until = 0.0

    def hold(self) -> None:
        """Hold lines from now on, for SHORT at most."""
        with self._lock:
            self._until = time.monotonic() + SHORT

    def release(self) -> None:
        """Write what was held, and hold no more."""
        with self._lock:
            self._until = 0.0
            self.write_due()

    def drop(self) -> None:
        """Forget what was held, and hold no more."""
        with self._lock:
            self._held.clear()
            self._until = 0.0

    def write(self, console: Console, line: str) -> None:
        """Write a line, now or when it is due."""
        with self._lock:
            self._held.append((console, line))
            self.write_due()

    def write_due(self) -> None:
        """Write what was held if its time has passed."""
        with self._lock:
            if time.monotonic() < self._until:
                return
            for console, line in self._held:
                with suppress(OSError, ValueError):  # whoever read the lines may have gone; the console would end the process then
                    print(line, file=console.file, flush=True)
            self._held.clear()


LINES = _Writer()
"""Writer of every StepLines; a command withholds its output in the first seconds."""


def progress_display(console: Console, *columns: ProgressColumn, amount: Callable[[float], str] | None = None) -> Progress:
    """A progress display that is gone when done: the columns on a terminal, else lines, whose numbers `amount` writes."""
    if console.is_terminal:
        return Progress(*columns, console=console, transient=True)
    return StepLines(console, amount or (lambda number: f"{number:,.0f}"))


def work_display(console: Console) -> Progress:
    """A progress display of work that is counted."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return progress_display(console, *columns)


@contextmanager
def counted_work(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A display of `total` of something; the function takes how many more are done."""
    with work_display(console) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda done: bars.advance(bar, done)


def status_display(console: Console, text: str) -> AbstractContextManager[object]:
    """A spinner with this text on a terminal, else lines."""
    return console.status(Text(text)) if console.is_terminal else _step(console, text)


class WorkBars:
    """A bar for each kind of work, from when it begins: `show` is a callback (what, done, total)."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def show(self, what: str, done: int, total: int, label: str | None = None) -> None:
        """Show the bar of `what` at `done` of `total`, labelled `label` or else `what`."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], description=label or what, completed=done, total=total, visible=True)

    def hide(self) -> None:
        """No bars until there is news."""
        for task in self._tasks.values():
            self._bars.update(task, visible=False)


@contextmanager
def _step(console: Console, text: str) -> Iterator[None]:
    with progress_display(console) as lines:
        lines.add_task(text, total=None)
        yield


@dataclass
class _Told:
    """Lines written so far about a task."""

    begin: float
    last: float  # when it began, or the last line
    done: bool = False
    rounds: int = 0


class StepLines(Progress):
    """A Progress that writes lines instead of bars.

    A task of which a line says that it is done may begin again; further lines come only for rounds that last.
    """

    def __init__(self, console: Console, amount: Callable[[float], str]) -> None:
        super().__init__(console=console, disable=True)
        self._amount = amount
        self._told: dict[TaskID, _Told] = {}
        self._lines = threading.RLock()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to look for tasks that last."""
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """No lines from now on."""
        with self._lines:
            self._stopped.set()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """A line for every task that went on until now, unless an error ended it."""
        if kind is None:
            for task in self.tasks:
                self._finish(task)
        self.stop()

    def add_task(
        self, description: str, start: bool = True, total: float | None = 100.0, completed: int = 0, visible: bool = True, **fields: Any
    ) -> TaskID:
        """Begin a task."""
        with self._lines:
            identity = super().add_task(description, start, total, completed, visible, **fields)
            now = time.monotonic()
            self._told[identity] = _Told(now, now)
        return identity

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance a task by an amount of work."""
        super().advance(task_id, advance)
        self._look(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task as Progress.update does."""
        super().update(task_id, **changes)
        self._look(task_id)

    def remove_task(self, task_id: TaskID) -> None:
        """The task is done."""
        self._finish(self._tasks[task_id])
        super().remove_task(task_id)

    def _look(self, task_id: TaskID) -> None:
        """A line if the task is done; its clock starts again if it has begun again."""
        task, told = self._tasks[task_id], self._told[task_id]
        if task.total is not None and task.completed >= task.total:
            self._finish(task)
        elif told.done:
            now = time.monotonic()
            self._told[task_id] = _Told(now, now, rounds=told.rounds)

    def _finish(self, task: Task) -> None:
        """Say that a task is done, unless that was said."""
        told, now = self._told[task.id], time.monotonic()
        if not told.done:
            told.done = True
            if told.rounds == 0 or now - told.begin >= SHORT:
                self._say(task, told, now)
            told.rounds += 1

    def _watch(self) -> None:
        while not self._stopped.wait(_TICK):
            with self._lines:
                for task in self.tasks:
                    told, now = self._told[task.id], time.monotonic()
                    if task.visible and not told.done and now - told.last >= (SHORT if now - told.begin < LONG else LONG):
                        self._say(task, told, now)
                LINES.write_due()

    def _say(self, task: Task, told: _Told, now: float) -> None:
        told.last = now
        passed = now - told.begin
        parts = [f"{passed:.1f} s" if passed < LONG else f"{int(passed) // 60}:{int(passed) % 60:02}"]
        if task.total is not None:
            parts.insert(0, f"{self._amount(task.completed)} of {self._amount(task.total)}")
        elif not told.done:
            parts.insert(0, "going on")
        with self._lines:
            if not self._stopped.is_set():
                LINES.write(self.console, f"{task.description}: {', '.join(parts)}")
