"""Tables of the area account in Markdown: `python -m neuromorphic_llm.area.tables` prints those of docs/reference/area.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from neuromorphic_llm.area.components import GROUPS, PARTS, Component
from neuromorphic_llm.area.prices import NUMBERS, RESOLVED, load_areas
from neuromorphic_llm.energy.constants import Constant

_SCALE = {"m2": (1e12, "um2"), "m2/F": (1e-3, "um2/fF"), "F": (1e15, "fF"), "gates": (1.0, "gates"), "1": (1.0, "")}
"""Unit of a constant -> factor and unit that it is shown in."""


def markdown() -> str:
    """Tables in Markdown: components of the chip and of its rivals, names that they use, constants."""
    headings = ("part", "number", "each", "work")
    seen: set[str] = set()
    tables: list[tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]] = []
    accounts = {
        "Chip": "chip",
        "INT8 array": "int8",
        "INT8 array, weights in SRAM": "int8_sram",
        "Bit-serial crossbars": "bit_serial_crossbar",
    }
    for title, name in accounts.items():
        tables.append((title, headings, list(_rows(name, seen))))
        seen.update(group for groups in PARTS[name].values() for group in groups)
    names = [(f"`{name}`", meaning) for name, meaning in {**RESOLVED, **NUMBERS}.items()]
    tables.append(("Names", ("name", "meaning"), names))
    tables.append(("Constants", ("constant", "low", "nominal", "high", "", "source"), [_constant(c) for c in load_areas().values()]))
    return "\n".join(f"### {title}\n\n{_table(columns, rows)}" for title, columns, rows in tables)


def _rows(account: str, seen: set[str]) -> Iterator[tuple[str, ...]]:
    """A row for each component, but one for each group that an earlier table has."""
    for part, groups in PARTS[account].items():
        cells = [
            row for group in groups for row in ([(f"`{group}`: as above", "", "")] if group in seen else map(_component, GROUPS[group]))
        ]
        yield from ((part if number == 0 else "", *row) for number, row in enumerate(cells))


def _component(component: Component) -> tuple[str, ...]:
    areas = (f"{count} `{name}`" for name, count in component.areas.items())
    return " x ".join(f"`{name}`" for name in component.numbers) or "1", ", ".join(areas), component.note


def _constant(constant: Constant) -> tuple[str, ...]:
    factor, unit = _SCALE[constant.unit]
    values = (f"{getattr(constant.value, bound) * factor:.4g}" for bound in ("low", "nominal", "high"))
    return f"`{constant.name}`", *values, unit, f"{' '.join(constant.source.split())} ({constant.verified})"


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
