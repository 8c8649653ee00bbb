"""Every spike code on CUDA gives the integers of its definition in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

pytestmark = pytest.mark.gpu

VARIANTS: list[tuple[str, int | None, dict[str, Any]]] = [
    *((name, None, {}) for name in SPIKE_CODES),
    ("st-bif", 16, {"current": "first", "signed": False}),
    ("multi-threshold", 4, {"current": "constant"}),
    ("burst", 8, {"gamma": 4, "shift": 0, "clip_per_mille": 20}),
    ("first-spike-log", 6, {"steps": 1, "octaves": 2}),
]


@pytest.mark.parametrize(("name", "phases", "parameters"), VARIANTS, ids=str)
def test_integers_are_those_of_numpy(name: str, phases: int | None, parameters: dict[str, Any]) -> None:
    generator = np.random.default_rng(7)
    x = (generator.normal(0, 2000, (40, 300)) * generator.choice([1, 1, 1, 200], (40, 300))).astype(np.int32)
    x[3], x[5, 7], x[6, 1] = 0, 2**31 - 1, -(2**31)
    stop = generator.integers(0, 2**22, 300).astype(np.int32)
    code = get_code(name, phases, **parameters)
    expected = code.quantise(x, stop)
    result = code.quantise_torch(torch.from_numpy(x).cuda(), torch.from_numpy(stop).cuda())
    for field in ("a", "exponent", "spikes", "phases"):
        found = getattr(result, field)
        assert found.is_cuda and np.array_equal(found.cpu().numpy(), getattr(expected, field)), field
