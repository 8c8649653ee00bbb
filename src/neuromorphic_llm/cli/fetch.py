"""`nmllm fetch`: bring a pretrained checkpoint into the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from neuromorphic_llm.cli.common import CommandRun, Debug, JsonFile, Seed, console
from neuromorphic_llm.models.registry import KNOWN_MODELS
from neuromorphic_llm.units import format_bytes

EXAMPLES = """
nmllm fetch smollm2-135m
nmllm fetch --list
"""


def _list_models() -> None:
    for model in KNOWN_MODELS.values():
        size = f", {format_bytes(model.source.member_bytes)}" if model.source else ""
        console.print(f"{model.name:14} {model.summary}{size}", highlight=False)


def command(
    model: Annotated[str | None, typer.Argument(help="Known model name or hub id.", metavar="MODEL")] = None,
    known: Annotated[bool, typer.Option("--list", help="List the known models.")] = False,
    json: JsonFile = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Bring a pretrained checkpoint into the cache ($NMLLM_CACHE, or ~/.cache/neuromorphic-llm); what is there is checked again."""
    if known:
        with CommandRun("fetch", json, seed, debug, {"list": True}) as run:
            _list_models()
            names = [{"name": entry.name, "summary": entry.summary} for entry in KNOWN_MODELS.values()]
            run.result({"models": names})
        return
    if model is None:
        raise typer.BadParameter("Missing argument 'MODEL'; nmllm fetch --list shows the known models.")
    with CommandRun("fetch", json, seed, debug, {"model": model}) as run:
        from neuromorphic_llm.models.fetch import fetch_checkpoint, fetch_from_hub

        is_hub_id = "/" in model and model not in KNOWN_MODELS
        folder = fetch_from_hub(model) if is_hub_id else fetch_checkpoint(model, verify=True)
        built_in = model in KNOWN_MODELS and KNOWN_MODELS[model].built_in
        what = "is built in and needs no fetching: it is" if built_in else "is ready"
        console.print(f"{model} {what} in {folder}", highlight=False, soft_wrap=True)
        run.result({"model": model, "folder": folder})
