"""Where task data come from, and what is said when they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation import data_folder
from neuromorphic_llm.evaluation.tasks import TASKS, load_documents, load_questions, load_text


def test_default_text_is_in_the_package() -> None:
    assert len(load_text(TASKS["default"]).split()) > 1500


def test_unknown_task_suggests_the_closest() -> None:
    with pytest.raises(UsageError, match="did you mean 'wikitext2'"):
        TASKS["wikitext"]


def test_data_folder_then_file_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wikitext-2").mkdir()
    (tmp_path / "wikitext-2" / "wiki.test.raw").write_text(" = Title = \n text")
    (tmp_path / "other").write_text("other text")
    monkeypatch.setenv("NMLLM_DATA", str(tmp_path))
    assert load_text(TASKS["wikitext2"]) == " = Title = \n text"
    assert load_text(TASKS["wikitext2"], tmp_path / "other") == "other text"


def test_missing_data_lists_what_was_looked_for_and_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMLLM_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"wiki\.test\.raw; nmllm fetch --data wikitext2 brings them.*--data FILE"):
        load_text(TASKS["wikitext2"])
    for name, load in (("cnn_dailymail", load_documents), ("piqa", load_questions)):
        with pytest.raises(DataError, match=f"nmllm fetch --data {name} brings them"):
            load(TASKS[name])


def test_the_working_directory_is_no_place_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$NMLLM_DATA alone, or the cache and what lies beside a checkout; a package that is installed has no repository."""
    inside, work, cache = tmp_path / "repository", tmp_path / "a" / "b", tmp_path / "cache"
    for folder in (work.parent, tmp_path):
        (folder / "shared" / "data" / "wikitext-2").mkdir(parents=True)
    (work.parent / "shared" / "data" / "wikitext-2" / "wiki.test.raw").write_text("of the working directory")
    (tmp_path / "shared" / "data" / "wikitext-2" / "wiki.test.raw").write_text("beside the repository")
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("NMLLM_DATA", raising=False)
    monkeypatch.setenv("NMLLM_CACHE", str(cache))
    monkeypatch.setattr(data_folder, "REPOSITORY", inside)
    monkeypatch.setattr(data_folder, "IS_CHECKOUT", False)
    with pytest.raises(DataError, match=f"looked for {cache}/data/wikitext-2/wiki.test.raw; nmllm"):
        load_text(TASKS["wikitext2"])
    monkeypatch.setattr(data_folder, "IS_CHECKOUT", True)
    assert load_text(TASKS["wikitext2"]) == "beside the repository"
    (cache / "data" / "wikitext-2").mkdir(parents=True)
    (cache / "data" / "wikitext-2" / "wiki.test.raw").write_text("of the cache")
    assert load_text(TASKS["wikitext2"]) == "of the cache"
    monkeypatch.setenv("NMLLM_DATA", str(tmp_path / "empty"))
    with pytest.raises(DataError, match=f"looked for {tmp_path}/empty/wikitext-2/wiki.test.raw; nmllm"):
        load_text(TASKS["wikitext2"])


@pytest.mark.parametrize(("content", "message"), [(b"\xff\xfe\xff", "UTF-8"), (b" \n ", "no text")])
def test_bad_text_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_text(TASKS["default"], tmp_path / "text")


def test_missing_file_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_text(TASKS["default"], tmp_path / "absent")


def test_what_is_no_file_says_what_it_is(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "is a folder"), (Path(""), "--data is empty, or the current folder"), (Path("/dev/null"), "device")):
        with pytest.raises(DataError, match=message):
            load_text(TASKS["default"], path)


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
        (load_documents if task == "cnn_dailymail" else load_questions)(TASKS[task], tmp_path / "q.jsonl")


def test_whole_characters_and_other_line_ends_are_text(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"text": "The\\ud83d\\ude00 dog\u2028 ran"}\r\n', encoding="utf-8", newline="")
    (question,) = load_questions(TASKS["lambada"], tmp_path / "q.jsonl")
    assert question.context == "The\U0001f600 dog\u2028" and question.choices == ("ran",)


def test_documents_and_limit(tmp_path: Path) -> None:
    rows = [{"id": str(i), "article": f"article {i}", "highlights": "short"} for i in range(4)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    documents = load_documents(TASKS["cnn_dailymail"], tmp_path / "d.jsonl", 2)
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
        load_documents(TASKS["cnn_dailymail"], tmp_path / "d.jsonl")


def test_kind_of_task_is_checked() -> None:
    with pytest.raises(UsageError, match="not a summary task"):
        load_documents(TASKS["default"])
    with pytest.raises(UsageError, match="not a language-model task"):
        load_text(TASKS["cnn_dailymail"])
