"""Tables of the energy actions in Markdown: `python -m neuromorphic_llm.energy.tables` prints those of docs/reference/energy.md."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from neuromorphic_llm.energy.actions import Action, Actions, load_actions
from neuromorphic_llm.energy.digital import FORMATS
from neuromorphic_llm.energy.prices import QUANTITIES, RESOLVED

ACTION_HEADINGS = ("part", "for each of", "operations", "work")


def markdown() -> str:
    """Tables in Markdown: actions of the chip and of its rivals, names that they use, counters without energy."""
    chip, digital, serial = load_actions("chip"), load_actions("digital"), load_actions("bit_serial")
    on_chip = dict.fromkeys(_group_names(chip), "as on the chip")
    formats = [(name, f"`{f.multiply}`", f"`{f.accumulate}`", str(f.weight_bits)) for name, f in FORMATS.items()]
    names = [(f"`{name}`", meaning) for name, meaning in {**RESOLVED, **QUANTITIES}.items()]
    tables: list[tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]] = [
        ("Chip", ACTION_HEADINGS, _action_rows(chip, {})),
        ("Digital references", ACTION_HEADINGS, _action_rows(digital, on_chip)),
        ("Bit-serial crossbars", ACTION_HEADINGS, _action_rows(serial, dict.fromkeys(_group_names(digital), "as on the array") | on_chip)),
        ("Operations and quantities of the chip or of a number format", ("name", "meaning"), names),
        ("Number formats", ("format", "`multiply`", "`accumulate`", "`weight_bits`"), formats),
        ("Counters without energy: chip", ("counters", "why"), _reason_rows(chip)),
        ("Counters without energy: digital references", ("counters", "why"), _reason_rows(digital)),
        ("Counters without energy: bit-serial crossbars", ("counters", "why"), _reason_rows(serial)),
    ]
    return "\n".join(f"### {title}\n\n{_table(headings, rows)}" for title, headings, rows in tables)


def _group_names(actions: Actions) -> list[str]:
    return [group.name for groups in actions.parts.values() for group in groups]


def _action_rows(actions: Actions, elsewhere: Mapping[str, str]) -> list[tuple[str, ...]]:
    """A row for each action, but one for each group of `elsewhere`, group -> where its actions are."""
    rows: list[tuple[str, ...]] = []
    for part, groups in actions.parts.items():
        found: list[tuple[str, ...]] = []
        for group in groups:
            cells = [_action_cells(action) for action in group.actions]
            if group.name in elsewhere:
                cells = [(", ".join(counters for counters, _, _ in cells), elsewhere[group.name], "")]
            found += cells
        rows += [(part if number == 0 else "", *cells) for number, cells in enumerate(found)]
    return rows


def _action_cells(action: Action) -> tuple[str, str, str]:
    counters = ", ".join(f"`{counter}`" for counter in action.counters)
    operations = [f"{_number(number)}`{name}`" for name, number in action.operations.items()]
    return counters if action.per == 1 else f"{action.per} {counters}", ", ".join(operations), action.note


def _number(number: int | str) -> str:
    return f"`{number}` x " if isinstance(number, str) else f"{number} "


def _reason_rows(actions: Actions) -> list[tuple[str, str]]:
    reasons = dict.fromkeys(actions.without_energy.values())
    return [(", ".join(f"`{c}`" for c, why in actions.without_energy.items() if why == reason), reason) for reason in reasons]


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
