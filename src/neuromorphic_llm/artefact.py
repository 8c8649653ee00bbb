"""Artefact folders: one safetensors file and one JSON file with a format name, a version and a content hash.

Writing is atomic (a temporary sibling folder, then a rename) and removes nothing that the replaced artefact does not list; loading checks
format, version and hash and executes nothing.
See docs/reference/formats.md.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save, save_file

from neuromorphic_llm.errors import ArtefactError, NeuromorphicLLMError
from neuromorphic_llm.places import METADATA as METADATA
from neuromorphic_llm.places import PlaceError, check_nearest_folder, refuse_inside_artefact, resolved, temporary_name
from neuromorphic_llm.text_file import LIMITS, FileRefusedError, read_bytes

TENSORS = "tensors.safetensors"

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json")
_SIDE_FILES = {f"tokenizer/{name}" for name in (*_TOKENIZER, "merges.txt", "chat_template.jinja")}
"""Files of an artefact besides its two own, as assumed if its list of them cannot be read."""

Arrays = dict[str, NDArray[Any]]


def _hash(metadata: Mapping[str, Any], tensors: Path | bytes) -> str:
    """SHA-256 over the canonical JSON of the metadata (without its hash) and the bytes of the tensor file, or of its content."""
    body = {key: value for key, value in metadata.items() if key != "content_hash"}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
    with BytesIO(tensors) if isinstance(tensors, bytes) else tensors.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def artefact_hash(
    *,
    format_name: str,
    version: int,
    metadata: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    extra_files: Mapping[str, bytes] | None = None,
) -> str:
    """Content hash of the artefact that save_artefact would write of these."""
    body = _body(format_name, version, metadata, extra_files or {})
    return _hash(body, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def _body(format_name: str, version: int, metadata: Mapping[str, Any], side_files: Mapping[str, bytes]) -> dict[str, Any]:
    """Metadata with format, version and the hashes of the side files."""
    files = {name: hashlib.sha256(content).hexdigest() for name, content in side_files.items()}
    return {**metadata, "format": format_name, "version": version, "files": files}


def check_artefact_place(folder: Path | str, format_name: str, side_files: Iterable[str] = ()) -> None:
    """ArtefactError unless an artefact of this format can be written at `folder`; commands call it before their work.

    It is refused inside another artefact, over anything but an artefact of this format, and over one with files that it does not list.
    `side_files` are those to be written, if they are known already.
    """
    try:
        refuse_inside_artefact(folder)
        place = resolved(folder)
        # A program written over the network it was made from would destroy the network.
        if (found := artefact_format(place)) not in (None, format_name):
            raise PlaceError(f"{folder} holds {found}, which {format_name} does not replace; choose another output folder")
        if place.exists() and not (place / METADATA).is_file() and (not place.is_dir() or any(place.iterdir())):
            raise PlaceError(f"{folder} exists and is not an artefact of this package; choose another output folder")
        if strange := _strange_entry(place, side_files):
            raise PlaceError(f"{folder} holds {strange}, which is no part of its artefact; move that away or choose another output folder")
        check_nearest_folder(folder, place.parent)
    except OSError as error:
        raise ArtefactError(f"{folder} cannot be written ({error.strerror}); choose another output folder") from error
    except PlaceError as error:
        raise ArtefactError(str(error)) from error


def _metadata_at(folder: Path) -> dict[str, Any]:
    """The JSON of the artefact at `folder`; empty if there is none, or a damaged one."""
    try:
        metadata = json.loads(read_bytes(folder / METADATA, LIMITS["artefact.json"]))
    except (OSError, ValueError, RecursionError, NeuromorphicLLMError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def artefact_format(folder: Path) -> object:
    """Format of the artefact at `folder`; None if there is none, or a damaged one."""
    return _metadata_at(folder).get("format")


def _strange_entry(folder: Path, side_files: Iterable[str]) -> str | None:
    """Something in the artefact folder that the artefact does not list, by its name in the folder; None if there is nothing."""
    if not (folder / METADATA).is_file():
        return None
    files = _metadata_at(folder).get("files")
    listed = set(files) if isinstance(files, dict) else _SIDE_FILES | set(side_files)
    own = {METADATA, TENSORS, *listed}
    folders = {str(parent) for name in own for parent in PurePosixPath(name).parents} - {"."}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_folder = path.is_dir() and not path.is_symlink()
        if (name not in folders) if is_folder else (name not in own):
            return name
    return None


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
    An existing artefact of the same format at `folder` is replaced; anything else there, also a file that it does not list, is an
    ArtefactError, as is a failed write. A symbolic link is followed.
    """
    side_files = tuple(extra_files or ())
    check_artefact_place(folder, format_name, side_files)
    place = resolved(folder)
    temporary = place.with_name(temporary_name(place.name, f"{os.getpid()}.partial"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary / TENSORS)
        for name, content in (extra_files or {}).items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        body = _body(format_name, version, metadata, extra_files or {})
        body["content_hash"] = _hash(body, temporary / TENSORS)
        (temporary / METADATA).write_text(json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n")
        # safetensors makes private files; an artefact is for whoever may read its folder.
        shutil.copymode(temporary / METADATA, temporary / TENSORS)
        check_artefact_place(folder, format_name, side_files)  # again: files may have come while the new ones were written
        _put_in_place(temporary, place)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtefactError(f"{folder} cannot be written ({reason}); make room or choose another output folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(body["content_hash"])


def _put_in_place(temporary: Path, place: Path) -> None:
    """Rename a finished folder to its place, where another process may be doing the same; what was there is lost only if it succeeds."""
    old = place.with_name(temporary_name(place.name, f"{os.getpid()}.old"))
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
        metadata = json.loads(read_bytes(path, LIMITS["artefact.json"]))
    except (ValueError, RecursionError, FileRefusedError) as error:
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
        if hashlib.sha256(_side_file(folder / name)).hexdigest() != expected:
            raise ArtefactError(f"{folder / name} is missing or damaged; write the artefact again")
    try:
        return metadata, load_file(tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # types that numpy does not know, too
        raise ArtefactError(f"{tensors} cannot be read ({error}); write the artefact again") from error


def read_files(folder: Path | str, metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """The side files of a loaded artefact, by name."""
    return {name: _side_file(Path(folder) / name) for name in metadata.get("files", {})}


def _side_file(path: Path) -> bytes:
    """The content of a side file; ArtefactError if it is no file, too large or cannot be read."""
    try:
        return read_bytes(path, LIMITS.get(path.name, LIMITS["side file"]))
    except FileNotFoundError as error:
        raise ArtefactError(f"{path} is missing or damaged; write the artefact again") from error
    except (OSError, FileRefusedError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtefactError(f"{path} cannot be read ({reason}); write the artefact again") from error
