"""What README and docs say can be done, can be done."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from neuromorphic_llm.cli.main import run_command_line

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"^    make ([\w-]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            target = page.parent / link if link else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}#{anchor}"


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+)", index.read_text(encoding="utf-8"))}
    assert not {page for page in index.parent.rglob("*.md") if page != index} - listed


def test_the_steps_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    steps = re.findall(r"^    (nmllm .*)$", README, re.MULTILINE)
    assert [shlex.split(step)[1] for step in steps] == ["fetch", "convert", "compile", "simulate", "eval"]
    # The small random model needs no fetching.
    for step in steps[1:]:
        assert run_command_line(shlex.split(step.replace("smollm2-135m", "random-tiny"))[1:]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for command, block in re.findall(r"^    (nmllm [^\n]*)$|^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if command:
            assert run_command_line(shlex.split(command)[1:]) == 0, capsys.readouterr().err
        else:
            exec(block, names)
