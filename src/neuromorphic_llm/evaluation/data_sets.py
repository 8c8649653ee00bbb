"""The evaluation data sets: where they come from, and how the files that the tasks read are made of them (docs/reference/data.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromorphic_llm.errors import DataError
from neuromorphic_llm.evaluation.raw_data import lines, member, rows
from neuromorphic_llm.registry import Registry

SUMMARIES = 500
"""Articles of CNN/DailyMail that are kept, the first of the split."""
_CALIBRATION_LINES = 1000


@dataclass(frozen=True)
class DataSet:
    """One file that tasks read; `hub` is (data set, revision), `sources` lists the files it can be made of, the first that is found.

    A source is one pattern or several that are needed together, of names on the hub or in a folder of downloads. `exact`: the result
    must have the hash `sha256`; otherwise that is the copy on which this project's figures were measured.
    """

    name: str
    file: str
    hub: tuple[str, str | None]
    sources: tuple[tuple[str, ...], ...]
    make: Callable[[Sequence[Path]], bytes]
    sha256: str
    licence: str
    origin: str
    exact: bool = False


def _dumped(found: Iterable[Mapping[str, Any]]) -> bytes:
    """One JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found).encode()


def _field(row: Mapping[str, Any], name: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = row.get(name)
    if not isinstance(value, kind):
        raise DataError(f"{where}: field {name!r} is missing or of another kind; give the file that the data set's authors offer")
    return value


def _each(paths: Sequence[Path], limit: int | None = None) -> Iterable[tuple[str, dict[str, Any]]]:
    """(place for messages, row) of the files, in order."""
    count = 0
    for path in paths:
        for number, row in enumerate(rows(path), start=1):
            if count == limit:
                return
            count += 1
            yield f"{path}, row {number}", row


def wikitext(paths: Sequence[Path]) -> bytes:
    """The text file itself, out of its archive, or of rows with one line each, of which the hub has emptied the blank ones."""
    path = paths[0]
    if path.suffix == ".zip":
        return member(path, "wiki.test.raw" if "raw" in path.name else "wiki.test.tokens")
    if path.name.endswith(".parquet"):
        return "".join(_field(row, "text", str, where) or " \n" for where, row in _each(paths)).encode()
    return path.read_bytes()


def cnn_dailymail(paths: Sequence[Path]) -> bytes:
    """The first articles: {id, article, highlights}."""
    names = ("id", "article", "highlights")
    return _dumped({name: _field(row, name, str, where) for name in names} for where, row in _each(paths, SUMMARIES))


def lambada(paths: Sequence[Path]) -> bytes:
    """OpenAI's file itself, or rows {text}."""
    if paths[0].suffix == ".jsonl":
        return paths[0].read_bytes()
    return _dumped({"text": _field(row, "text", str, where)} for where, row in _each(paths))


def _cleaned(text: str) -> str:
    """A text of WikiHow without the marks of its parts; words stay as they are."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[(?:header|title|step|substeps)\]", "", text).replace("  ", " ")


def hellaswag(paths: Sequence[Path]) -> bytes:
    """{ind, query, gold, choices} of the validation split."""
    found = []
    for where, row in _each(paths):
        endings = _field(row, "endings", list, where)
        gold = int(_field(row, "label", (int, str), where))
        query = _cleaned(f"{_field(row, 'activity_label', str, where)}: {_field(row, 'ctx', str, where)}")
        found.append({"ind": row.get("ind"), "query": query, "gold": gold, "choices": [_cleaned(each) for each in endings]})
    return _dumped(found)


def piqa(paths: Sequence[Path]) -> bytes:
    """{choices, gold, query} of the validation split: an archive, a file and its labels, or rows with both."""
    path = paths[0]
    if path.suffix == ".zip":
        questions = [json.loads(line) for line in member(path, "dev.jsonl").decode().splitlines() if line.strip()]
        labels = member(path, "dev-labels.lst").decode().split()
    else:
        questions = list(rows(path))
        labels = [] if len(paths) == 1 else [line.strip() for line in lines(paths[1]) if line.strip()]
    if len(paths) > 1 or path.suffix == ".zip":
        if len(labels) != len(questions):
            raise DataError(f"{path}: {len(questions)} questions and {len(labels)} labels; give the files of one split")
        questions = [{**row, "label": label} for row, label in zip(questions, labels, strict=True)]
    found = []
    for number, row in enumerate(questions, start=1):
        where = f"{path}, row {number}"
        choices = [_field(row, name, str, where) for name in ("sol1", "sol2")]
        gold = int(_field(row, "label", (int, str), where))
        found.append({"choices": choices, "gold": gold, "query": f"Question: {_field(row, 'goal', str, where)}\n"})
    return _dumped(found)


def arc(paths: Sequence[Path]) -> bytes:
    """{choices, query, gold} of the test split, from the hub's rows or the authors' ones."""
    found = []
    for where, row in _each(paths):
        question = row.get("question")
        if isinstance(question, dict):  # the authors' file
            stem, listed = _field(question, "stem", str, where), _field(question, "choices", list, where)
            texts, labels = [each["text"] for each in listed], [each["label"] for each in listed]
        else:
            stem, listed = _field(row, "question", str, where), _field(row, "choices", dict, where)
            texts, labels = list(listed["text"]), list(listed["label"])
        answer = _field(row, "answerKey", str, where)
        if answer not in labels:
            raise DataError(f"{where}: the answer {answer!r} is none of {', '.join(labels)}; fetch the file again")
        found.append({"choices": texts, "query": f"Question: {stem}", "gold": labels.index(answer)})
    return _dumped(found)


def c4(paths: Sequence[Path]) -> bytes:
    """The first lines, as they are."""
    return "".join(line + "\n" for line in lines(paths[0], _CALIBRATION_LINES)).encode()


_WIKI = "Salesforce/wikitext"
_ARC = ("allenai/ai2_arc", None)

_DATA_SETS = (
    DataSet(
        "wikitext2", "wikitext-2/wiki.test.raw", (_WIKI, None),
        (("wikitext-2-raw-v1/test-*.parquet",), ("wiki.test.raw",), ("wikitext-2-raw*.zip",)), wikitext,
        "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08", "CC BY-SA 3.0 / GFDL", "Merity and others, 2016", True,
    ),
    DataSet(
        "wikitext103", "wikitext-103/wiki.test.tokens", (_WIKI, None),
        (("wikitext-103-v1/test-*.parquet",), ("wikitext-103/wiki.test.tokens",), ("wikitext-103-v1.zip",)), wikitext,
        "56db52eb157b1ab5c89646eef70510c1eca6e12a3bfdb99f0d6b05b4eacb75b9", "CC BY-SA 3.0 / GFDL", "Merity and others, 2016", True,
    ),
    DataSet(
        "cnn_dailymail", "cnn_dailymail/test_first500.jsonl", ("abisee/cnn_dailymail", None),
        (("3.0.0/test-*.parquet",),), cnn_dailymail,
        "582ab0e23271fef4cb7d59e2cb66edfa08e721ca91c7049a962191946f4d9598", "texts (c) CNN and Daily Mail, for research",
        "See and others, 2017, version 3.0.0",
    ),
    DataSet(
        "hellaswag", "multiple_choice/hellaswag.jsonl", ("Rowan/hellaswag", None),
        (("data/validation-*.parquet",), ("hellaswag_val.jsonl",)), hellaswag,
        "1f362de39d9ffbe50b211e102fb7192ae726158e2cdf973ff48b11c7c9875e7e", "MIT", "Zellers and others, 2019",
    ),
    DataSet(
        "piqa", "multiple_choice/piqa.jsonl", ("ybisk/piqa", "refs/convert/parquet"),
        (("plain_text/validation/*.parquet",), ("dev.jsonl", "dev-labels.lst"), ("physicaliqa-train-dev.zip",)), piqa,
        "d2870e73aec5154df3faf259b7700876e11608eebdf69e9d6667435673dbe4e0", "AFL 3.0", "Bisk and others, 2020",
    ),
    DataSet(
        "arc_easy", "multiple_choice/arc_easy.jsonl", _ARC, (("ARC-Easy/test-*.parquet",), ("ARC-Easy-Test.jsonl",)), arc,
        "d2d12e59543acf9a5ef6079634a72b30215e36c2fd4236fff3bc855d287b87f5", "CC BY-SA 4.0", "Clark and others, 2018",
    ),
    DataSet(
        "arc_challenge", "multiple_choice/arc_challenge.jsonl", _ARC,
        (("ARC-Challenge/test-*.parquet",), ("ARC-Challenge-Test.jsonl",)), arc,
        "1ae3aeedf1951d881cbd5c2e3a31e78a1993d251479afbe4cb413b6707244636", "CC BY-SA 4.0", "Clark and others, 2018",
    ),
    DataSet(
        "lambada", "lambada/lambada_test.jsonl", ("EleutherAI/lambada_openai", None),
        (("data/lambada_test.jsonl",), ("data/lambada_test_en.jsonl",), ("lambada_test.jsonl",), ("en/test-*.parquet",)), lambada,
        "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226", "CC BY 4.0", "Paperno and others, 2016, OpenAI's form",
    ),
    DataSet(
        "c4", "c4/c4_en_train_first1000.jsonl", ("allenai/c4", None), (("en/c4-train.00000-of-01024.json.gz",),), c4,
        "cdd5b754119131d2934e3e799a059a9d64f53a6aac9e7e2ef79b43120bb01a32", "ODC-BY", "Raffel and others, 2020; text to train on",
    ),
)  # fmt: skip

DATA_SETS: Registry[DataSet] = Registry("data set", ((each.name, each) for each in _DATA_SETS))
"""Name, that of the task that reads it, -> data set; `c4` is text for `finetune` and calibration."""
