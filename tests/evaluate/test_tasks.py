"""Where task data come from, and what is said when they do not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluate.tasks import get_task, load_documents, load_questions, load_text


def test_default_text_is_in_the_package() -> None:
    assert len(load_text(get_task("default")).split()) > 1500


def test_unknown_task_suggests_the_closest() -> None:
    with pytest.raises(UsageError, match="did you mean 'wikitext2'"):
        get_task("wikitext")


def test_data_folder_then_file_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wikitext-2").mkdir()
    (tmp_path / "wikitext-2" / "wiki.test.raw").write_text(" = Title = \n text")
    (tmp_path / "other").write_text("other text")
    monkeypatch.setenv("NMLLM_DATA", str(tmp_path))
    assert load_text(get_task("wikitext2")) == " = Title = \n text"
    assert load_text(get_task("wikitext2"), tmp_path / "other") == "other text"


def test_missing_data_lists_what_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("NMLLM_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"wiki\.test\.raw.*not installed.*--data"):
        load_text(get_task("wikitext2"))


@pytest.mark.parametrize(("content", "message"), [(b"\xff\xfe\xff", "UTF-8"), (b" \n ", "no text")])
def test_bad_text_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_text(get_task("default"), tmp_path / "text")


def test_missing_file_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_text(get_task("default"), tmp_path / "absent")


def test_what_is_no_file_says_what_it_is(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "is a folder"), (Path(""), "--data is empty, or the current folder"), (Path("/dev/null"), "device")):
        with pytest.raises(DataError, match=message):
            load_text(get_task("default"), path)


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("piqa", r'{"query": "The \ud800 dog", "choices": ["ran.", "sat."], "gold": 0}', r"line 2: \\ud800 is half a character"),
        ("piqa", r'{"query": "The dog", "choices": ["ran.", "\udc00"], "gold": 0}', r"line 2: \\udc00 is half a character"),
        ("lambada", r'{"text": "The dog \ud83d"}', r"line 2: \\ud83d is half a character"),
        ("piqa", "[" * 100_000, "line 2: JSON that cannot be read"),
        ("piqa", '{"gold": ' + "1" * 5000 + "}", "line 2: JSON that cannot be read"),
        ("piqa", '{"query": "The dog", "choices": ["ran.", "sat."], "gold": true}', "line 2: field 'gold' is no index"),
        ("cnn_dailymail", r'{"article": "a \ud800", "highlights": "b"}', r"line 2: \\ud800 is half a character"),
    ],
    ids=["query", "choice", "text", "brackets", "digits", "boolean", "article"],
)
def test_lines_that_are_no_text(tmp_path: Path, task: str, line: str, message: str) -> None:
    (tmp_path / "q.jsonl").write_text("\n" + line)
    with pytest.raises(DataError, match=message):
        (load_documents if task == "cnn_dailymail" else load_questions)(get_task(task), tmp_path / "q.jsonl")


def test_whole_characters_and_other_line_ends_are_text(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"text": "The\\ud83d\\ude00 dog\u2028 ran"}\r\n', encoding="utf-8", newline="")
    (question,) = load_questions(get_task("lambada"), tmp_path / "q.jsonl")
    assert question.context == "The\U0001f600 dog\u2028" and question.choices == ("ran",)


def test_documents_and_limit(tmp_path: Path) -> None:
    rows = [{"id": str(i), "article": f"article {i}", "highlights": "short"} for i in range(4)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    documents = load_documents(get_task("cnn_dailymail"), tmp_path / "d.jsonl", 2)
    assert [document.id for document in documents] == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "not a JSON object"),
        ('{"article": "a"}', "'highlights'"),
        ('{"article": "", "highlights": "b"}', "'article'"),
        ("", "no documents"),
    ],
)
def test_bad_documents(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "d.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        load_documents(get_task("cnn_dailymail"), tmp_path / "d.jsonl")


def test_kind_of_task_is_checked() -> None:
    with pytest.raises(UsageError, match="not a summary task"):
        load_documents(get_task("default"))
    with pytest.raises(UsageError, match="not a language-model task"):
        load_text(get_task("cnn_dailymail"))
