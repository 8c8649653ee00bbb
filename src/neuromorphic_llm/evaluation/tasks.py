"""Evaluation tasks and where their data come from (docs/reference/evaluation.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation.data_folder import data_folders, find_data
from neuromorphic_llm.registry import Registry
from neuromorphic_llm.text_file import LIMITS, FileRefusedError, decode_text, half_character, read_bytes


@dataclass(frozen=True)
class Document:
    """An article with its reference summary."""

    id: str
    article: str
    highlights: str


@dataclass(frozen=True)
class Question:
    """A context and its possible continuations, of which number `gold` is right."""

    context: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Task:
    """A data set and what is done with it; `file` is relative to a data folder.

    `members`: names of the tasks that this one stands for.
    """

    name: str
    kind: Literal["language-model", "summaries", "zero-shot"]
    file: str | None = None
    members: tuple[str, ...] = ()


_TASKS = (
    Task("default", "language-model"),
    Task("wikitext2", "language-model", "wikitext-2/wiki.test.raw"),
    Task("wikitext103", "language-model", "wikitext-103/wiki.test.tokens"),
    Task("cnn_dailymail", "summaries", "cnn_dailymail/test_first500.jsonl"),
    Task("hellaswag", "zero-shot", "multiple_choice/hellaswag.jsonl"),
    Task("piqa", "zero-shot", "multiple_choice/piqa.jsonl"),
    Task("arc_easy", "zero-shot", "multiple_choice/arc_easy.jsonl"),
    Task("arc_challenge", "zero-shot", "multiple_choice/arc_challenge.jsonl"),
    Task("lambada", "zero-shot", "lambada/lambada_test.jsonl"),
    Task("zero-shot", "zero-shot", members=("hellaswag", "piqa", "arc_easy", "lambada")),
)

TASKS: Registry[Task] = Registry("task", ((task.name, task) for task in _TASKS))


def data_file(task: Task) -> Path | None:
    """File with the data of a task on this machine; None if it is not here, or the task has none of its own."""
    return None if task.file is None else find_data(task.file)


def load_text(task: Task, data: Path | None = None) -> str:
    """The text of a language-model task, verbatim: --data, or the file in a data folder (data_folder.py).

    Raises DataError that lists what was looked for, or says that the file holds no text.
    """
    if task.kind != "language-model":
        raise UsageError(f"task {task.name!r} is not a language-model task; use one of {_names('language-model')}")
    if task.file is None and data is None:
        return files("neuromorphic_llm.evaluation").joinpath("default.txt").read_text(encoding="utf-8")
    path = _find(task, data)
    text = _read(path)
    if not text.strip():
        raise DataError(f"{path} holds no text; give a file with some")
    return text


def load_documents(task: Task, data: Path | None = None, limit: int | None = None) -> list[Document]:
    """The first `limit` documents of a summary task: one JSON object {id, article, highlights} a line.

    Raises DataError naming file, line and field, or what was looked for.
    """
    if task.kind != "summaries":
        raise UsageError(f"task {task.name!r} is not a summary task; use one of {_names('summaries')}")
    path = _find(task, data)
    documents = [_document(row, where) for where, row in _rows(path, limit)]
    if not documents:
        raise DataError(f"{path} holds no documents; expected lines of JSON with id, article and highlights")
    return documents


def load_questions(task: Task, data: Path | None = None, limit: int | None = None) -> list[Question]:
    """The first `limit` questions of a zero-shot task that has data of its own.

    A line is one JSON object: {query, choices, gold}, or {text} for LAMBADA, whose last word is the only choice.
    Contexts are lm-eval-harness's: questions that begin with "Question:" end with "Answer:".
    Raises DataError naming file, line and field, or what was looked for.
    """
    if task.kind != "zero-shot" or task.members:
        raise UsageError(f"task {task.name!r} has no questions of its own; use one of {_names('zero-shot')}")
    path = _find(task, data)
    build = _last_word if task.name == "lambada" else _question
    questions = [build(row, where) for where, row in _rows(path, limit)]
    if not questions:
        raise DataError(f"{path} holds no questions; expected lines of JSON, one object each")
    return questions


def _rows(path: Path, limit: int | None) -> Iterator[tuple[str, Any]]:
    """(place for messages, JSON value) of the first `limit` lines that are not empty."""
    found = 0
    # Not splitlines(): a JSON string may hold characters that end a line elsewhere.
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if found == limit:
            return
        if line.strip():
            found += 1
            yield f"{path}, line {number}", _row(line, f"{path}, line {number}")


def _row(line: str, where: str) -> Any:
    """The JSON value of one line, all of whose texts are Unicode."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg}); one object a line is expected") from error
    except (ValueError, RecursionError) as error:  # numbers of too many digits, brackets in brackets
        raise DataError(f"{where}: JSON that cannot be read ({error}); one object a line is expected") from error
    if half := half_character(line, row):
        raise DataError(f"{where}: {half} is half a character, which no text holds; write both halves, or the character itself")
    return row


def _question(row: Any, where: str) -> Question:
    fields = "query (text), choices (two texts or more) and gold (index of the right one)"
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object; expected {fields}")
    query, choices, gold = row.get("query"), row.get("choices"), row.get("gold")
    if not isinstance(query, str) or not query.strip():
        raise DataError(f"{where}: field 'query' is missing or empty; expected {fields}")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(choice, str) and choice for choice in choices):
        raise DataError(f"{where}: field 'choices' is no list of texts; expected {fields}")
    if type(gold) is not int or not 0 <= gold < len(choices):
        raise DataError(f"{where}: field 'gold' is no index of a choice; expected {fields}")
    context = f"{query.rstrip()}\nAnswer:" if query.startswith("Question:") else query
    return Question(context, tuple(choices), gold)


def _last_word(row: Any, where: str) -> Question:
    text = row.get("text") if isinstance(row, dict) else None
    context, _, word = text.rpartition(" ") if isinstance(text, str) else ("", "", "")
    if not context.strip() or not word:
        raise DataError(f"{where}: field 'text' is missing or has fewer than two words; expected an object with a text")
    return Question(context, (word,), 0)


def _names(kind: str) -> str:
    return ", ".join(task.name for task in TASKS.values() if task.kind == kind)


def _document(row: Any, where: str) -> Document:
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object; expected id, article and highlights")
    for field in ("article", "highlights"):
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise DataError(f"{where}: field {field!r} is missing or empty; expected id, article and highlights")
    return Document(str(row.get("id", where)), row["article"], row["highlights"])


def _read(path: Path) -> str:
    try:
        return decode_text(read_bytes(path, LIMITS["data"]))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); give a text file") from error
    except FileRefusedError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give another file") from error


def _find(task: Task, data: Path | None) -> Path:
    """The local file of a task. DataError that lists what was looked for and says which command brings it."""
    if data is not None:
        _check_file(data)
        return data
    assert task.file is not None
    if found := find_data(task.file):
        return found
    looked = ", ".join(str(folder / task.file) for folder in data_folders())
    raise DataError(
        f"no data for task {task.name!r}: looked for {looked}; nmllm fetch --data {task.name} brings them, or give a file with --data FILE"
    )


def _check_file(data: Path) -> None:
    """DataError that says why `data`, what --data names, is no file."""
    if data == Path():  # what an empty argument becomes
        raise DataError("--data is empty, or the current folder; give an existing file")
    if data.is_dir():
        raise DataError(f"--data {data} is a folder; give a file in it")
    if not data.exists():
        raise DataError(f"--data {data}: no such file; give an existing file")
    if not data.is_file():
        raise DataError(f"--data {data} is a device or a pipe; give a file")
