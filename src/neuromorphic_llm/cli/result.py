"""The JSON object that every command writes with --json (docs/reference/formats.md)."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import neuromorphic_llm
from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.text_file import write_text

SCHEMA = "neuromorphic-llm-result"
SCHEMA_VERSION = 1
ENVELOPE = ("schema", "schema_version", "command", "arguments", "seed", "versions", "machine", "started", "wall_s")
"""Keys that a command's own keys must not use."""


def plain(value: Any, where: str = "result") -> Any:
    """`value` as JSON types: numpy scalars and arrays, paths, tuples and dataclasses become numbers, text, lists and objects.

    Raises NeuromorphicLLMError naming the place of a NaN, an infinity or something that JSON cannot hold.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            raise NeuromorphicLLMError(f"{where} is {value}, not a finite number; the result was not written")
        return float(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist(), where)
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), f"{where}.{field.name}") for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise NeuromorphicLLMError(f"{where} is a {type(value).__name__}, which JSON cannot hold; the result was not written")


def versions() -> dict[str, str | None]:
    """Versions of this package, Python and what the numbers depend on; null where not installed."""
    found: dict[str, str | None] = {"neuromorphic-llm": neuromorphic_llm.__version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "numpy", "numba"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, Any]:
    """Processor model, physical and logical cores, memory in bytes, and the first GPU's name or null."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "threads": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": _gpu_name(),
        "system": platform.platform(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one JSON object atomically; NeuromorphicLLMError for NaN, infinities and unwritable places."""
    write_text(path, json.dumps(plain(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_result(
    path: Path,
    command: str,
    arguments: Mapping[str, Any],
    seed: int,
    payload: Mapping[str, Any],
    started: datetime,
    wall_s: float,
) -> None:
    """Write a command's result with its envelope, atomically.

    Raises NeuromorphicLLMError if the payload holds NaN, an infinity or a key of the envelope.
    """
    if taken := set(ENVELOPE) & set(payload):
        raise NeuromorphicLLMError(f"result key {sorted(taken)[0]!r} belongs to the envelope; the result was not written")
    envelope: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "arguments": arguments,
        "seed": seed,
        "versions": versions(),
        "machine": machine(),
        "started": started.isoformat(timespec="seconds"),
        "wall_s": wall_s,
    }
    write_json(path, {**envelope, **payload})
