"""Fetched data sets: conversions of small files in the formats of the hub and the authors, checksums, and nothing half-written."""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation import data_sets, fetch_data
from neuromorphic_llm.evaluation.data_sets import DATA_SETS
from neuromorphic_llm.evaluation.fetch_data import CHECKSUMS, chosen_sets
from neuromorphic_llm.evaluation.tasks import TASKS, Question, load_documents, load_questions, load_text

TEXT = " \n = Robert Boulter = \n \n An actor , of film . \n \n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NMLLM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def fetch(name: str, source: Path, *, force: bool = False, exact: bool = False) -> fetch_data.FetchedData:
    return fetch_data.fetch_data(replace(DATA_SETS[name], exact=exact), source, force=force)


def hub_rows(text: str) -> list[dict[str, Any]]:
    """As the hub's script makes rows of the file: blank lines become empty."""
    return [{"text": line if line.strip() else ""} for line in text.splitlines(keepends=True)]


@pytest.mark.parametrize(("name", "folder"), [("wikitext2", "wikitext-2-raw-v1"), ("wikitext103", "wikitext-103-v1")])
def test_wikitext(home: Path, raw: Path, name: str, folder: str) -> None:
    parquet(raw / folder / "test-00000-of-00001.parquet", hub_rows(TEXT))
    assert fetch(name, raw).fetched and load_text(TASKS[name]) == TEXT
    assert (home / CHECKSUMS).read_text() == f"{hashlib.sha256(TEXT.encode()).hexdigest()}  {DATA_SETS[name].file}\n"


@pytest.mark.parametrize(("name", "kind"), [("wikitext2", "raw"), ("wikitext103", "tokens")])
def test_wikitext_of_its_archive_and_its_file(home: Path, raw: Path, name: str, kind: str) -> None:
    archive = raw / f"wikitext-{'2-raw' if kind == 'raw' else '103'}-v1.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"wikitext/wiki.test.{kind}", TEXT)
    fetch(name, raw)
    assert load_text(TASKS[name]) == TEXT
    archive.unlink()
    (raw / "wikitext-103").mkdir()
    (raw / "wikitext-103" / f"wiki.test.{kind}").write_text("other")
    fetch(name, raw, force=True)
    assert load_text(TASKS[name]) == "other"


def test_the_official_wikitext_is_demanded(home: Path, raw: Path) -> None:
    (raw / "wiki.test.raw").write_text(TEXT)
    with pytest.raises(DataError, match=r"gives wikitext2 with SHA-256 .*, not 173c87a5.*another file"):
        fetch("wikitext2", raw, exact=True)
    assert not home.exists() and DATA_SETS["wikitext2"].exact


def test_real_files_survive_the_hub_s_form(home: Path, raw: Path, data_dir: Path) -> None:
    """Each of our copies, cut up as the hub's files are, comes back byte for byte, with its checksum."""
    for name, folder in (("wikitext2", "wikitext-2-raw-v1"), ("wikitext103", "wikitext-103-v1")):
        parquet(raw / folder / "test-00000-of-00001.parquet", hub_rows((data_dir / DATA_SETS[name].file).read_text(encoding="utf-8")))
    rows = [json.loads(line) for line in (data_dir / DATA_SETS["cnn_dailymail"].file).read_text(encoding="utf-8").split("\n") if line]
    parquet(raw / "3.0.0" / "test-00000-of-00001.parquet", [*rows, rows[0]])
    kept = (data_dir / DATA_SETS["piqa"].file).read_text(encoding="utf-8")
    questions = [json.loads(line) for line in kept.split("\n") if line]
    goals = [
        {"goal": each["query"][10:-1], "sol1": each["choices"][0], "sol2": each["choices"][1], "label": each["gold"]} for each in questions
    ]
    parquet(raw / "plain_text" / "validation" / "0000.parquet", goals)
    (raw / "lambada_test.jsonl").write_bytes((data_dir / DATA_SETS["lambada"].file).read_bytes())
    first = (data_dir / DATA_SETS["c4"].file).read_bytes()
    (raw / "en").mkdir()
    (raw / "en" / "c4-train.00000-of-01024.json.gz").write_bytes(gzip.compress(first + b'{"text":"one more"}\n', 1))
    for name in ("wikitext2", "wikitext103", "cnn_dailymail", "piqa", "lambada", "c4"):
        result = fetch_data.fetch_data(DATA_SETS[name], raw)
        assert result.as_measured and result.path.read_bytes() == (data_dir / DATA_SETS[name].file).read_bytes(), name
    sums = dict(reversed(line.split("  ")) for line in (data_dir / CHECKSUMS).read_text().splitlines())
    assert {each.file: each.sha256 for each in DATA_SETS.values()}.items() <= sums.items()


