"""Contents of the cache: checkpoints, models of the hub, and what is compiled (kernels, builds of the RTL), of which the old ones go."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from neuromorphic_llm.errors import UsageError

RTL_LIMIT = "1G"
"""Size limit of RTL builds unless NMLLM_RTL_CACHE sets another: a hundred chips of the size of nano."""

_RECENT_S = 3600.0
"""A build used so lately stays when others are made: a process may be about to load it."""

_KEPT_KERNELS = 3
"""Sources of a module whose kernels stay: those of the present checkout, and of some that a developer returns to."""

_KEPT_KERNELS_S = 86400.0
"""Kernels used so lately stay too: checkouts may take turns."""

_COMPILED = {"rtl": re.compile(r"\w+-[0-9a-f]{20}(\.\w+)?"), "kernels": re.compile(r"[\w.]+-[0-9a-f]{20}")}
"""Name pattern of compiled entries by folder, which is also their kind."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Entry:
    """A folder of the cache; `kind` is checkpoint, hub, data, kernels, rtl, or other for what is not the cache's own."""

    name: str
    kind: str
    path: Path
    bytes: int
    used: float  # time of the last use or change, s since 1970


def cache_folder() -> Path:
    """`$NMLLM_CACHE`, or `~/.cache/neuromorphic-llm`."""
    return Path(os.environ.get("NMLLM_CACHE") or "~/.cache/neuromorphic-llm").expanduser()


def rtl_folder() -> Path:
    """Folder of RTL builds."""
    return cache_folder() / "rtl"


def kernel_folder() -> Path:
    """Folder of compiled kernels, one folder in it per module and digest of its sources."""
    return cache_folder() / "kernels"


def size_in_bytes(text: str, what: str) -> int:
    """Bytes of `500M`, `1.5G` or a number alone; UsageError naming `what` otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{what} is {text!r}, not a size; give one such as 500M or 2G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def rtl_limit() -> int:
    """Bytes that builds of the RTL may take."""
    return size_in_bytes(os.environ.get("NMLLM_RTL_CACHE") or RTL_LIMIT, "NMLLM_RTL_CACHE")


def entries() -> list[Entry]:
    """Everything in the cache but locks, by kind and the last use first; evaluation data are one entry."""
    root = cache_folder()
    found = [_entry(path.name, _kind(path), path) for path in _folders(root) if path.name not in (*_COMPILED, "hub")]
    for kind, names in _COMPILED.items():
        found += [_entry(path.name, kind if names.fullmatch(path.name) else "other", path) for path in _folders(root / kind)]
    for path in _folders(root / "hub"):
        known = path.name.startswith("models--")
        found.append(_entry(path.name.removeprefix("models--").replace("--", "/"), "hub" if known else "other", path))
    return sorted(
        found, key=lambda entry: (("checkpoint", "hub", "data", "kernels", "rtl", "other").index(entry.kind), -entry.used, entry.name)
    )


def remove(entry: Entry) -> bool:
    """Remove an entry; False if it is being made, or cannot be removed."""
    if entry.path.is_symlink():
        return False
    # A build's lock lies beside it, a checkpoint's inside.
    lock = rtl_folder() / f"{entry.name.partition('.')[0]}.lock" if entry.kind == "rtl" else entry.path / ".lock"
    with _held(lock) as free:
        if free:
            shutil.rmtree(entry.path, ignore_errors=True)
    return not entry.path.exists()


def bound_builds(limit: int, keep: Sequence[Path] = (), recent_s: float = _RECENT_S) -> list[Entry]:
    """Remove builds of the RTL, the least recently used first, until they take at most `limit` bytes; returns those removed.

    Builds of `keep` and those used in the last `recent_s` seconds stay.
    """
    builds = sorted(
        (_entry(path.name, "rtl", path) for path in _folders(rtl_folder()) if _COMPILED["rtl"].fullmatch(path.name)), key=lambda e: e.used
    )
    total, removed = sum(build.bytes for build in builds), []
    for build in builds:
        if total <= limit:
            break
        if build.path not in keep and build.used <= time.time() - recent_s and remove(build):
            total -= build.bytes
            removed.append(build)
    return removed


def drop_old_kernels(keep: Path) -> None:
    """Remove kernels of other sources of a module, but for the latest used ones and those used in the last day."""
    module = keep.name.rpartition("-")[0]
    kernels = [path for path in _folders(keep.parent) if _COMPILED["kernels"].fullmatch(path.name) and path != keep]
    found = [_entry(path.name, "kernels", path) for path in kernels if path.name.rpartition("-")[0] == module]
    for entry in sorted(found, key=lambda e: -e.used)[_KEPT_KERNELS - 1 :]:
        if entry.used <= time.time() - _KEPT_KERNELS_S:
            remove(entry)


def touch(folder: Path) -> None:
    """Remember that an entry is used now."""
    with suppress(OSError):  # a cache that others fill may be read only
        os.utime(folder)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return []


def _kind(path: Path) -> str:
    if path.name == "data":  # evaluate.data_folder
        return "data"
    made = (path / ".lock").is_file() and ((path / "folder" / "SHA256SUMS").is_file() or any(path.glob("*.gguf")))
    return "checkpoint" if made else "other"


def _entry(name: str, kind: str, path: Path) -> Entry:
    total, used = 0, 0.0
    with suppress(OSError):
        used = path.stat().st_mtime
    for folder, _, files in os.walk(path):
        for file in files:
            with suppress(OSError):  # a link, or gone
                total += os.lstat(os.path.join(folder, file)).st_size
    return Entry(name, kind, path, total, used)


@contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Hold the lock in the block and yield True, or False if another process holds it; without a lock file nobody does."""
    try:
        file = lock.open("r+")
    except OSError:
        yield True
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
