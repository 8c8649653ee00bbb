"""A text file is whole or not there."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.text_file import write_text


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
