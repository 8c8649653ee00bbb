"""Tables of all fields of a chip, as docs/reference/chip.md has them: `python -m neuromorphic_llm.chip.field_table` prints them."""

from __future__ import annotations

import sys

from neuromorphic_llm.chip.parameter import default_of, described
from neuromorphic_llm.chip.spec import SECTIONS, parameters


def field_tables() -> str:
    """Markdown: a heading and a table per section, a row per field."""
    lines: list[str] = []
    section = ""
    for path, entry in parameters().items():
        title = path.rpartition(".")[0]
        if title != section or not lines:
            section = title
            heading = ["", f"## `{title}`", "", str(SECTIONS[title].__doc__)] if title else []
            lines += [
                *heading,
                "",
                "| field | unit | range | default | effect | a larger value costs |",
                "| --- | --- | --- | --- | --- | --- |",
            ]
        about = described(entry)
        span = ", ".join(about.choices) or f"{about.least} to {about.most:,.0f}{', null' if about.optional else ''}"
        default = default_of(entry)
        value = "null" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
        lines.append(f"| `{path}` | {about.unit or '-'} | {span} | {value} | {about.effect} | {about.cost} |")
    return "\n".join(lines).lstrip("\n") + "\n"


if __name__ == "__main__":
    sys.stdout.write(field_tables())
