"""Artefact folders: one safetensors file and one JSON file with a format name, a version and a content hash.

Writing is atomic (a temporary sibling folder, then a rename); loading checks format, version and hash and executes nothing.
See docs/reference/formats.md.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from neuromorphic_llm.errors import ArtefactError

TENSORS = "tensors.safetensors"
METADATA = "artefact.json"

Arrays = dict[str, NDArray[Any]]


def _hash(metadata: Mapping[str, Any], tensors: Path) -> str:
    """SHA-256 over the canonical JSON of the metadata (without its hash) and the bytes of the tensor file."""
    body = {key: value for key, value in metadata.items() if key != "content_hash"}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
    with tensors.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def check_artefact_place(folder: Path | str, format_name: str) -> None:
    """ArtefactError unless an artefact of this format can be written at `folder`; commands call it before their work."""
    folder = Path(folder)
    # A program written over the network it was made from would destroy the network.
    if (found := _format_at(folder)) not in (None, format_name):
        raise ArtefactError(f"{folder} holds {found}, which {format_name} does not replace; choose another output folder")
    if folder.exists() and not (folder / METADATA).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtefactError(f"{folder} exists and is not an artefact of this package; choose another output folder")
    parent = folder.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise ArtefactError(f"{folder} cannot be written: {parent} is a file; choose another output folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ArtefactError(f"{folder} cannot be written: {parent} is not writable; choose another output folder")


def _format_at(folder: Path) -> object:
    """The format name of the artefact at `folder`; None if there is none, or a damaged one."""
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metadata.get("format") if isinstance(metadata, dict) else None


def save_artefact(
    folder: Path | str,
    *,
    format_name: str,
    version: int,
    metadata: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    extra_files: Mapping[str, bytes] | None = None,
) -> str:
    """Write an artefact folder atomically and return its content hash.

    `extra_files` are side files (tokenizer and the like); their SHA-256 are part of the metadata.
    An existing artefact of the same format at `folder` is replaced; anything else there is an ArtefactError, as is a failed write.
    A symbolic link is followed.
    """
    check_artefact_place(folder, format_name)
    place = Path(folder).resolve()
    temporary = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary / TENSORS)
        files = {}
        for name, content in (extra_files or {}).items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            files[name] = hashlib.sha256(content).hexdigest()
        body: dict[str, Any] = {**metadata, "format": format_name, "version": version, "files": files}
        body["content_hash"] = _hash(body, temporary / TENSORS)
        (temporary / METADATA).write_text(json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n")
        # safetensors makes private files; an artefact is for whoever may read its folder.
        shutil.copymode(temporary / METADATA, temporary / TENSORS)
        _put_in_place(temporary, place)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtefactError(f"{folder} cannot be written ({reason}); make room or choose another output folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(body["content_hash"])


def _put_in_place(temporary: Path, place: Path) -> None:
    """Rename a finished folder to its place, where another process may be doing the same; what was there is lost only if it succeeds."""
    old = place.with_name(f".{place.name}.{os.getpid()}.old")
    try:
        while temporary.exists():
            try:
                temporary.rename(place)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                shutil.rmtree(old, ignore_errors=True)
                with suppress(FileNotFoundError):
                    place.rename(old)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(old, ignore_errors=True)


def load_metadata(folder: Path | str, *, format_name: str, version: int) -> dict[str, Any]:
    """Read and check the JSON of an artefact (format and version, not the hash).

    Raises ArtefactError with the folder, what is wrong and what to do.
    """
    folder = Path(folder)
    path = folder / METADATA
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is not a folder; give the folder of a {format_name} artefact")
    if not path.is_file():
        raise ArtefactError(f"{folder} holds no {METADATA}; give the folder of a {format_name} artefact, or copy this one whole")
    try:
        metadata = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); write the artefact again") from error
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror}); make it readable or write the artefact again") from error
    if not isinstance(metadata, dict) or metadata.get("format") != format_name:
        found = metadata.get("format") if isinstance(metadata, dict) else None
        raise ArtefactError(f"{folder} holds {found or 'something else'}, not {format_name}; give another folder")
    found_version = metadata.get("version")
    if type(found_version) is not int or found_version < 1:
        raise ArtefactError(f"{path} has no valid format version; write the artefact again")
    if found_version > version:
        raise ArtefactError(f"{folder} has {format_name} version {found_version}, newer than the supported {version}; update this package")
    return metadata


def load_artefact(folder: Path | str, *, format_name: str, version: int) -> tuple[dict[str, Any], Arrays]:
    """Load an artefact folder: its checked metadata and its arrays.

    Raises ArtefactError if the folder is missing, damaged, truncated, of another format or newer.
    """
    folder = Path(folder)
    metadata = load_metadata(folder, format_name=format_name, version=version)
    tensors = folder / TENSORS
    if not tensors.is_file():
        raise ArtefactError(f"{folder} holds no {TENSORS}; write the artefact again")
    try:
        content_hash = _hash(metadata, tensors)
    except (ValueError, OSError) as error:  # NaN is no JSON
        raise ArtefactError(f"{folder} is damaged ({error}); write the artefact again") from error
    if content_hash != metadata.get("content_hash"):
        raise ArtefactError(f"{folder} is damaged: its content does not match its hash; write the artefact again")
    files = metadata.get("files")
    if not isinstance(files, dict) or any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        raise ArtefactError(f"{folder / METADATA} lists no valid side files; write the artefact again")
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise ArtefactError(f"{path} is missing or damaged; write the artefact again")
    try:
        return metadata, load_file(tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # types that numpy does not know, too
        raise ArtefactError(f"{tensors} cannot be read ({error}); write the artefact again") from error


def read_files(folder: Path | str, metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """The side files of a loaded artefact, by name."""
    return {name: (Path(folder) / name).read_bytes() for name in metadata.get("files", {})}
