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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


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
