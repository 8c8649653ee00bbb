"""Lines instead of bars where standard error is no terminal."""

from __future__ import annotations

import io
import re
import time
from contextlib import suppress

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress

from neuromorphic_llm import terminal
from neuromorphic_llm.terminal import LINES, StepLines, progress_display, status_display


class Lines:
    """A console that is no terminal, and what was printed on it."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file)

    def read(self) -> list[str]:
        return re.sub(r"\d+\.\d s", "T s", self.file.getvalue()).splitlines()


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_bars_on_a_terminal_lines_elsewhere() -> None:
    on_terminal = progress_display(Console(file=io.StringIO(), force_terminal=True), BarColumn())
    assert type(on_terminal) is Progress
    assert type(progress_display(Console(file=io.StringIO()))) is StepLines


def test_a_line_when_a_step_is_done(lines: Lines) -> None:
    with progress_display(lines.console) as bars:
        bar = bars.add_task("tokens", total=1200)
        for _ in range(1200):
            bars.advance(bar)
        assert lines.read() == ["tokens: 1,200 of 1,200, T s"]
        unfinished = bars.add_task("search", total=16)
        bars.update(unfinished, completed=2)
        unknown = bars.add_task("convert", total=None)
        bars.remove_task(unknown)
        assert lines.read()[1:] == ["convert: T s"]
    assert lines.read()[2:] == ["search: 2 of 16, T s"]


def test_a_long_name_is_one_line(lines: Lines) -> None:
    with status_display(lines.console, f"loading {'x' * 200} [bold]"):
        assert lines.read() == []
    assert lines.read() == [f"loading {'x' * 200} [bold]: T s"]


def test_a_failed_step_leaves_no_line(lines: Lines) -> None:
    def fail() -> None:
        with status_display(lines.console, "loading"), progress_display(lines.console) as bars:
            bars.add_task("tokens", total=3)
            raise ValueError

    with suppress(ValueError):
        fail()
    assert lines.read() == []


def test_a_step_that_lasts_shows_that_it_lives(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_TICK", 0.01)
    monkeypatch.setattr(terminal, "SHORT", 0.1)
    with status_display(lines.console, "building"):
        deadline = time.monotonic() + 10
        while len(lines.read()) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lines.read()[:2] == ["building: going on, T s"] * 2 and lines.read()[-1] == "building: T s"


def test_later_rounds_are_told_only_if_they_last(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    with progress_display(lines.console) as bars:
        bar = bars.add_task("calibrate", total=2)
        for _ in range(3):
            for done in (0, 1, 2):
                bars.update(bar, completed=done)
        assert lines.read() == ["calibrate: 2 of 2, T s"]
        monkeypatch.setattr(terminal, "SHORT", 0.0)
        for done in (0, 1, 2):
            bars.update(bar, completed=done)
    assert lines.read() == ["calibrate: 2 of 2, T s"] * 2


def test_amounts_are_written_as_asked(lines: Lines) -> None:
    with progress_display(lines.console, amount=lambda number: f"{number / 1e6:.0f} MB") as bars:
        bars.update(bars.add_task("downloading", total=93e6), completed=93e6)
    assert lines.read() == ["downloading: 93 MB of 93 MB, T s"]


def test_a_reader_who_has_gone_is_no_error() -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with status_display(Console(file=Closed()), "loading"):
        pass


def test_lines_of_a_command_wait_for_its_end_or_for_some_seconds(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    LINES.hold()
    with status_display(lines.console, "first"):
        pass
    assert lines.read() == []
    LINES.release()
    assert lines.read() == ["first: T s"]
    LINES.hold()
    with status_display(lines.console, "failed"):
        pass
    LINES.drop()
    monkeypatch.setattr(terminal, "SHORT", 0.05)
    monkeypatch.setattr(terminal, "_TICK", 0.01)
    LINES.hold()
    with status_display(lines.console, "second"):
        pass
    with status_display(lines.console, "third"):
        time.sleep(0.5)
    LINES.drop()
    assert lines.read() == [
        "first: T s",
        "second: T s",
        "third: going on, T s",
        *["third: going on, T s"] * (len(lines.read()) - 4),
        "third: T s",
    ]
