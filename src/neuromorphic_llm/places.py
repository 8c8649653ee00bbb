"""Places to write to: checked before the work, and never inside an artefact, whose files are its own."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from neuromorphic_llm.errors import NeuromorphicLLMError

METADATA = "artefact.json"
"""The file that makes a folder an artefact (docs/reference/formats.md)."""

_PROBE_BYTES = 4096
_STEM_BYTES = 64


class PlaceError(NeuromorphicLLMError):
    """Nothing can be written there; says where, why and what to do instead."""


def resolved(path: Path | str) -> Path:
    """The place that a path means, links followed, whether it exists or not. PlaceError for a loop of links or an impossible name."""
    try:
        place = Path(path).resolve()
        place.lstat()
    except FileNotFoundError:
        return place
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links, before Python 3.13
        if isinstance(error, NotADirectoryError):
            return place
        reason = getattr(error, "strerror", None) or error
        raise PlaceError(f"{path} cannot be written ({reason}); choose another place") from error
    if place.is_symlink():
        raise PlaceError(f"{path} cannot be written (a loop of links); choose another place")
    return place


def enclosing_artefact(path: Path | str) -> Path | None:
    """The artefact folder that a place lies in, at any depth, or None. An artefact does not lie in itself."""
    return next((folder for folder in resolved(path).parents if os.path.lexists(folder / METADATA)), None)


def refuse_inside_artefact(path: Path | str) -> None:
    """PlaceError if a place lies in an artefact, at any depth."""
    if (folder := enclosing_artefact(path)) is not None:
        raise PlaceError(f"{path} lies in {folder}, an artefact, whose files are its own; choose a place outside it")


def temporary_name(name: str, suffix: str) -> str:
    """A hidden name for what will be called `name`: short enough for any file system, even if `name` is as long as names can be."""
    stem = os.fsdecode(os.fsencode(name)[:_STEM_BYTES]) if len(os.fsencode(name)) > _STEM_BYTES else name
    return f".{stem}.{suffix}"


def check_file_place(path: Path | str) -> None:
    """PlaceError unless a file can be written at `path`, found out by trying, so that no result is lost after the work."""
    place, given = resolved(path), Path(path)
    if given.is_dir():
        raise PlaceError(f"{path} is a folder; give a file name")
    if given.exists() and not given.is_file():
        _check_stream(given)
        return
    refuse_inside_artefact(path)
    if not place.parent.is_dir():
        raise PlaceError(f"{path}: the folder {place.parent} does not exist; create it first")
    _try(path, place.parent, "choose another place")


def check_folder_place(path: Path | str) -> None:
    """PlaceError unless files can be written in a folder at `path`, which may not exist yet; an artefact's folder is none."""
    place = resolved(path)
    refuse_inside_artefact(path)
    if os.path.lexists(place / METADATA):
        raise PlaceError(f"{path} holds an artefact; give another folder")
    if place.exists() and not place.is_dir():
        raise PlaceError(f"{path} is a file; choose another output folder")
    check_nearest_folder(path, place)


def check_nearest_folder(path: Path | str, folder: Path) -> None:
    """PlaceError, about `path`, unless the nearest folder that exists at or above `folder` can be written in."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise PlaceError(f"{path} cannot be written: {folder} is a file; choose another output folder")
    _try(path, folder, "choose another output folder")


def _try(path: Path | str, folder: Path, advice: str) -> None:
    """Write a few bytes that vanish: permissions alone do not tell of full disks, read-only ones and the system's own folders."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PlaceError(f"{path} cannot be written: {folder} is not writable; {advice}")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
    except OSError as error:
        raise PlaceError(f"{path} cannot be written: {folder} is not writable ({error.strerror}); {advice}") from error


def _check_stream(path: Path) -> None:
    """PlaceError for a device that takes no bytes, a disk, or a socket. A pipe may wait for its reader."""
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        return
    if not stat.S_ISCHR(mode):
        raise PlaceError(f"{path} is {'a disk' if stat.S_ISBLK(mode) else 'a socket'}, which is not written to; give a file name")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            os.write(handle, b"")
        finally:
            os.close(handle)
    except OSError as error:
        raise PlaceError(f"{path} cannot be written ({error.strerror}); give a file name") from error
