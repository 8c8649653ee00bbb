"""Results of a run as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from mutants.find import Mutant
from mutants.run import Killed
from neuromorphic_llm.cli.result import machine

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

    @property
    def survivors(self) -> list[Mutant]:
        return [m for m in self.mutants if m.number not in self.killed and m.number not in self.equivalent]

    @property
    def share(self) -> float:
        """Of the mutants that are not equivalent, those killed."""
        return len(self.killed) / max(len(self.killed) + len(self.survivors), 1)

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
        lines += ["", f"{100 * self.share:.1f} % of {len(self.killed) + len(self.survivors)} mutants that are not equivalent were killed."]
        return lines

    def _row(self, name: str, mutants: Sequence[Mutant]) -> str:
        ends = [self.killed[m.number].by for m in mutants if m.number in self.killed]
        survived = sum(m in mutants for m in self.survivors)
        numbers = [len(mutants), *(ends.count(by) for by in _COLUMNS), survived, sum(m.number in self.equivalent for m in mutants)]
        return f"| {name} | " + " | ".join(str(n) for n in numbers) + " |"

    def survivor_lines(self) -> list[str]:
        return [f"{m.module}.sv:{m.line}: {m.kind}, nth {m.nth}\n  - {m.before}\n  + {m.after}" for m in self.survivors]

    def json(self) -> str:
        entries: list[dict[str, Any]] = []
        for m in self.mutants:
            end = self.killed.get(m.number)
            state = "equivalent" if m.number in self.equivalent else "survived"
            entries.append(
                {"module": m.module, "line": m.line, "kind": m.kind, "before": m.before, "after": m.after, "number": m.number}
                | ({"end": end.by, "test": end.test} if end else {"end": state, "reason": self.equivalent.get(m.number)})
            )
        return json.dumps({"machine": machine(), "date": f"{date.today()}", "killed": self.share, "mutants": entries}, indent=1)
