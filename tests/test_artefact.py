"""Artefact folders: what is replaced, what is refused, and that nothing half-written stays."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from neuromorphic_llm.artefact import METADATA, TENSORS, load_artefact, save_artefact
from neuromorphic_llm.errors import ArtefactError


def save(folder: Path, value: float = 1.0, format_name: str = "one") -> str:
    return save_artefact(
        folder, format_name=format_name, version=1, metadata={}, arrays={"x": np.full(8, value)}, extra_files={"side/a.txt": b"a"}
    )


def value_at(folder: Path) -> float:
    return float(load_artefact(folder, format_name="one", version=1)[1]["x"][0])


def test_an_artefact_replaces_its_own_kind_only(tmp_path: Path) -> None:
    save(tmp_path / "a")
    save(tmp_path / "a", 2.0)
    with pytest.raises(ArtefactError, match="a holds one, which two does not replace; choose another output folder"):
        save(tmp_path / "a", format_name="two")
    assert value_at(tmp_path / "a") == 2.0 and os.listdir(tmp_path) == ["a"]


def test_a_damaged_artefact_can_be_written_again(tmp_path: Path) -> None:
    save(tmp_path / "a")
    (tmp_path / "a" / METADATA).write_text("{")
    save(tmp_path / "a", 3.0)
    assert value_at(tmp_path / "a") == 3.0


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    save(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    save(tmp_path / "link", 2.0)
    assert (tmp_path / "link").is_symlink() and value_at(tmp_path / "real") == 2.0
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    save(tmp_path / "a")
    monkeypatch.setattr("neuromorphic_llm.artefact.save_file", full)
    with pytest.raises(ArtefactError, match=r"a cannot be written \(No space left on device\)"):
        save(tmp_path / "a", 2.0)
    assert value_at(tmp_path / "a") == 1.0 and os.listdir(tmp_path) == ["a"]


def test_an_interrupted_replacement_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a")
    rename = Path.rename

    def interrupt(path: Path, target: Path) -> Path:
        outcome = rename(path, target)
        if target.name.endswith(".old"):
            raise KeyboardInterrupt
        return outcome

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "a", 2.0)
    assert value_at(tmp_path / "a") == 1.0 and os.listdir(tmp_path) == ["a"]


def test_another_writer_of_the_same_place_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a")
    rename, place = Path.rename, tmp_path / "a"
    raced = threading.Event()

    def race(path: Path, target: Path) -> Path:
        outcome = rename(path, target)
        if target.name.endswith(".old") and not raced.is_set():
            raced.set()
            place.mkdir()  # another process puts its result where this one has just made room
            (place / METADATA).write_text("{}")
        return outcome

    monkeypatch.setattr(Path, "rename", race)
    save(place, 2.0)
    assert raced.is_set() and value_at(place) == 2.0 and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": True}, "no valid format version"),
        ({"version": 2}, "newer than the supported 1"),
        ({"files": None}, "lists no valid side files"),
        ({"files": ["side/a.txt"]}, "lists no valid side files"),
        ({"files": {"../b.txt": "0"}}, "lists no valid side files"),
        ({"files": {"/b.txt": "0"}}, "lists no valid side files"),
    ],
)
def test_forged_metadata_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str) -> None:
    save(tmp_path / "a")
    path = tmp_path / "a" / METADATA
    path.write_text(json.dumps(json.loads(path.read_text()) | changes | {"content_hash": "forged"}))
    monkeypatch.setattr("neuromorphic_llm.artefact._hash", lambda *_: "forged")
    with pytest.raises(ArtefactError, match=message):
        load_artefact(tmp_path / "a", format_name="one", version=1)


@pytest.mark.parametrize("name", [METADATA, TENSORS, "side/a.txt"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    save(tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    with pytest.raises(ArtefactError):
        load_artefact(tmp_path / "a", format_name="one", version=1)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format": ', "\xff"])
def test_metadata_that_is_no_json_is_refused(tmp_path: Path, content: str) -> None:
    save(tmp_path / "a")
    (tmp_path / "a" / METADATA).write_text(content, encoding="latin-1")
    with pytest.raises(ArtefactError, match=r"is damaged \(.*\); write the artefact again"):
        load_artefact(tmp_path / "a", format_name="one", version=1)


def test_metadata_with_nan_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a")
    path = tmp_path / "a" / METADATA
    path.write_text(json.dumps(json.loads(path.read_text()) | {"price": float("nan")}))
    with pytest.raises(ArtefactError, match=r"is damaged \(.*\); write the artefact again"):
        load_artefact(tmp_path / "a", format_name="one", version=1)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn])
def test_tensors_of_types_that_numpy_lacks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: torch.dtype) -> None:
    save(tmp_path / "a")
    safetensors.torch.save_file({"x": torch.zeros(3).to(kind)}, tmp_path / "a" / TENSORS)
    content_hash = json.loads((tmp_path / "a" / METADATA).read_text())["content_hash"]
    monkeypatch.setattr("neuromorphic_llm.artefact._hash", lambda *_: content_hash)
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_artefact(tmp_path / "a", format_name="one", version=1)


def test_an_artefact_is_no_private_file(tmp_path: Path) -> None:
    save(tmp_path / "a")
    modes = {name: (tmp_path / "a" / name).stat().st_mode for name in (METADATA, TENSORS, "side/a.txt")}
    assert len(set(modes.values())) == 1, modes
