"""Files that a user names are bounded before they are read, and are files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch import Tensor

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.models.files import RawCheckpoint, write_folder
from neuromorphic_llm.models.registry import KNOWN_MODELS
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.text_file import LIMITS, FileRefusedError, Limit, decode_text, read_bytes

SMALL = Limit(1000, "such a file")
NMLLM = [sys.executable, "-m", "neuromorphic_llm.cli"]


def test_a_file_up_to_its_bound_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1000)
    assert read_bytes(path, SMALL) == b"x" * 1000
    path.write_bytes(b"x" * 1001)
    with pytest.raises(FileRefusedError, match=r"a has 1001 bytes, such a file has at most 1000 bytes; give a smaller file"):
        read_bytes(path, SMALL)
    os.truncate(path, 1 << 40)  # a hole, which takes no room on the disk and would take all memory
    with pytest.raises(FileRefusedError, match="1,024 GiB"):
        read_bytes(path, SMALL)


def test_a_file_that_has_no_size_is_bounded_too(tmp_path: Path) -> None:
    if Path("/proc/self/maps").exists():
        with pytest.raises(FileRefusedError, match="more than 10 bytes, the most of such a file"):
            read_bytes("/proc/self/maps", Limit(10, "such a file"))


def test_what_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("link").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name, what in {"pipe": "a named pipe", "/dev/zero": "a device", "link": "a device"}.items():
            with pytest.raises(FileRefusedError, match=f"{name} is {what}, not a file; give a regular file"):
                read_bytes(name, SMALL)
        with pytest.raises((FileRefusedError, OSError)):
            read_bytes("socket", SMALL)
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path, SMALL)


def test_a_pipe_of_the_shell_is_read_up_to_the_bound(tmp_path: Path) -> None:
    for content, fits in ((b"a river", True), (b"x" * 1001, False)):
        reader, writer = os.pipe()
        os.write(writer, content)
        os.close(writer)
        if fits:
            assert read_bytes(f"/dev/fd/{reader}", SMALL) == content
        else:
            with pytest.raises(FileRefusedError, match="more than 1000 bytes"):
                read_bytes(f"/dev/fd/{reader}", SMALL)
        os.close(reader)


def test_line_ends_as_python_reads_them(tmp_path: Path) -> None:
    content = "a\r\nb\rc\nd\u2028e".encode()
    (tmp_path / "a").write_bytes(content)
    assert decode_text(content) == (tmp_path / "a").read_text(encoding="utf-8")


def test_no_model_of_the_package_comes_near_a_bound() -> None:
    assert LIMITS["prompt"].size >= 8192 * 64 and "nano" in KNOWN_MODELS


READERS = {
    "prompt": (["simulate", "p", "--prompt-file", "{}"], "--prompt-file", 1 << 20),
    "cosim": (["cosim", "p", "--prompt-file", "{}"], "--prompt-file", 1 << 20),
    "chip": (["compile", "net", "-o", "o", "--chip", "{}"], "chip file", 1 << 16),
    "chip of run": (["run", "random-tiny", "-o", "o", "--chip", "{}"], "chip file", 1 << 16),
    "article": (["run", "random-tiny", "-o", "o", "--article", "{}"], "--article", 1 << 23),
    "calibration": (["convert", "random-tiny", "-o", "o", "--calibration", "{}"], "--calibration", 1 << 26),
    "text": (["finetune", "random-tiny", "-o", "o", "--text", "{}"], "--text", 1 << 30),
    "ssa": (["ssa", "random-tiny", "--text", "{}"], "--text", 1 << 30),
    "data": (["eval", "random-tiny", "--data", "{}", "--task", "wikitext2"], "", 1 << 30),
    "questions": (["eval", "random-tiny", "--data", "{}", "--task", "piqa"], "", 1 << 30),
    "documents": (["eval", "random-tiny", "--data", "{}", "--task", "cnn_dailymail"], "", 1 << 30),
}


@pytest.mark.parametrize("kind", ["zeros", "pipe", "device", "folder", "link"])
@pytest.mark.parametrize("name", READERS)
def test_every_file_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    arguments, option, size = READERS[name]
    monkeypatch.chdir(tmp_path)
    SpikingNetwork(random_decoder(0)).save("net")
    if kind == "zeros":
        Path("file").touch()
        os.truncate("file", size + 1)
    elif kind == "pipe":
        os.mkfifo("file")
    elif kind == "folder":
        Path("file").mkdir()
    else:
        Path("file").symlink_to("/dev/zero")
    given = "/dev/zero" if kind == "device" else "file"
    begin = time.perf_counter()
    assert run_command_line([part.format(given) for part in arguments]) in (1, 2)
    assert time.perf_counter() - begin < 30
    error = capsys.readouterr().err
    assert error.startswith("nmllm: error: ") and error.count("\n") == 1 and given in error
    assert "; give" in error and (option in error or kind == "folder") and "internal" not in error


def _untied(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in checkpoint.tensors.items() if name != "lm_head.weight"}


CHECKPOINT_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
@pytest.mark.parametrize("kind", ["large", "pipe", "folder"])
def test_files_of_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str) -> None:
    checkpoint = load_checkpoint("random-tiny")
    write_folder(RawCheckpoint(dict(checkpoint.hugging_face_config), _untied(checkpoint), checkpoint.tokenizer_files), tmp_path / "m")
    path = tmp_path / "m" / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 1 << 38)
    if name == "generation_config.json" and kind != "large":
        return  # one that is no file is none
    with pytest.raises(NeuromorphicLLMError, match=name) as error:
        load_checkpoint(tmp_path / "m").tokenizer()
    assert "; " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["artefact.json", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize("kind", ["large", "pipe", "folder"])
def test_files_of_an_artefact(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str) -> None:
    SpikingNetwork(random_decoder(0), tokenizer_files={"tokenizer.json": b"{}"}).save(tmp_path / "net")
    path = tmp_path / "net" / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 1 << 38)
    assert run_command_line(["compile", str(tmp_path / "net"), "--chip", "nano", "-o", str(tmp_path / "o")]) == 1
    error = capsys.readouterr().err
    assert (name in error and "write the artefact again" in error) or "copy this one whole" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", [None, "[" * 100_000, "9" * 10_000])
def test_a_report_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None) -> None:
    path = tmp_path / "report.json"
    path.write_text(content or "")
    if content is None:
        os.truncate(path, 1 << 38)
    assert run_command_line(["report", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "report.json" in error and error.count("\n") == 1 and "internal" not in error


def test_endless_standard_input_ends_at_the_bound(tmp_path: Path) -> None:
    result = subprocess.run(
        ["bash", "-c", f"yes | {' '.join(NMLLM)} simulate p --prompt-file /dev/stdin"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "--prompt-file /dev/stdin has more than 1 MiB, the most of a prompt; give a smaller file" in result.stderr


def test_a_chip_through_a_pipe_of_the_shell(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"rows: 64\n")
    os.close(writer)
    assert load_spec(f"/dev/fd/{reader}").synapse.rows == 64
    os.close(reader)
