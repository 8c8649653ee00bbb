"""Mutant schemata: copies of the modules that hold all their mutants at once, one of them or none chosen when a model is made."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from mutants.find import KINDS, Mutant

VARIABLE = "NMLLM_MUTANT"
"""Environment variable with the number of the mutant that runs."""

# The name sorts before the modules', as Verilator reads a package before it is used.
PACKAGE = "mutant_choice"

_PACKAGE_TEXT = f"""package {PACKAGE};
  int chosen = $c32("std::getenv(\\"{VARIABLE}\\") ? std::atoi(std::getenv(\\"{VARIABLE}\\")) : 0");
endpackage
"""

# A mutant may well be what a linter warns of; the original is linted elsewhere.
_QUIET = ("WIDTH", "LATCH", "UNOPTFLAT", "CMPCONST", "UNSIGNED")
_HEADER = "".join(f"/* verilator lint_off {warning} */" for warning in _QUIET) + " "


def sample(mutants: Sequence[Mutant], count: int) -> list[Mutant]:
    """At most so many, of all kinds in turn. Which ones depends on their texts only: a change elsewhere in the module keeps the others."""
    by_kind = [sorted((m for m in mutants if m.kind == kind), key=_order) for kind in KINDS]
    turns = [kind[turn] for turn in range(len(mutants)) for kind in by_kind if turn < len(kind)]
    return sorted(turns[:count], key=lambda mutant: mutant.start)


def _order(mutant: Mutant) -> bytes:
    return hashlib.sha256(f"{mutant.number}".encode()).digest()


def write_schemata(rtl: Path, folder: Path, mutants: Sequence[Mutant]) -> None:
    """A copy of rtl/ in which every mutant can be chosen."""
    shutil.copytree(rtl, folder, dirs_exist_ok=True)
    (folder / f"{PACKAGE}.sv").write_text(_PACKAGE_TEXT, encoding="utf-8")
    for module in {mutant.module for mutant in mutants}:
        path = folder / f"{module}.sv"
        path.write_text(schema(path.read_text(encoding="utf-8"), [m for m in mutants if m.module == module]), encoding="utf-8")


def schema(text: str, mutants: Sequence[Mutant]) -> str:
    """The module's text with its mutants, each chosen by its number."""
    source = text.encode()
    places: dict[tuple[int, int], list[Mutant]] = {}
    for mutant in sorted(mutants, key=lambda m: (m.start, -m.end)):
        places.setdefault((mutant.start, mutant.end), []).append(mutant)
    return _HEADER + _render(source, 0, len(source), list(places.items()))


def _render(source: bytes, start: int, end: int, places: list[tuple[tuple[int, int], list[Mutant]]]) -> str:
    """Source from start to end; `places` lie in it, outer ones before the ones inside them."""
    parts = []
    while places:
        (first, last), here = places[0]
        inside = [place for place in places[1:] if place[0][1] <= last]
        places = places[1 + len(inside) :]
        parts += [source[start:first].decode(), _choice(here, _render(source, first, last, inside))]
        start = last
    return "".join(parts) + source[start:end].decode()


def _choice(mutants: Sequence[Mutant], original: str) -> str:
    """The original or one of its mutants; a choice keeps width and sign of an expression."""
    if mutants[0].kind == "assignment":
        return f"begin if ({PACKAGE}::chosen != {mutants[0].number}) {original} end"
    return "(" + "".join(f"{PACKAGE}::chosen == {m.number} ? ({m.text}) : " for m in mutants) + f"({original}))"
