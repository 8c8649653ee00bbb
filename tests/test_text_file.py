"""A text file is whole or not there."""

from __future__ import annotations

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
