"""Counts what the tests compare: cycles per bench, builds, commands, idle cycles and backpressure; printed after the tests.

A cycle is counted when a test drives it and reads outputs of it; loading and resets, whose outputs nobody looks at, are not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromorphic_llm.cli.result import machine
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.build import source_files

SOURCES = ("inject_valid", "in_valid", "z_valid", "arrives", "start")
"""Ports that offer a unit its work; the first one that a bench has."""


@dataclass
class Count:
    """Of one bench. `places` are cycles times the sources of a bench, of which `idle` offered nothing."""

    builds: set[str] = field(default_factory=set)
    cycles: int = 0
    transfers: int = 0
    places: int = 0
    idle: int = 0
    offered: int = 0
    refused: int = 0

    def add(self, bench: Bench, inputs: Mapping[str, ArrayLike], found: Mapping[str, NDArray[Any]]) -> None:
        cycles = len(next(iter(found.values())))
        self.builds.add(bench._library._name)
        self.cycles += cycles
        self._backpressure(bench, inputs, found, cycles)
        source = next((name for name in SOURCES if name in bench.ports), None)
        if source is None:
            return
        sources = bench.ports[source].bits
        given = np.bitwise_count(_by_cycle(inputs.get(source, 0), cycles))
        self.transfers += int(given.sum(dtype=np.int64))
        if source == "start" and ("done" not in found or found["done"].sum() > given.sum()):
            return  # stays high when nothing runs
        self.places += sources * cycles
        if source != "start":
            self.idle += sources * cycles - int(given.sum(dtype=np.int64))
        elif "done" in found:
            self.idle += cycles - _working(given, found["done"])

    def _backpressure(self, bench: Bench, inputs: Mapping[str, ArrayLike], found: Mapping[str, NDArray[Any]], cycles: int) -> None:
        for name in bench.ports:
            stream = name.removesuffix("_ready")
            if stream != name and f"{stream}_valid" in found:
                valid = found[f"{stream}_valid"].astype(bool)
                self.offered += int(valid.sum())
                self.refused += int((valid & (_by_cycle(inputs.get(name, 0), cycles) == 0)).sum())
        if "refusals" in found:  # a mesh refuses on its own links
            refused, moved = (int(found[name][-1] - found[name][0]) for name in ("refusals", "hops"))
            self.offered += refused + moved
            self.refused += refused


def _by_cycle(values: ArrayLike, cycles: int) -> NDArray[np.uint64]:
    array = np.asarray(values).astype(np.uint64)
    return array[:cycles] if array.ndim else np.full(cycles, array)


def _working(start: NDArray[Any], done: NDArray[Any]) -> int:
    """Cycles from a start to its done."""
    return int((np.cumsum(start.astype(np.int64)) - np.cumsum(done.astype(np.int64)) + done.astype(np.int64)).sum())


COUNTS: dict[str, Count] = defaultdict(Count)
PROTOCOL: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
"""Unit -> size -> cycles in cocotb."""


@contextmanager
def counting() -> Iterator[None]:
    """Every `Bench.run` inside is counted if it returns outputs."""
    run = Bench.run

    def counted(self: Bench, *args: Any, **kwargs: Any) -> dict[str, NDArray[Any]]:
        found = run(self, *args, **kwargs)
        if found and self.top.startswith("nmllm_"):
            COUNTS[self.top].add(self, args[0] if args else kwargs["inputs"], found)
        return found

    Bench.run = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Bench.run = run  # type: ignore[method-assign]


def table() -> list[str]:
    """One row for each bench, with the modules that run in it."""
    here = machine()
    lines = [
        f"{date.today():%-d %B %Y}; {here['cpu']}, {here['cores']} cores, {here['memory_bytes'] / 2**30:.0f} GiB",
        "",
        "| bench | modules in it | builds | cycles compared | flits or commands | idle | refused |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for top, count in sorted(COUNTS.items()):
        short = ", ".join(name.removeprefix("nmllm_") for name in modules_in(top) if not name.endswith("_tb"))
        lines.append(
            f"| {re.sub('^nmllm_|_tb$', '', top)} | {short} | {len(count.builds)} | {count.cycles:,} | {count.transfers:,} "
            f"| {_percent(count.idle, count.places)} | {_percent(count.refused, count.offered)} |"
        )
    return lines


def protocol_table() -> list[str]:
    """One row for each unit in cocotb."""
    rows = [f"| {unit} | {len(sizes)} | {sum(sizes.values()):,} |" for unit, sizes in sorted(PROTOCOL.items())]
    return ["| unit in cocotb | sizes | cycles under the monitors |", "| --- | ---: | ---: |", *rows]


def modules_in(top: str) -> list[str]:
    """The module and those it is made of; comments name others too."""
    texts = {path.stem: re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8")) for path in source_files(top)}
    found, waiting = set(), [top]
    while waiting:
        name = waiting.pop()
        if name in texts and name not in found:
            found.add(name)
            waiting += re.findall(r"\w+", texts[name])
    return sorted(found)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
