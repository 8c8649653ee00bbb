"""`nmllm pareto`: quality against spikes, energy and phases for codes, budgets, allocations and compensations."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuromorphic_llm.cli.common import BosChoice, CommandRun, console, progress
from neuromorphic_llm.cli.options import Given, Tolerance
from neuromorphic_llm.cli.outputs import check_written
from neuromorphic_llm.errors import ConversionError, UsageError
from neuromorphic_llm.models.text_tokens import Bos
from neuromorphic_llm.pipeline.options import ParetoOptions
from neuromorphic_llm.terminal import WorkBars

if TYPE_CHECKING:
    from neuromorphic_llm.conversion.config import ConvertConfig

EXAMPLES = """
nmllm pareto nano -o runs/pareto --codes signed-digit,burst:gamma=7 --spikes 1,1.5 --limit-tokens 1024
nmllm pareto smollm2-135m -o runs/pareto --codes signed-digit,signed-digit:phases=10 --chip nc1
nmllm pareto smollm2-135m -o runs/pareto --allocations fisher,greedy --compensations none,gptq,gptq+bias --task wikitext2 --device cuda
"""

ALL = "all"
"""Choice of every spike that the code emits, in place of a number."""


def command(
    run: CommandRun,
    model: Annotated[str, typer.Argument(help="Known name, Hugging Face folder or id, or GGUF file.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for pareto.json, pareto.md, pareto.svg and the points.", metavar="FOLDER")
    ],
    codes: Annotated[
        str, typer.Option(help="Spike codes, with commas between; CODE:phases=N and CODE:PARAMETER=VALUE set phases and parameters.")
    ] = "signed-digit",
    spikes: Annotated[
        str, typer.Option(help="Mean spikes per activation to meet, with commas between; all: keep all.")
    ] = "0.67,1,1.25,1.5",
    allocations: Annotated[str, typer.Option(help="Allocations, with commas between (nmllm convert --help).")] = "fisher",
    tolerance: Tolerance = 0.01,
    compensations: Annotated[str, typer.Option(help="Compensations, with commas between; none, or names joined by +.")] = "none",
    *,
    asked: Given[ParetoOptions],
    bos: BosChoice = Bos.AUTO,
) -> None:
    """Convert with every combination, evaluate each beside the dense model, and show quality against spikes and energy.

    A run that was interrupted goes on where it was; points whose options have not changed are reused. A point that cannot be made leaves
    the others alone; one for which a code has too few spikes keeps all of them, with a note.
    """
    run.outputs(folders={"--output": output})
    check_written(output, "pareto.json", "pareto.md", "pareto.svg")
    from neuromorphic_llm.evaluation.open_model import checked_device
    from neuromorphic_llm.pipeline.pareto import Pareto
    from neuromorphic_llm.pipeline.steps import StepRecord
    from neuromorphic_llm.report.pareto import markdown, pareto_plot, pareto_table
    from neuromorphic_llm.report.terminal import print_table
    from neuromorphic_llm.text_file import write_text

    checked_device(asked["device"])
    configs = parse_configs(codes, spikes, allocations, compensations, run.seed, tolerance)
    options = asked.build(model=model, output=output, configs=configs, seed=run.seed, bos=bos)
    with progress() as bars:
        work = WorkBars(bars)

        def finished(step: StepRecord) -> None:
            work.hide()
            bars.console.print(f"{step.name}: {'reused' if step.reused else f'{step.wall_s:.1f} s'}", highlight=False)

        result = Pareto(options, work.show, finished).run()
    run.write(output / "pareto.json", result)
    table, picture = pareto_table(result), pareto_plot(result)
    write_text(output / "pareto.md", markdown(table))
    if picture is not None:
        write_text(output / "pareto.svg", picture)
    print_table(table, console)
    console.print(f"Result: {output / 'pareto.md'}", highlight=False, soft_wrap=True)
    run.keep(result)
    failed = [point for point in result["points"] if point["failed"]]
    if len(failed) == len(result["points"]):
        raise ConversionError(f"no point could be made; the first: {failed[0]['failed']}")


def parse_configs(
    codes: str, spikes: str, allocations: str, compensations: str, seed: int, tolerance: float = 0.01
) -> tuple[ConvertConfig, ...]:
    """Every combination as the options of a conversion; UsageError naming what is wrong.

    Compensations vary fastest, so that points of one search for an allocation follow each other.
    """
    from neuromorphic_llm.conversion.allocation.methods import ALLOCATIONS
    from neuromorphic_llm.conversion.compensation.methods import split_names
    from neuromorphic_llm.conversion.config import ConvertConfig

    methods = _listed(allocations, "--allocations")
    for name in methods:
        ALLOCATIONS.check(name)
    sets = [() if text == "none" else tuple(text.split("+")) for text in _listed(compensations, "--compensations")]
    for names in sets:
        split_names(names)
    configs = []
    amounts = [_amount(text) for text in _listed(spikes, "--spikes")]
    for code, amount, allocation, names in product(map(_code, _listed(codes, "--codes")), amounts, methods, sets):
        target: dict[str, Any] = {"spikes": amount, "price": 0.0 if amount is None else None}
        try:
            options = {**code, **target, "allocation": allocation, "compensation": names}
            configs.append(ConvertConfig(**options, seed=seed, tolerance=tolerance))
        except ValueError as error:
            raise UsageError(str(error)) from error
    return tuple(dict.fromkeys(configs))


def _listed(text: str, option: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise UsageError(f"{option} {text!r}: an item is empty; give names with single commas between")
    return items


def _amount(text: str) -> float | None:
    if text == ALL:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--spikes: {text!r} is no number; give numbers of spikes, or {ALL} to keep all") from error


def _code(text: str) -> dict[str, Any]:
    """Fields of ConvertConfig from CODE[:phases=N][:PARAMETER=VALUE]..."""
    from neuromorphic_llm.spikes.parameters import parse_options
    from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

    name, *settings = text.split(":")
    phases = [setting.removeprefix("phases=") for setting in settings if setting.startswith("phases=")]
    if len(phases) > 1 or not all(each.isdecimal() for each in phases):
        raise UsageError(f"--codes {text!r}: phases must be one whole number; write {name}:phases=N")
    parameters = parse_options(SPIKE_CODES[name], [setting for setting in settings if not setting.startswith("phases=")])
    count = int(phases[0]) if phases else None
    get_code(name, count, **parameters)
    return {"code": name, "phases": count, "code_parameters": tuple(parameters.items())}
