"""`nmllm models`: the models that have a name."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from neuromorphic_llm.cli.common import CommandRun, console
from neuromorphic_llm.units import format_bytes

EXAMPLES = """
nmllm models
nmllm models --json models.json
"""


def command(run: CommandRun) -> None:
    """List the models that have a name, and where they are."""
    listed = _listed()
    table = Table("model", "what it is", "download", "where it is")
    for model in listed:
        size = format_bytes(model["download_bytes"]) if model["download_bytes"] else "-"
        table.add_row(model["name"], model["summary"], size, _place(model))
    table.caption = "A model may also be a Hugging Face folder, a GGUF file or a hub id."
    console.print(table)
    run.result({"models": listed})


def _place(model: dict[str, Any]) -> str:
    if model["kind"] == "fetched":
        return "in the cache" if model["folder"] else f"nmllm fetch {model['name']}"
    return "in the package" if model["folder"] else "made on the spot"


def _listed() -> list[dict[str, Any]]:
    from neuromorphic_llm.models.fetch import built_in_folder, cached_checkpoint
    from neuromorphic_llm.models.registry import KNOWN_MODELS

    listed = []
    for model in KNOWN_MODELS.values():
        kind = "built-in" if model.built_in else "fetched" if model.source else "random"
        folder = built_in_folder(model.name) if model.built_in else cached_checkpoint(model.name)
        listed.append(
            {
                "name": model.name,
                "summary": model.summary,
                "kind": kind,
                "download_bytes": model.source.wheel_bytes if model.source else None,
                "folder": folder,
            }
        )
    return listed
