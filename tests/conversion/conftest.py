"""A checkpoint, its calibration text and its calibration, once for all tests of conversion."""

from __future__ import annotations

import pytest
from hypothesis import settings

from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.convert import calibrate_checkpoint
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint

# No wall-clock deadline: it would fail on busy machines, and these tests check results, not speed.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    return load_checkpoint("random-tiny")


@pytest.fixture(scope="session")
def windows(tiny: Checkpoint) -> list[list[int]]:
    return [window[:256] for window in calibration_windows(tiny.tokenizer(), count=2)]


@pytest.fixture(scope="session")
def calibration(tiny: Checkpoint, windows: list[list[int]]) -> Calibration:
    return calibrate_checkpoint(tiny, windows)
