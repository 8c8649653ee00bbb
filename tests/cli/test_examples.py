"""The examples of every `--help`: each parses and names nothing that is not there; the cheap ones run as they are written."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from typer.core import TyperCommand

from neuromorphic_llm.cli import main as command_line
from neuromorphic_llm.cli.main import COMMANDS, run_command_line

ROOT = Path(__file__).parents[2]
LAUNCHERS = ("nmllm ", "torchrun --nproc-per-node 2 -m neuromorphic_llm.cli ")
OUTPUTS = ("-o", "--output", "--state", "--folder", "--json", "--trace", "--picture", "--save-calibration")
WORKFLOW = ("fetch", "codes", "convert", "finetune", "compile", "simulate", "cosim", "eval", "export", "ssa", "pareto", "run", "report")
"""What needs the result of another comes after it; commands that are not named here come last."""


def arguments_of(line: str) -> list[str]:
    """The arguments of an example, without what starts the program."""
    launcher = next(launcher for launcher in LAUNCHERS if line.startswith(launcher))
    return shlex.split(line.removeprefix(launcher))


def all_examples() -> list[str]:
    """Lines of all commands that have examples, in the order of the work."""
    order = {name: place for place, name in enumerate(WORKFLOW)}
    lines = []
    for name in sorted(COMMANDS, key=lambda name: order.get(name, len(order))):
        module = pytest.importorskip(f"neuromorphic_llm.cli.{name}")
        lines += [line.strip() for line in getattr(module, "EXAMPLES", "").splitlines() if line.strip()]
    return lines


EXAMPLES = all_examples()


def outputs(arguments: list[str]) -> set[str]:
    """Places that an example writes."""
    return {value for option, value in pairwise(arguments) if option in OUTPUTS}


def cheap(line: str) -> bool:
    """Neither a download nor a build of the chip's RTL, nor minutes of training or of a large model."""
    command = arguments_of(line)[0]
    return not (
        re.search(r"smollm2|cuda|[A-Z]{3,}_FOLDER|--backend rtl|torchrun|NETWORK|MODEL|CHIP", line)
        or command in ("finetune", "ssa", "cosim")
        or (command == "fetch" and "--list" not in line)
    )


@pytest.mark.parametrize("line", EXAMPLES)
def test_example_is_a_command_line(line: str) -> None:
    name, *arguments = arguments_of(line)
    command: TyperCommand = command_line._load(name)
    with command.make_context(name, arguments):
        pass


@pytest.mark.parametrize("line", EXAMPLES)
def test_example_names_only_what_is_there(line: str) -> None:
    """A place is the user's own (capitals), or another example writes it."""
    arguments = arguments_of(line)
    made = set().union(*(outputs(arguments_of(other)) for other in EXAMPLES))
    made |= {f"runs/{arguments_of(other)[1]}" for other in EXAMPLES if arguments_of(other)[0] == "run"}
    for argument in arguments:
        if re.fullmatch(r"[\w./-]*(/|\.(txt|jsonl?|gguf|yaml))[\w./-]*", argument) and not re.search("[A-Z]{3}", argument):
            assert argument in made, f"{argument}: nothing makes it"


def test_cheap_examples_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NMLLM_CACHE", str(tmp_path / "cache"))  # an example may clean it
    (tmp_path / "ARTICLE.txt").write_text((ROOT / "examples" / "article.txt").read_text(encoding="utf-8"), encoding="utf-8")
    lines = [line for line in EXAMPLES if cheap(line)]
    ran = {arguments_of(line)[0] for line in lines}
    assert ran >= {"fetch", "codes", "convert", "compile", "simulate", "eval", "export", "pareto", "run", "report"}
    for line in lines:
        code = run_command_line(arguments_of(line))
        shown = capsys.readouterr()
        assert code == 0, f"{line}\n{shown.err}"
        assert "failed" not in shown.out, f"{line}\n{shown.out}"


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in EXAMPLES if line.startswith(("nmllm finetune nano", "nmllm ssa nano"))])
def test_training_examples_run_as_written(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command_line(arguments_of(line)) == 0
