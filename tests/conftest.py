"""Fixtures for data and checkpoints that a machine may lack; ordinary tests use no network."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import neuromorphic_llm.kernel_cache  # noqa: F401 - now, before a test names a cache of its own: kernels stay in that of the first import

if TYPE_CHECKING:
    from neuromorphic_llm.models.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[1]

# A suite started in the background of a script inherits an ignored Ctrl-C, and so would the commands that it interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hub and package index are out of reach, so that a test that would need them fails everywhere."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests without a GPU; torch is imported only if there are any."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the evaluation data sets: $NMLLM_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("NMLLM_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no evaluation data in {folder}; set NMLLM_DATA")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Checkpoint:
    """The real checkpoint, from the cache only."""
    from neuromorphic_llm.models.checkpoint import load_checkpoint
    from neuromorphic_llm.models.fetch import cached_checkpoint

    if cached_checkpoint("smollm2-135m") is None:
        pytest.skip("smollm2-135m is not in the cache; run nmllm fetch smollm2-135m")
    return load_checkpoint("smollm2-135m")