def test_summaries(home: Path, raw: Path) -> None:
    rows = [{"article": f"An article {i}.", "highlights": "Short é.", "id": str(i)} for i in range(502)]
    parquet(raw / "3.0.0" / "test-00000-of-00001.parquet", rows)
    fetch("cnn_dailymail", raw)
    documents = load_documents(TASKS["cnn_dailymail"])
    assert len(documents) == 500 and documents[1].article == "An article 1." and documents[0].highlights == "Short é."


def test_hellaswag(home: Path, raw: Path) -> None:
    row = {
        "ind": 14, "activity_label": "Family Life", "ctx": "[header] How to rest [title] Sit down. [step] Take a [soft] chair",
        "ctx_a": "x", "endings": ["and sleep. [substeps] Long.", "b", "c", "d"], "source_id": "s", "split": "val", "label": "2",
    }  # fmt: skip
    expected = [Question("Family Life: How to rest. Sit down. Take a [soft] chair", ("and sleep. Long.", "b", "c", "d"), 2)]
    parquet(raw / "data" / "validation-00000-of-00001.parquet", [row])
    fetch("hellaswag", raw)
    assert load_questions(TASKS["hellaswag"]) == expected
    (raw / "data" / "validation-00000-of-00001.parquet").unlink()
    jsonl(raw / "hellaswag_val.jsonl", [{**row, "label": 2}])
    fetch("hellaswag", raw, force=True)
    assert load_questions(TASKS["hellaswag"]) == expected


