"""Folders of evaluation data: one rule for tasks, benchmarks and `nmllm fetch --data` (docs/reference/data.md)."""

from __future__ import annotations

import os
from pathlib import Path

from neuromorphic_llm.cache import cache_folder
from neuromorphic_llm.repository import IS_CHECKOUT, REPOSITORY


def data_folders() -> list[Path]:
    """Folders that are looked into, in this order: `$NMLLM_DATA` alone, or `data` in the cache and `shared/data` beside a checkout."""
    if named := os.environ.get("NMLLM_DATA"):
        return [Path(named).expanduser()]
    beside = [REPOSITORY.parent / "shared" / "data"] if IS_CHECKOUT else []
    return [cache_folder() / "data", *beside]


def data_folder() -> Path:
    """The folder that fetched data go to: the first of data_folders()."""
    return data_folders()[0]


def find_data(file: str) -> Path | None:
    """The first file of that name, relative to a data folder; None if no folder has it."""
    return next((path for path in (folder / file for folder in data_folders()) if path.is_file()), None)
