"""Fetching data sets, from the hub or from files that were downloaded: whole or not at all, and with checksums."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation.data_folder import data_folder
from neuromorphic_llm.evaluation.data_sets import DATA_SETS, DataSet
from neuromorphic_llm.evaluation.tasks import TASKS
from neuromorphic_llm.models.fetch import file_sha256

CHECKSUMS = "SHA256SUMS"


@dataclass(frozen=True)
class FetchedData:
    """A file in the data folder; `as_measured`: it is the copy on which this project's figures were measured, byte for byte."""

    name: str
    path: Path
    bytes: int
    sha256: str
    as_measured: bool
    fetched: bool  # now; otherwise it was there


def chosen_sets(names: Sequence[str]) -> list[DataSet]:
    """The data sets of these names or tasks (all without any), each once; UsageError for an unknown one."""
    wanted: list[str] = []
    for name in names or DATA_SETS:
        members = (name,) if name in DATA_SETS else TASKS[name].members
        if not members:
            raise UsageError(f"{name!r} needs no data; data sets are {DATA_SETS}")
        wanted += members
    return [DATA_SETS[name] for name in dict.fromkeys(wanted)]


def fetch_data(data_set: DataSet, source: Path | None = None, *, force: bool = False) -> FetchedData:
    """The data set's file in the data folder, made from the hub's files or those in `source` unless it is there and has its checksum.

    Raises DataError if it cannot be had, made or written, or a file of unknown origin is there; nothing of it is written then.
    """
    path = data_folder() / data_set.file
    if not force and path.is_file():
        digest, recorded = file_sha256(path), _checksums().get(data_set.file)
        if digest in (recorded, data_set.sha256):
            return FetchedData(data_set.name, path, path.stat().st_size, digest, digest == data_set.sha256, False)
        if recorded is None:
            raise DataError(f"{path} is there, and not as fetched (SHA-256 {digest}); --force replaces it")
    found = _from_hub(data_set) if source is None else _from_folder(data_set, source)
    try:
        content = data_set.make(found)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(f"{found[0]} is not a file of {data_set.name} ({type(error).__name__}: {error}); fetch it again") from error
    digest = hashlib.sha256(content).hexdigest()
    if not content:
        raise DataError(f"{found[0]} holds nothing of {data_set.name}; fetch it again")
    if data_set.exact and digest != data_set.sha256:
        raise DataError(f"{found[0]} gives {data_set.name} with SHA-256 {digest}, not {data_set.sha256}; it is damaged or another file")
    _write(path, content)
    _write(data_folder() / CHECKSUMS, _lines({**_checksums(), data_set.file: digest}))
    return FetchedData(data_set.name, path, len(content), digest, digest == data_set.sha256, True)


def _checksums() -> dict[str, str]:
    """File -> SHA-256 of the data folder's list."""
    try:
        pairs = (line.split(maxsplit=1) for line in (data_folder() / CHECKSUMS).read_text(encoding="utf-8").splitlines())
        return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}
    except (OSError, UnicodeDecodeError):
        return {}


def _lines(sums: dict[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, whatever interrupts."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); set NMLLM_DATA to a folder that can") from error


def _matching(sources: Iterable[Sequence[str]], names: Sequence[str]) -> list[str]:
    """Names of the first source all of whose patterns match, in their order; a pattern may match several. A name may lie in a folder."""
    for patterns in sources:
        found = [sorted(name for name in names if fnmatch(name, each) or fnmatch(name, f"*/{each}")) for each in patterns]
        if all(found):
            return [name for group in found for name in (group if len(patterns) == 1 else group[:1])]
    return []


def _wanted(data_set: DataSet) -> str:
    return ", or ".join(" and ".join(patterns) for patterns in data_set.sources)


def _from_folder(data_set: DataSet, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"--from {folder} is no folder; give one with {_wanted(data_set)}")
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    found = _matching(data_set.sources, sorted(names))
    if not found:
        raise DataError(f"--from {folder} holds no file of {data_set.name}; looked for {_wanted(data_set)}")
    return [folder / name for name in found]


def _from_hub(data_set: DataSet) -> list[Path]:
    name, revision = data_set.hub
    advice = f"download {_wanted(data_set)} and give the folder with --from"
    try:
        from huggingface_hub import HfApi, hf_hub_download

        names = HfApi().list_repo_files(name, repo_type="dataset", revision=revision)
        found = _matching(data_set.sources, sorted(names))
        paths = [Path(hf_hub_download(name, each, repo_type="dataset", revision=revision)) for each in found]
    except Exception as error:  # The hub client raises errors of several libraries; all mean that the data cannot be had.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{data_set.name}: the hub gave nothing of {name} ({reason}); {advice}") from error
    if not paths:
        raise DataError(f"{data_set.name}: hub data set {name} holds none of the files that were looked for; {advice}")
    return paths