def test_piqa_in_its_three_forms(home: Path, raw: Path) -> None:
    rows = [{"goal": "How to rest?", "sol1": "Sit.", "sol2": "Run."}, {"goal": "dresser", "sol1": "a", "sol2": "b"}]
    expected = [Question("Question: How to rest?\nAnswer:", ("Sit.", "Run."), 0), Question("Question: dresser\nAnswer:", ("a", "b"), 1)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with zipfile.ZipFile(raw / "physicaliqa-train-dev.zip", "w") as archive:
        archive.writestr("physicaliqa-train-dev/train.jsonl", "")
        archive.writestr("physicaliqa-train-dev/dev.jsonl", text)
        archive.writestr("physicaliqa-train-dev/dev-labels.lst", "0\n1\n")
    contents = []
    contents.append(fetch("piqa", raw).path.read_bytes())
    assert load_questions(TASKS["piqa"]) == expected
    (raw / "dev.jsonl").write_text(text)
    (raw / "dev-labels.lst").write_text("0\n1\n")
    contents.append(fetch("piqa", raw, force=True).path.read_bytes())
    parquet(raw / "plain_text" / "validation" / "0000.parquet", [{**row, "label": label} for label, row in enumerate(rows)])
    contents.append(fetch("piqa", raw, force=True).path.read_bytes())
    assert len(set(contents)) == 1
    (raw / "plain_text" / "validation" / "0000.parquet").unlink()
    (raw / "dev-labels.lst").write_text("0\n")
    with pytest.raises(DataError, match="2 questions and 1 labels"):
        fetch("piqa", raw, force=True)
    assert load_questions(TASKS["piqa"]) == expected


@pytest.mark.parametrize(("name", "folder"), [("arc_easy", "ARC-Easy"), ("arc_challenge", "ARC-Challenge")])
def test_arc_from_the_hub_and_from_the_authors(home: Path, raw: Path, name: str, folder: str) -> None:
    expected = [Question("Question: Which is hot?\nAnswer:", ("ice", "fire", "snow"), 1)]
    row = {"id": "1", "question": "Which is hot?", "choices": {"text": ["ice", "fire", "snow"], "label": ["1", "2", "3"]}, "answerKey": "2"}
    parquet(raw / folder / "test-00000-of-00001.parquet", [row])
    fetch(name, raw)
    assert load_questions(TASKS[name]) == expected
    (raw / folder / "test-00000-of-00001.parquet").unlink()
    choices = [{"text": text, "label": label} for text, label in (("ice", "A"), ("fire", "B"), ("snow", "C"))]
    original = {"id": "1", "question": {"stem": "Which is hot?", "choices": choices}, "answerKey": "B"}
    jsonl(raw / f"{folder}-Test.jsonl", [original])
    fetch(name, raw, force=True)
    assert load_questions(TASKS[name]) == expected
    jsonl(raw / f"{folder}-Test.jsonl", [{**original, "answerKey": "E"}])
    with pytest.raises(DataError, match="row 1: the answer 'E' is none of A, B, C"):
        fetch(name, raw, force=True)


def test_lambada_and_c4(home: Path, raw: Path) -> None:
    parquet(raw / "en" / "test-00000-of-00001.parquet", [{"text": "to the sea"}])
    fetch("lambada", raw)
    assert load_questions(TASKS["lambada"]) == [Question("to the", ("sea",), 0)]
    lines = "".join(f'{{"text":"line {number}"}}\n' for number in range(1002))
    (raw / "en" / "c4-train.00000-of-01024.json.gz").write_bytes(gzip.compress(lines.encode()))
    assert fetch("c4", raw).path.read_text().splitlines() == lines.splitlines()[:1000]


def test_every_task_with_data_can_be_fetched() -> None:
    assert {task.name: task.file for task in TASKS.values() if task.file} == {
        name: each.file for name, each in DATA_SETS.items() if name != "c4"
    }
    assert [each.name for each in chosen_sets(["zero-shot", "piqa"])] == ["hellaswag", "piqa", "arc_easy", "lambada"]
    assert len(chosen_sets([])) == len(DATA_SETS)
    with pytest.raises(UsageError, match="needs no data"):
        chosen_sets(["default"])
    with pytest.raises(UsageError, match="did you mean 'piqa'"):
        chosen_sets(["pika"])


def test_what_is_there_is_checked(home: Path, raw: Path) -> None:
    source = raw / "lambada_test.jsonl"
    source.write_text('{"text": "to the sea"}\n')
    first = fetch("lambada", raw)
    source.unlink()  # not needed again
    second = fetch("lambada", raw)
    assert (first.fetched, second.fetched) == (True, False) and first.sha256 == second.sha256 and not second.as_measured
    first.path.write_text("damaged")
    with pytest.raises(DataError, match=r"holds no file of lambada; looked for data/lambada_test\.jsonl"):
        fetch("lambada", raw)
    source.write_text('{"text": "to the sea"}\n')
    assert fetch("lambada", raw).fetched
    (home / CHECKSUMS).unlink()
    first.path.write_text("of my own")
    with pytest.raises(DataError, match=r"not as fetched.*--force replaces it"):
        fetch("lambada", raw)
    assert first.path.read_text() == "of my own" and fetch("lambada", raw, force=True).fetched


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("hellaswag", lambda raw: jsonl(raw / "hellaswag_val.jsonl", [{"ctx": "x"}]), "row 1: field 'endings' is missing"),
        ("hellaswag", lambda raw: (raw / "hellaswag_val.jsonl").write_text("{"), "line 1: not JSON"),
        ("hellaswag", lambda raw: (raw / "hellaswag_val.jsonl").write_text("[1]"), "line 1: not a JSON object"),
        ("hellaswag", lambda raw: (raw / "hellaswag_val.jsonl").write_bytes(b"\xff"), "not UTF-8"),
        ("hellaswag", lambda raw: (raw / "hellaswag_val.jsonl").write_text(""), "holds nothing of hellaswag"),
        ("piqa", lambda raw: (raw / "physicaliqa-train-dev.zip").write_text("no zip"), "no zip archive"),
        ("wikitext2", lambda raw: zipfile.ZipFile(raw / "wikitext-2-raw-v1.zip", "w").close(), "holds no wiki.test.raw"),
        ("lambada", lambda raw: [(raw / "en").mkdir(), (raw / "en" / "test-0.parquet").write_text("x")], "no parquet file"),
        ("c4", lambda raw: [(raw / "en").mkdir(), (raw / "en" / "c4-train.00000-of-01024.json.gz").write_text("x")], "cannot be read"),
        ("arc_easy", lambda raw: parquet(raw / "ARC-Easy" / "test-0.parquet", [{"question": "x"}]), "field 'choices' is missing"),
    ],
)
def test_damaged_downloads_are_one_line_and_leave_nothing(
    home: Path, raw: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    write(raw)
    with pytest.raises(DataError, match=message) as error:
        fetch(name, raw)
    assert "\n" not in str(error.value) and not home.exists()


def test_an_interrupt_leaves_the_old_file_and_no_part_of_a_new_one(home: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (raw / "lambada_test.jsonl").write_text('{"text": "to the sea"}\n')
    path = fetch("lambada", raw).path
    (raw / "lambada_test.jsonl").write_text('{"text": "and back"}\n')
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fetch("lambada", raw, force=True)
    assert path.read_text() == '{"text": "to the sea"}\n'
    assert sorted(each.name for each in home.rglob("*") if each.is_file()) == [CHECKSUMS, "lambada_test.jsonl"]


def test_a_hub_out_of_reach_is_one_line(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    class Api:
        def list_repo_files(self, *_: object, **__: object) -> list[str]:
            raise ConnectionError("no route to the hub")  # here without the retries of its client

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert run_command_line(["fetch", "--data", "piqa", "arc_easy"]) == 1
    said = capsys.readouterr().err.strip()
    assert "piqa: the hub gave nothing of ybisk/piqa" in said and "with --from" in said and "and 1 more of 2" in said
    assert len(said.splitlines()) == 1 and not home.exists()


def test_files_of_the_hub_are_chosen_by_name(home: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's list decides which source is taken; a stand-in for its client gives local files."""
    import huggingface_hub

    jsonl(raw / "data" / "lambada_test_en.jsonl", [{"text": "to the sea"}])
    asked = []

    class Api:
        def list_repo_files(self, name: str, repo_type: str, revision: str | None) -> list[str]:
            asked.append((name, repo_type, revision))
            return ["README.md", "data/lambada_test_de.jsonl", "data/lambada_test_en.jsonl"]

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda _name, file, **_: str(raw / file))
    assert fetch_data.fetch_data(data_sets.DATA_SETS["lambada"]).fetched
    assert asked == [("EleutherAI/lambada_openai", "dataset", None)]
    with pytest.raises(DataError, match="holds none of the files"):
        fetch_data.fetch_data(data_sets.DATA_SETS["piqa"])


def test_the_command_says_what_is_there(home: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "lambada_test.jsonl").write_text('{"text": "to the sea"}\n')
    assert run_command_line(["fetch", "--data", "lambada", "--from", str(raw)]) == 0
    assert "lambada is ready in" in (said := capsys.readouterr().out) and "not the copy that the documentation's figures" in said
    assert run_command_line(["fetch", "--data", "lambada"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert run_command_line(["fetch", "--data", "--list"]) == 0
    assert str(home) in (said := capsys.readouterr().out) and "not there" in said and "CC BY 4.0" in said
    for line in (["fetch", "nano", "--from", str(raw)], ["fetch", "nano", "random-tiny"], ["fetch"]):
        assert run_command_line(line) == 2
    assert run_command_line(["fetch", "--data", "lambada", "--force", "--from", str(raw / "nothing")]) == 1


def test_the_page_lists_what_is_fetched() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    for each in DATA_SETS.values():
        assert f"`{each.name}`" in page and each.licence in page and each.hub[0] in page, each.name
        assert each.file in page or each.file.replace(each.name, "NAME") in page
        for patterns in each.sources:
            assert " and ".join(f"`{pattern}`" for pattern in patterns) in page, patterns
