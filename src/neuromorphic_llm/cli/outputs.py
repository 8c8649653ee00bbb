"""Checks of output paths before a command's work: not in an artefact, not over an input, and writable."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from neuromorphic_llm.errors import NeuromorphicLLMError, UsageError
from neuromorphic_llm.places import PlaceError, check_file_place, check_folder_place, resolved
from neuromorphic_llm.text_file import LIMITS, read_bytes

WRITTEN = ("output", "state", "save_calibration", "picture", "trace")
"""Arguments that name what a command writes."""


def check_outputs(
    arguments: Mapping[str, Any],
    result: Path | None,
    *,
    artefacts: Mapping[str, tuple[Path, str]] | None = None,
    folders: Mapping[str, Path] | None = None,
    files: Mapping[str, Path | None] | None = None,
) -> None:
    """UsageError or ArtefactError unless everything that a command writes can be written, each beside the others and beside what it reads.

    By option: `artefacts` with their formats, `folders` for files of many kinds, and `files`; `result` is that of --json, checked already.
    """
    from neuromorphic_llm.artefact import check_artefact_place

    wholes = {option: folder for option, (folder, _) in (artefacts or {}).items()}
    singles = {option: path for option, path in (files or {}).items() if path is not None}
    for option, path in singles.items():
        check_writable_file(path, option)
        _check_not_read(path, option, arguments, "")
    for option, folder in (folders or {}).items():
        try:
            check_folder_place(folder)
        except PlaceError as error:
            raise UsageError(f"{option} {error}") from error
    beside = {**wholes, **singles, **({} if result is None else {"--json": result})}
    for first, second in combinations(beside.items(), 2):
        check_apart(first, second)
    for whole in wholes.items():
        for folder_option in (folders or {}).items():
            check_apart(folder_option, whole)
    for folder, format_name in (artefacts or {}).values():
        check_artefact_place(folder, format_name)


def check_apart(first: tuple[str, Path], second: tuple[str, Path]) -> None:
    """UsageError unless two places, each with the option that names it, are apart: an artefact is replaced as a whole."""
    (option, path), (other_option, other) = first, second
    if _place(path, option) == _place(other, other_option):
        raise UsageError(f"{option} and {other_option} are both {path}; choose another place for one of them")
    for (option, inner), (other_option, outer) in ((first, second), (second, first)):
        if _place(inner, option).is_relative_to(_place(outer, other_option)):
            raise UsageError(f"{option} {inner} lies in {other_option} {outer}, which is written as a whole; choose a place beside it")


def check_result_file(path: Path, arguments: Mapping[str, Any], command: str) -> None:
    """UsageError unless --json `path` can be written and is nothing that the command reads or writes otherwise."""
    check_writable_file(path, "--json")
    _check_not_read(path, "--json", arguments, command)


def check_writable_file(path: Path, option: str) -> None:
    """UsageError unless a file can be written at `path`; checked before the work, so that no result is lost after it."""
    try:
        check_file_place(path)
    except PlaceError as error:
        raise UsageError(f"{option} {error}") from error


def check_written(folder: Path, *names: str) -> None:
    """UsageError if the output folder is there and one of these files cannot be written in it."""
    if folder.is_dir():
        for name in names:
            check_writable_file(folder / name, "--output")


def _place(path: Path, option: str) -> Path:
    try:
        return resolved(path)
    except PlaceError as error:
        raise UsageError(f"{option} {error}") from error


def _check_not_read(path: Path, option: str, arguments: Mapping[str, Any], command: str) -> None:
    """UsageError if `path` is another argument, or a file of a folder that the command reads, other than an earlier result of its own."""
    place = _place(path, option)
    for name, value in _paths(arguments):
        given, other_option = _place(value, f"--{name}"), f"--{name.replace('_', '-')}"
        if given == place and other_option != option:
            raise UsageError(f"{option} and {other_option} are both {value}; choose another file for the result")
        inside = name not in WRITTEN and path.is_file() and given.is_dir() and place.is_relative_to(given)
        if inside and not (command and _command_of(path) == command):
            raise UsageError(f"{option} {path} is a file of {value}, which the command reads; choose another file for the result")


def _paths(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Arguments that are paths, or texts or items of lists that name something that exists."""
    for name, value in arguments.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, Path) or (isinstance(item, str) and item and os.path.exists(item)):
                yield name, Path(item)


def _command_of(path: Path) -> object:
    """The command whose result a file holds; None for any other file."""
    try:
        content = json.loads(read_bytes(path, LIMITS["json"]))
    except (OSError, ValueError, RecursionError, NeuromorphicLLMError):
        return None
    return content.get("command") if isinstance(content, dict) else None
