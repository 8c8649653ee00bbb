"""Texts of the user are read or refused; a text file of ours is whole or not there."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from neuromorphic_llm.errors import NeuromorphicLLMError, UsageError
from neuromorphic_llm.text_file import read_text, write_text


def test_write_text_is_atomic(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", '{"a": 1}')
    assert (tmp_path / "a.json").read_text() == '{"a": 1}'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(NeuromorphicLLMError, match="cannot be written"):
        write_text(tmp_path / "absent" / "a.json", "")


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "a")
    write_text(tmp_path / "link", "b")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "b"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "a")
    assert os.read(reader, 8) == b"a" and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    os.close(reader)


def test_a_path_that_is_no_utf8_stays_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    write_text(tmp_path / "a.json", json.dumps(name, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == name


def test_texts_of_the_user(tmp_path: Path) -> None:
    plain, lines = tmp_path / "a.txt", tmp_path / "a.jsonl"
    plain.write_text('{"text": "é"}\n', encoding="utf-8")
    assert read_text(plain, "--text") == '{"text": "é"}\n'
    lines.write_text('{"text": "One.\u2028Two."}\n\n{"article": "Three.", "highlights": ""}\n', encoding="utf-8")
    assert read_text(lines, "--text") == "One.\u2028Two.\n\nThree."
    lines.write_text("", encoding="utf-8")
    assert read_text(lines, "--text") == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", r"--text .*a.jsonl is not UTF-8 text \(byte 0\); give a text file"),
        (b'{"text": "a"}\n{"text": ', r"--text .*a.jsonl, line 2 is not JSON \(.*\); give lines of JSON"),
        (b'{"text": 3}', "line 1 has no field text or article with a text"),
        (b"[1]", "line 1 has no field text or article with a text"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (b'{"text": "\\ud83d\\ude00 \\ud800 dog"}', r"line 1: \\ud800 is half a character, which no text holds; write both halves"),
    ],
)
def test_texts_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(NeuromorphicLLMError, match=message):
        read_text(tmp_path / "a.jsonl", "--text")
    with pytest.raises(UsageError, match=r"--text .* cannot be read \(Is a directory\)"):
        read_text(tmp_path, "--text")
