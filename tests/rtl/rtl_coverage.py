"""Line and toggle coverage of the modules by whatever tests run: `pytest tests/rtl --rtl-coverage` (make rtl-coverage).

Verilator counts how often each point was reached; points of all builds and instances of a module are one. Ordinary builds are not touched.
"""

from __future__ import annotations

import ctypes
import re
import tempfile
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

from neuromorphic_llm.cli.result import machine
from neuromorphic_llm.rtl import build
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.package import RTL_FOLDER

FLAGS = ["--coverage-line", "--coverage-toggle"]
HARNESS = """
#include "verilated_cov.cpp"
extern "C" void nmllm_coverage(void* bench, const char* path) { static_cast<Bench*>(bench)->context.coveragep()->write(path); }
"""


class Point(NamedTuple):
    """A line or branch, or the rise or fall of a bit (`name` is signal[bit]:0->1)."""

    file: str
    line: int
    kind: str
    column: int
    name: str


REACHED: Counter[Point] = Counter()
BENCHES: weakref.WeakSet[Bench] = weakref.WeakSet()


@contextmanager
def covering() -> Iterator[None]:
    """Every bench inside is built with coverage, and adds to REACHED before it starts again and at the end."""
    reset, flags, harness = Bench.reset, build._VERILATOR_FLAGS, build._HARNESS

    def reset_and_keep(self: Bench) -> None:
        _release(self)
        reset(self)
        self._finalizer.detach()
        self._finalizer = weakref.finalize(self, _end, self._library, self._model)
        BENCHES.add(self)

    with tempfile.TemporaryDirectory() as folder:
        build._HARNESS = Path(folder) / harness.name
        build._HARNESS.write_text(harness.read_text(encoding="utf-8") + HARNESS, encoding="utf-8")
        build._VERILATOR_FLAGS = [*flags, *FLAGS]
        Bench.reset = reset_and_keep  # type: ignore[method-assign]
        try:
            yield
        finally:
            for bench in list(BENCHES):
                _release(bench)
            Bench.reset, build._VERILATOR_FLAGS, build._HARNESS = reset, flags, harness  # type: ignore[method-assign]


def _release(bench: Bench) -> None:
    if hasattr(bench, "_finalizer"):
        bench._finalizer()


def _end(library: ctypes.CDLL, model: ctypes.c_void_p) -> None:
    with tempfile.NamedTemporaryFile() as file:
        library.nmllm_coverage(model, file.name.encode())
        _add(Path(file.name).read_text(encoding="utf-8"))
    library.nmllm_delete(model)


def _add(text: str) -> None:
    """Points of a file that Verilator writes: C '<key>value pairs' count."""
    for line in text.splitlines():
        if line.startswith("C "):
            REACHED[_point(line[3 : line.rindex("'")])] += int(line[line.rindex(" ") :])


_KNOWN: dict[str, Point] = {}


def _point(text: str) -> Point:
    if text not in _KNOWN:
        fields = dict(pair.split("\x02", 1) for pair in text.split("\x01")[1:])
        kind = fields["page"].split("/")[0].removeprefix("v_")
        _KNOWN[text] = Point(Path(fields["f"]).name, int(fields["l"]), kind, int(fields["n"]), fields["o"])
    return _KNOWN[text]


def report() -> list[str]:
    """The table, and the lines that were not reached."""
    here = machine()
    modules = [path for path in sorted(RTL_FOLDER.glob("*.sv")) if any(point.file == path.name for point in REACHED)]
    lines = [
        f"{date.today():%-d %B %Y}; {here['cpu']}, {here['cores']} cores, {here['memory_bytes'] / 2**30:.0f} GiB",
        "",
        "| module | lines and branches | reached | rises and falls of bits | seen |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    totals = [0, 0, 0, 0]
    missed: list[str] = []
    for path in modules:
        points = {point: count for point, count in REACHED.items() if point.file == path.name}
        branches = [count for point, count in points.items() if point.kind != "toggle"]
        changes = [count for point, count in points.items() if point.kind == "toggle"]
        row = [len(branches), sum(map(bool, branches)), len(changes), sum(map(bool, changes))]
        totals = [total + number for total, number in zip(totals, row, strict=True)]
        lines.append(_row(path.stem.removeprefix("nmllm_"), row))
        missed += _missed(path, points)
    return [*lines, _row("all", totals), "", *missed]


def _row(name: str, row: list[int]) -> str:
    shares = [f"{100 * part / whole:.1f} %" if whole else "-" for whole, part in (row[:2], row[2:])]
    return f"| {name} | {row[0]:,} | {shares[0]} | {row[2]:,} | {shares[1]} |"


def _missed(path: Path, points: dict[Point, int]) -> list[str]:
    """Lines never reached with their text, then signals with the number of their bits that did not both rise and fall."""
    source = path.read_text(encoding="utf-8").splitlines()
    lines = sorted({point.line for point, count in points.items() if not count and point.kind != "toggle"})
    found = [f"    {path.name}:{line}: {source[line - 1].strip()}" for line in lines]
    bits: dict[str, set[str]] = defaultdict(set)
    for point, count in points.items():
        if not count and point.kind == "toggle":
            name, _, index = re.sub(r":[01]->[01]$", "", point.name).partition("[")
            bits[name].add(index.rstrip("]"))
    if bits:
        names = ", ".join(f"{name} ({len(indices)})" if indices != {""} else name for name, indices in sorted(bits.items()))
        found.append(f"    {path.name}, bits that did not rise or did not fall: {names}")
    return found
