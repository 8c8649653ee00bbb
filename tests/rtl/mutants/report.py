"""Results of a run as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from mutants.find import Mutant
from mutants.run import Killed
from neuromorphic_llm.cli.result import machine
from neuromorphic_llm.errors import DataError
from neuromorphic_llm.text_file import write_text

EQUIVALENTS = Path(__file__).with_name("equivalent.yaml")

LEAST = 0.95
"""Share of the mutants that are not equivalent which the tests must kill."""

_COLUMNS = ("test", "assertion", "hang")


@dataclass(frozen=True)
class Equivalent:
    """A mutant that computes the same as the original, and why."""

    module: str
    before: str
    after: str
    reason: str
    nth: int = 0

    def is_of(self, mutant: Mutant) -> bool:
        return (mutant.module, mutant.before, mutant.after, mutant.nth) == (self.module, self.before, self.after, self.nth)


def load_equivalents(path: Path) -> list[Equivalent]:
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return [Equivalent(module, **entry) for module, list_ in entries.items() for entry in list_]


@dataclass(frozen=True)
class Report:
    """What became of every mutant."""

    mutants: Sequence[Mutant]
    killed: Mapping[int, Killed]
    equivalent: Mapping[int, str]
    """Number -> reason."""
    minutes: float
    unfinished: Collection[int] = ()
    """Numbers of those that have not met all of their tests yet."""

    @property
    def survivors(self) -> list[Mutant]:
        return [m for m in self.mutants if self._end(m) == "survived"]

    def _end(self, mutant: Mutant) -> str:
        if mutant.number in self.killed:
            return self.killed[mutant.number].by
        if mutant.number in self.equivalent:
            return "equivalent"
        return "unfinished" if mutant.number in self.unfinished else "survived"

    @property
    def share(self) -> float:
        """Of the mutants that are not equivalent and finished, those killed."""
        killed = len(self._killed_here)
        return killed / max(killed + len(self.survivors), 1)

    @property
    def _killed_here(self) -> list[Mutant]:
        return [m for m in self.mutants if m.number in self.killed]

    def table(self) -> list[str]:
        here = machine()
        memory = here["memory_bytes"] / 2**30
        lines = [
            f"{date.today():%-d %B %Y}; {here['cpu']}, {here['cores']} cores, {memory:.0f} GiB; {self.minutes:.0f} minutes",
            "",
            "| module | mutants | killed by a test | by an assertion | hang or crash | survived | equivalent |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for module in sorted({m.module for m in self.mutants}):
            lines.append(self._row(module.removeprefix("nmllm_"), [m for m in self.mutants if m.module == module]))
        lines.append(self._row("all", self.mutants))
        finished = len(self._killed_here) + len(self.survivors)
        lines += ["", f"{100 * self.share:.1f} % of {finished} mutants that are not equivalent were killed."]
        if self.unfinished:
            modules = sorted({m.module.removeprefix("nmllm_") for m in self.mutants if m.number in self.unfinished})
            lines.append(f"{len(self.unfinished)} mutants are not finished, of {', '.join(modules)}.")
        return lines

    def _row(self, name: str, mutants: Sequence[Mutant]) -> str:
        ends = [self._end(m) for m in mutants]
        numbers = [len(mutants), *(ends.count(by) for by in (*_COLUMNS, "survived", "equivalent"))]
        return f"| {name} | " + " | ".join(str(n) for n in numbers) + " |"

    def survivor_lines(self) -> list[str]:
        return [f"{m.module}.sv:{m.line}: {m.kind}, nth {m.nth}\n  - {m.before}\n  + {m.after}" for m in self.survivors]

    def write(self, path: Path) -> None:
        """As JSON. Raises NeuromorphicLLMError if the file cannot be written."""
        entries: list[dict[str, Any]] = []
        for m in self.mutants:
            end = self.killed.get(m.number)
            entries.append(
                {"module": m.module, "line": m.line, "kind": m.kind, "before": m.before, "after": m.after, "number": m.number}
                | {"end": self._end(m)}
                | ({"test": end.test} if end else {"reason": self.equivalent.get(m.number)})
            )
        found = {"machine": machine(), "date": f"{date.today()}", "minutes": self.minutes, "killed": self.share, "mutants": entries}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(found, indent=1) + "\n")


@dataclass
class Results:
    """What earlier calls found, by number."""

    killed: dict[int, Killed] = field(default_factory=dict)
    survived: set[int] = field(default_factory=set)
    minutes: float = 0.0


def read_results(paths: Sequence[Path], known: Collection[int]) -> Results:
    """The results of several files together: killed in one of them is killed.

    Raises DataError for a file that is no such result, or that has a mutant which the modules do not have.
    """
    found = Results()
    for path in paths:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            found.minutes += data["minutes"]
            ends = {int(m["number"]): (str(m["end"]), str(m.get("test", ""))) for m in data["mutants"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no result of rtl-mutants ({error}); give files that --json wrote") from error
        if not set(ends) <= set(known):
            raise DataError(f"{path} has mutants that rtl/ does not have; it was written before the modules changed, run it again")
        found.killed |= {number: Killed(end, test) for number, (end, test) in ends.items() if end in _COLUMNS}
        found.survived |= {number for number, (end, _) in ends.items() if end == "survived"}
    found.survived -= set(found.killed)
    return found
