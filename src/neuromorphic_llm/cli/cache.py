"""`nmllm cache`: what the cache holds, and cleaning it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import CommandRun, console
from neuromorphic_llm.errors import NeuromorphicLLMError, UsageError
from neuromorphic_llm.registry import name_advice
from neuromorphic_llm.units import format_bytes

if TYPE_CHECKING:
    from neuromorphic_llm.cache import Entry

EXAMPLES = """
nmllm cache
nmllm cache --clean rtl
nmllm cache --clean smollm2-135m
nmllm cache --limit 200M
"""

KINDS = ("checkpoint", "hub", "data", "kernels", "rtl")
"""Kinds that --clean removes from the cache; other folders are not the cache's own and stay."""


def command(
    run: CommandRun,
    clean: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT", help="Remove what is called so, or all of a kind (checkpoint, hub, data, kernels, rtl), or all of these (all)."
        ),
    ] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Remove the least recently used RTL builds until they take this, such as 500M.")
    ] = None,
) -> None:
    """Show what the cache holds ($NMLLM_CACHE, or ~/.cache/neuromorphic-llm), and clean it."""
    from neuromorphic_llm.cache import bound_builds, cache_folder, entries, rtl_limit, size_in_bytes

    allowed = rtl_limit()
    wanted = None if limit is None else size_in_bytes(limit, "--limit")
    removed = _clean(entries(), clean or [])
    if wanted is not None:
        removed += bound_builds(wanted, recent_s=0.0)
    left = entries()
    console.print(_table(left, allowed))
    if removed:
        console.print(f"Removed {len(removed)}, {format_bytes(sum(entry.bytes for entry in removed))}.", highlight=False)
    run.result(
        {
            "folder": cache_folder(),
            "bytes": sum(entry.bytes for entry in left),
            "rtl_limit_bytes": allowed,
            "entries": [_described(entry) for entry in left],
            "removed": [_described(entry) for entry in removed],
        }
    )


def _clean(found: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """Remove what is named and return it. UsageError for a name of nothing, NeuromorphicLLMError if something cannot be removed."""
    from neuromorphic_llm.cache import remove

    own = [entry for entry in found if entry.kind in KINDS]
    chosen: dict[str, Entry] = {}
    for name in names:
        matching = [entry for entry in own if name in (entry.name, entry.kind, "all")]
        if not matching and name not in (*KINDS, "all"):
            raise UsageError(f"--clean {name}: {name_advice(name, [*(entry.name for entry in own), *KINDS, 'all'])}")
        chosen |= {str(entry.path): entry for entry in matching}
    for entry in chosen.values():
        if not remove(entry):
            raise NeuromorphicLLMError(f"{entry.path} is in use or cannot be removed; try again when no other command uses it")
    return list(chosen.values())


def _described(entry: Entry) -> dict[str, Any]:
    used = datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds")
    return {"name": entry.name, "kind": entry.kind, "bytes": entry.bytes, "used": used}


def _table(found: Sequence[Entry], allowed: int) -> Table:
    """One line for each checkpoint and model, one for all kernels, and one for all builds of the RTL."""
    from neuromorphic_llm.cache import cache_folder

    table = Table("what", "kind", "size", "last used or changed")
    table.columns[2].justify = "right"
    for entry in found:
        if entry.kind not in ("kernels", "rtl"):
            table.add_row(entry.name, entry.kind, format_bytes(entry.bytes), _day(entry.used))
    for kind, what, bound in (("kernels", "compiled modules", ""), ("rtl", "builds of the RTL", f" of {format_bytes(allowed)}")):
        if some := [entry for entry in found if entry.kind == kind]:
            size = f"{format_bytes(sum(entry.bytes for entry in some))}{bound}"
            table.add_row(f"{what}: {len(some)}", kind, size, _day(max(entry.used for entry in some)))
    table.caption = f"{format_bytes(sum(entry.bytes for entry in found))} in {cache_folder()}"
    return table


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="minutes")
