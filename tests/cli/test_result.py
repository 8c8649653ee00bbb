"""The result object against docs/reference/formats.md."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromorphic_llm.cli.result import ENVELOPE, plain, write_json, write_result
from neuromorphic_llm.errors import NeuromorphicLLMError

TEXT = (str,)
TEXT_OR_NULL = (str, type(None))
SCHEMA: dict[str, Any] = {
    "schema": TEXT,
    "schema_version": (int,),
    "command": TEXT,
    "arguments": (dict,),
    "seed": (int,),
    "versions": {
        "neuromorphic-llm": TEXT,
        "python": TEXT,
        "torch": TEXT_OR_NULL,
        "transformers": TEXT_OR_NULL,
        "numpy": TEXT_OR_NULL,
        "numba": TEXT_OR_NULL,
    },
    "machine": {"cpu": TEXT, "cores": (int,), "threads": (int,), "memory_bytes": (int,), "gpu": TEXT_OR_NULL, "system": TEXT},
    "started": TEXT,
    "wall_s": (float,),
}


def check(value: dict[str, Any], schema: dict[str, Any], where: str = "result") -> None:
    """Every key of the schema is there with its type; nested objects have no other keys."""
    for key, expected in schema.items():
        assert key in value, f"{where}.{key} is missing"
        if isinstance(expected, dict):
            assert set(value[key]) == set(expected), where
            check(value[key], expected, f"{where}.{key}")
        else:
            assert isinstance(value[key], expected), f"{where}.{key}"


def test_envelope(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    write_result(path, "eval", {"model": Path("a/b"), "window": 2}, 3, {"perplexity": np.float32(2.5)}, started, 1.25)
    result = json.loads(path.read_text())
    check(result, SCHEMA)
    assert set(result) == {*ENVELOPE, "perplexity"} and set(SCHEMA) == set(ENVELOPE)
    assert (result["schema"], result["schema_version"]) == ("neuromorphic-llm-result", 1)
    assert (result["arguments"], result["seed"], result["wall_s"]) == ({"model": "a/b", "window": 2}, 3, 1.25)
    assert result["started"] == "2026-01-02T03:04:05+00:00" and datetime.fromisoformat(result["started"]) == started


@dataclass(frozen=True)
class Bounds:
    low: float
    high: float


def test_plain() -> None:
    value = {1: np.int64(3), "a": np.array([[1, 2]]), "b": (True, None, "x"), "c": Bounds(1.0, 2.0), "d": np.bool_(True)}
    assert plain(value) == {"1": 3, "a": [[1, 2]], "b": [True, None, "x"], "c": {"low": 1.0, "high": 2.0}, "d": True}


@pytest.mark.parametrize("value", [math.nan, -math.inf, np.float32("nan"), np.array([1.0, math.inf]), Bounds(1.0, math.nan)])
def test_plain_refuses_what_is_not_finite(value: object) -> None:
    with pytest.raises(NeuromorphicLLMError, match=r"result\.energy.* is (nan|-?inf), not a finite number"):
        plain({"energy": value})


def test_plain_names_what_json_cannot_hold() -> None:
    with pytest.raises(NeuromorphicLLMError, match=r"result\.x\[1\] is a set"):
        plain({"x": [1, {2}]})


def test_write_json_into_nowhere(tmp_path: Path) -> None:
    with pytest.raises(NeuromorphicLLMError, match="cannot be written"):
        write_json(tmp_path / "missing" / "a.json", {})
