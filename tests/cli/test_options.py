"""Options of configuration classes on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from neuromorphic_llm.cli import main as command_line
from neuromorphic_llm.cli.common import BosChoice, CommandRun
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.cli.options import Given
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.fine_tune_config import FineTuneConfig
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.models.text_tokens import Bos
from neuromorphic_llm.options import check_choices, described, option, options_of, same_option
from neuromorphic_llm.pipeline.options import ParetoOptions, RunOptions
from neuromorphic_llm.ssa.config import NeuronConfig, SsaConfig, SsaTuneConfig


@described
@dataclass(frozen=True)
class Brew:
    """A configuration class of every kind of field."""

    leaves: str = option("green", "Kind of leaves.")
    grams: float | None = option(2.5, "Grams of leaves (default 2.5).", optional=True)
    minutes: int = option(3, "Minutes to draw.", least=1, name="time")
    spices: tuple[str, ...] = option((), "Spice, repeatable.", name="spice", metavar="NAME")
    covered: bool = option(True, "Keep the lid on.")
    iced: bool = option(False, "Cool it down.")
    drops: int = option(2000, "Drops, such as 2k.", written="2k")
    size: str = option("cup", "Size.", choices=("cup", "pot"))
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        if self.minutes > 9:
            raise ValueError(f"minutes must be at most 9, got {self.minutes}")


@dataclass(frozen=True)
class Cup:
    """A second class, with a field of the first."""

    grams: float | None = same_option(Brew, "grams")


@pytest.fixture
def brewed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The command `brew`: [configuration, arguments of the result]."""
    found: list[Any] = []

    def command(
        run: CommandRun,
        pot: Annotated[Path, typer.Argument(help="Where.")],
        asked: Annotated[Given[Brew], {"minutes": 4}],
        file_format: Annotated[str, typer.Option("--format", help="Format.")] = "cup",
        bos: BosChoice = Bos.AUTO,
    ) -> None:
        """Brew."""
        found[:] = [asked.build(seed=run.seed, drops=int(asked["drops"].replace("k", "000"))), run.arguments]

    module = types.SimpleNamespace(EXAMPLES="nmllm brew pot", command=command)
    command.__globals__["Brew"] = Brew
    monkeypatch.setitem(sys.modules, "neuromorphic_llm.cli.brew", module)
    monkeypatch.setitem(command_line.COMMANDS, "brew", "For tests.")
    return found


def test_options_fill_the_configuration(brewed: list[Any]) -> None:
    line = ["brew", "pot", "--leaves", "black", "--grams", "1.5", "--time", "5", "--spice", "mint", "--spice", "anise", "--seed", "3"]
    assert run_command_line([*line, "--no-covered", "--iced", "--drops", "3k", "--size", "pot", "--format", "mug", "--bos", "never"]) == 0
    config, arguments = brewed
    assert config == Brew("black", 1.5, 5, ("mint", "anise"), False, True, 3000, "pot", 3)
    assert arguments == {
        "pot": Path("pot"), "leaves": "black", "grams": 1.5, "time": 5, "spice": ["mint", "anise"], "covered": False, "iced": True,
        "drops": "3k", "size": "pot", "format": "mug", "bos": "never",
    }  # fmt: skip


def test_defaults_are_those_of_the_class_or_of_the_command(brewed: list[Any]) -> None:
    assert run_command_line(["brew", "pot"]) == 0
    config, arguments = brewed
    assert config == Brew(minutes=4)
    assert arguments["grams"] is None and arguments["spice"] is None and arguments["drops"] == "2k" and arguments["time"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--time", "10"], "minutes must be at most 9, got 10"),
        (["--size", "jug"], "size must be one of cup, pot, got 'jug'"),
        (["--time", "0"], "'--time': Input should be greater than or equal to 1"),
        (["--grams", "x"], "'--grams'"),
        (["--no-iced"], "No such option: --no-iced"),
        (["--seeds", "1"], "No such option: --seeds"),
    ],
)
def test_wrong_values_are_one_line(brewed: list[Any], capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert run_command_line(["brew", "pot", *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not brewed


def test_help_is_that_of_the_fields(brewed: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_command_line(["brew", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--spice NAME Spice, repeatable." in shown and "--covered --no-covered" in shown and "[default: 4]" in shown
    assert "Drops, such as 2k. [default: 2k]" in shown and "Grams of leaves (default 2.5). │" in shown


def test_given_is_built_without_a_command() -> None:
    given = Given(Brew, {"leaves": "white", "grams": None, "spices": None})
    assert given["leaves"] == "white" and given.build() == Brew("white") and given.build(grams=None).grams is None
    with pytest.raises(UsageError, match="minutes must be at most 9"):
        given.build(minutes=10)


def test_a_field_may_be_one_of_another_class() -> None:
    assert options_of(Cup) == {"grams": options_of(Brew)["grams"]} and Cup().grams == 2.5


def test_the_docstring_describes_the_fields() -> None:
    assert (
        Brew.__doc__ is not None and Brew.__doc__.startswith("A configuration class") and "\n    minutes: Minutes to draw." in Brew.__doc__
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nmllm convert --parts f", ["feed-forward"]),
        ("nmllm convert --code b", ["bit-planes", "burst"]),
        ("nmllm ssa --surrogate ", ["sigmoid", "atan", "fast-sigmoid"]),
    ],
)
def test_choices_complete(words: str, expected: list[str]) -> None:
    variables = {"_NMLLM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-m", "neuromorphic_llm.cli"]
    result = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert result.stdout.split() == expected and result.stderr == ""


@pytest.mark.parametrize("config", [ConvertConfig, FineTuneConfig, RunOptions, ParetoOptions, SsaConfig, SsaTuneConfig, NeuronConfig])
def test_every_help_is_a_sentence_and_choices_are_there(config: type) -> None:
    options = options_of(config)
    assert options and all(each.help.endswith(".") for each in options.values())
    assert all(each.possible() for each in options.values() if each.choices), config
