"""`nmllm fetch`: bring a pretrained checkpoint into the cache, or evaluation data into the data folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from neuromorphic_llm.cli.common import CommandRun, console, status
from neuromorphic_llm.models.registry import KNOWN_MODELS
from neuromorphic_llm.units import format_bytes

EXAMPLES = """
nmllm fetch smollm2-135m
nmllm fetch --list
nmllm fetch --data zero-shot
nmllm fetch --data wikitext2 --from Downloads
"""


def _list_models() -> None:
    for model in KNOWN_MODELS.values():
        size = f", {format_bytes(model.source.member_bytes)}" if model.source else ""
        console.print(f"{model.name:14} {model.summary}{size}", highlight=False)


def command(
    run: CommandRun,
    names: Annotated[
        list[str] | None, typer.Argument(help="Known model name or hub id; with --data names of tasks.", metavar="MODEL")
    ] = None,
    known: Annotated[bool, typer.Option("--list", help="List the known models, or with --data the data sets.")] = False,
    data: Annotated[
        bool, typer.Option("--data", help="Bring evaluation data into the data folder: of the tasks named, or of all of them.")
    ] = False,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="With --data: make them of files downloaded here, not of the hub's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --data: make what is there again.")] = False,
) -> None:
    """Bring a pretrained checkpoint into the cache, or evaluation data into the data folder; what is there is checked again."""
    if not data and (source is not None or force):
        raise typer.BadParameter("--from and --force are for --data.")
    if data:
        run.arguments = {"data": names or [], "list": known, "from": source, "force": force}
        run.result({"data": _list_data() if known else _fetch_data(names or [], source, force)})
    elif known:
        run.arguments = {"list": True}
        _list_models()
        run.result({"models": [{"name": entry.name, "summary": entry.summary} for entry in KNOWN_MODELS.values()]})
    elif not names:
        raise typer.BadParameter("Missing argument 'MODEL'; nmllm fetch --list shows the known models.")
    elif len(names) > 1:
        raise typer.BadParameter(f"One model at a time, got {', '.join(names)}.")
    else:
        run.arguments = {"model": names[0]}
        run.result({"model": names[0], "folder": _fetch_model(names[0])})


def _fetch_model(model: str) -> Path:
    from neuromorphic_llm.models.fetch import fetch_checkpoint, fetch_from_hub

    is_hub_id = "/" in model and model not in KNOWN_MODELS
    folder = fetch_from_hub(model) if is_hub_id else fetch_checkpoint(model, verify=True)
    built_in = model in KNOWN_MODELS and KNOWN_MODELS[model].built_in
    what = "is built in and needs no fetching: it is" if built_in else "is ready"
    console.print(f"{model} {what} in {folder}", highlight=False, soft_wrap=True)
    return folder


def _list_data() -> list[dict[str, Any]]:
    from neuromorphic_llm.evaluation.data_folder import find_data
    from neuromorphic_llm.evaluation.data_sets import DATA_SETS

    for each in DATA_SETS.values():
        place = find_data(each.file) or "not there"
        console.print(f"{each.name:14} {each.origin}; {each.licence}; {place}", highlight=False, soft_wrap=True)
    return [{"name": each.name, "file": each.file, "licence": each.licence, "origin": each.origin} for each in DATA_SETS.values()]


def _fetch_data(names: list[str], source: Path | None, force: bool) -> list[dict[str, Any]]:
    """Every data set that can be had, and then the error of the first that cannot: one that is missing does not keep the others away."""
    from neuromorphic_llm.errors import DataError
    from neuromorphic_llm.evaluation.data_sets import DATA_SETS
    from neuromorphic_llm.evaluation.fetch_data import chosen_sets, fetch_data

    found, errors = [], []
    for data_set in chosen_sets(names):
        try:
            with status(f"fetching {data_set.name}"):
                result = fetch_data(data_set, source, force=force)
        except DataError as error:
            errors.append(error)
            continue
        what = "is ready" if result.fetched else "is there already"
        copy = "" if result.as_measured else "; not the copy that the documentation's figures were measured on"
        console.print(f"{result.name} {what} in {result.path} ({DATA_SETS[result.name].licence}){copy}", highlight=False, soft_wrap=True)
        found.append(asdict(result))
    if errors:
        more = f" (and {len(errors) - 1} more of {len(errors) + len(found)})" if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}{more}") from errors[0]
    return found
