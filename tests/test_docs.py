"""How-to pages run as pasted: the blocks of a page, one after another, in a folder of their own.

The words after a fence say what its block is:

    sh                 commands; `sh slow`: run by the slow tests only; `sh checked`: too long to run, so that names and options are checked
    python             statements; `python FILE`, `yaml FILE`, `text FILE`: a file that the page makes
    python of FILE     lines of a file of the repository, quoted
    text               lines that the block before printed, `...` for those that are left out
"""

from __future__ import annotations

import inspect
import json
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from neuromorphic_llm.cli.main import app, run_command_line
from neuromorphic_llm.registry import Registry
from tutorial_notebook import NOTEBOOK, notebook

ROOT = Path(__file__).resolve().parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "src" / "neuromorphic_llm"
PAGES = sorted((DOCS / "how-to").glob("*.md"))
CONVERT = "nmllm convert nano -o network --spikes 1.5"
"""Most pages begin with it; it runs once."""


@dataclass(frozen=True)
class Block:
    """Fenced block of a page: the words after the fence, and its text."""

    words: tuple[str, ...]
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(tuple(words.split()), text) for words, text in found]


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def plain(line: str) -> str:
    """A line without the frames of tables and the width of their columns."""
    return " ".join(re.sub(r"[^\x00-\u24ff\u2600-\uffff]", " ", line).split())


@dataclass
class Page:
    """A page that is being followed in the current folder."""

    converted: Callable[[], Path]
    slow: bool
    capsys: pytest.CaptureFixture[str]
    names: dict[str, object] = field(default_factory=dict)
    printed: str = ""

    def follow(self, block: Block) -> None:
        kind, *rest = block.words
        if kind == "text" and not rest:
            lines = [plain(line) for line in self.printed.splitlines()]
            for line in filter(None, map(plain, block.text.splitlines())):
                assert line == "..." or line in lines, f"{line!r} is not in\n{self.printed}"
        elif rest[:1] == ["of"]:
            assert block.text in (ROOT / rest[1]).read_text(encoding="utf-8"), f"{rest[1]} has no\n{block.text}"
        elif rest == ["checked"] or (rest == ["slow"] and not self.slow):
            for line in commands(block.text):
                check_command(line)
        elif rest and rest != ["slow"]:
            Path(rest[0]).write_text(block.text, encoding="utf-8")
        elif kind == "sh":
            for line in commands(block.text):
                self.run(line)
            self.printed = self.capsys.readouterr().out
        else:
            assert kind == "python", f"unknown block {block.words}"
            exec(compile(block.text, "page", "exec"), self.names)
            self.printed = self.capsys.readouterr().out

    def run(self, line: list[str]) -> None:
        if line == CONVERT.split():
            shutil.copytree(self.converted(), "network")
        elif line[0] == "nmllm":
            assert run_command_line(line[1:]) == 0, self.capsys.readouterr().err
        else:
            assert line[0] == "python", f"{line[0]} is neither nmllm nor python"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", line[1:])
                runpy.run_path(line[1], run_name="__main__")


def check_command(line: list[str]) -> None:
    """The script exists, or the command with its options."""
    if line[0] == "make":
        assert re.search(rf"^{line[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    elif line[0] == "python":
        script = ROOT / line[1]
        assert line[1] == "-m" or script.exists(), line
        text = "" if line[1] == "-m" else script.read_text(encoding="utf-8")
        for option in (word for word in line[2:] if word.startswith("--")):
            assert option in text or option.lstrip("-").replace("-", "_") in text, f"{line[1]} has no {option}"
    else:
        assert line[0] == "nmllm", line
        group = typer.main.get_command(app)
        _, command, _ = group.resolve_command(typer.Context(group), [line[1]])
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        for option in (word for word in line[2:] if word.startswith("-")):
            assert option in known, f"nmllm {line[1]} has no {option}"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command_line(CONVERT.split()[1:]) == 0
    return folder / "network"


def _imports_the_package() -> bool:
    """Whether the module whose import or run has come to this call is one of the package, whose entries stay."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame is not None and Path(frame.f_code.co_filename).is_relative_to(PACKAGE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty current folder, from which modules are imported; entries of registries that are added there leave with it."""
    register, added = Registry.register, list[tuple[Registry[Any], str]]()

    def recorded(registry: Registry[Any], name: str, entry: Any) -> None:
        register(registry, name, entry)
        if not _imports_the_package():
            added.append((registry, name))

    monkeypatch.setattr(Registry, "register", recorded)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for registry, name in added:
        del registry._entries[name]
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["fast", "whole"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_run_as_pasted(
    page: Path, slow: bool, request: pytest.FixtureRequest, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = Page(lambda: request.getfixturevalue("converted"), slow, capsys)
    capsys.readouterr()
    for block in blocks(page):
        reader.follow(block)


def test_the_notebook_is_made_of_the_tutorial() -> None:
    made = notebook((DOCS / "tutorial.md").read_text(encoding="utf-8"))
    assert NOTEBOOK.read_text(encoding="utf-8") == made, "run python tests/tutorial_notebook.py"


@pytest.mark.slow
def test_the_notebook_runs(folder: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for text in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
        if text.startswith("!"):
            assert all(run_command_line(shlex.split(line)[1:]) == 0 for line in text.splitlines()), text
        else:
            exec(compile(text, "notebook", "exec"), names)


def test_every_figure_of_the_readme_can_be_repeated() -> None:
    """The page has each command of the README's results, with folders in the place of NETWORK and PROGRAM."""
    page = (DOCS / "how-to" / "repeat-figures.md").read_text(encoding="utf-8")
    results = (ROOT / "README.md").read_text(encoding="utf-8").split("## Results")[1].split("## Limits")[0]
    asked = re.findall(r"`((?:nmllm|python|make) [^`]*)`", results) + re.findall(r"^    ((?:nmllm|python|make) .*)$", results, re.MULTILINE)
    assert len(asked) > 10
    for line in asked:
        assert line.replace("NETWORK", "runs/network").replace("PROGRAM", "runs/smollm2-135m/program") in page, line


def test_operations_of_the_graph() -> None:
    """The table of docs/reference/graph.md has every operation with its operands and attributes."""
    from neuromorphic_llm.graph.operations import OPERATIONS

    page = (DOCS / "reference" / "graph.md").read_text(encoding="utf-8").split("## Operations")[1].split("\n## ")[0]
    written = {}
    for name, operands, attributes in re.findall(r"^\| `(\w+)` \| ([\d, ]+) \| ([^|]*)\|", page, re.MULTILINE):
        required, _, optional = attributes.partition("[")
        numbers = tuple(int(number) for number in operands.split(","))
        written[name] = (numbers, tuple(re.findall(r"`(\w+)`", required)), tuple(re.findall(r"`(\w+)`", optional)))
    assert written == {name: (each.operands, each.required, each.optional) for name, each in OPERATIONS.items()}
