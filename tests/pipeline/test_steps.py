"""Steps are reused exactly while what they depend on is the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neuromorphic_llm.artefact import save_artefact
from neuromorphic_llm.errors import ArtefactError, NeuromorphicLLMError
from neuromorphic_llm.pipeline import steps as steps_module
from neuromorphic_llm.pipeline.steps import StepArtefact, StepRecord, Steps


def test_same_inputs_are_reused_and_others_not(tmp_path: Path) -> None:
    seen: list[StepRecord] = []
    calls = []

    def work() -> dict[str, int]:
        calls.append(1)
        return {"value": len(calls)}

    for inputs in ({"a": 1}, {"a": 1}, {"a": 2}):
        Steps(tmp_path, on_step=seen.append).run("one", inputs, work)
    assert [record.reused for record in seen] == [False, True, False] and len(calls) == 2


def test_force_and_another_package_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Steps(tmp_path).run("one", {}, lambda: {"value": 1})
    assert Steps(tmp_path, force=True).run("one", {}, lambda: {"value": 2}) == {"value": 2}
    monkeypatch.setattr(steps_module, "package_digest", lambda: "other")
    assert Steps(tmp_path).run("one", {}, lambda: {"value": 3}) == {"value": 3}


def test_failed_step_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Steps(tmp_path).run("one", {}, fail)
    assert list((tmp_path / "steps").iterdir()) == []


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Steps(tmp_path).run("one", {}, lambda: {"value": float("nan")})


@pytest.mark.parametrize("lost", [None, "key", "wall_s", "result"])
def test_damaged_record_runs_again(tmp_path: Path, lost: str | None) -> None:
    Steps(tmp_path).run("one", {}, lambda: {"value": 1})
    path = tmp_path / "steps" / "one.json"
    content = json.loads(path.read_text())
    content.pop(lost, None)
    path.write_text('{"key": ' if lost is None else json.dumps(content))
    assert Steps(tmp_path).run("one", {}, lambda: {"value": 2}) == {"value": 2}


@pytest.mark.parametrize("damage", ["none", "replaced", "truncated", "removed"])
def test_artefact_is_reused_only_if_intact(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "network"

    def make(value: int) -> dict[str, str]:
        content_hash = save_artefact(folder, format_name="test", version=1, metadata={}, arrays={"x": np.full(8, value)})
        return {"content_hash": content_hash}

    artefact = StepArtefact(folder, "test", 1)
    Steps(tmp_path).run("one", {}, lambda: make(1), artefact)
    tensors = folder / "tensors.safetensors"
    if damage == "replaced":
        make(2)
    elif damage == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif damage == "removed":
        tensors.unlink()
    again = Steps(tmp_path)
    again.run("one", {}, lambda: make(1), artefact)
    assert again.records[0].reused == (damage == "none")


def test_unusable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NeuromorphicLLMError, match="choose another output folder"):
        Steps(tmp_path / "file")


def test_the_folder_of_an_artefact_is_refused(tmp_path: Path) -> None:
    save_artefact(tmp_path / "network", format_name="one", version=1, metadata={}, arrays={"x": np.zeros(1)})
    before = sorted(path.name for path in (tmp_path / "network").iterdir())
    with pytest.raises(ArtefactError, match="network holds an artefact of another command; choose another output folder"):
        Steps(tmp_path / "network")
    assert sorted(path.name for path in (tmp_path / "network").iterdir()) == before
