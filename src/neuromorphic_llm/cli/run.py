"""`nmllm run`: the whole way at once, ended by a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuromorphic_llm.cli.common import BosChoice, CommandRun, console, error_console, progress
from neuromorphic_llm.cli.options import Given
from neuromorphic_llm.cli.outputs import check_written
from neuromorphic_llm.models.text_tokens import Bos
from neuromorphic_llm.pipeline.options import RunOptions
from neuromorphic_llm.terminal import WorkBars

EXAMPLES = """
nmllm run smollm2-135m -o runs/smollm2-135m
nmllm run smollm2-135m --article ARTICLE.txt --spikes 1.25 --max-new-tokens 128
nmllm run nano --chip nano -o runs/nano --max-new-tokens 48
"""


def command(
    run: CommandRun,
    model: Annotated[str, typer.Argument(help="Known name, folder, GGUF file or hub id.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Output folder (default: runs/MODEL).", metavar="DIR")] = None,
    *,
    asked: Given[RunOptions],
    bos: BosChoice = Bos.AUTO,
) -> None:
    """Convert, compile, simulate, run the dense model, evaluate, and write report.json and report.html."""
    run.arguments["output"] = folder = output if output is not None else Path("runs") / Path(model).name
    run.outputs(folders={"--output": folder})
    check_written(folder, "report.json", "report.html")
    from neuromorphic_llm.pipeline.run import Pipeline
    from neuromorphic_llm.pipeline.steps import StepRecord
    from neuromorphic_llm.report.html import write_page
    from neuromorphic_llm.report.terminal import print_report

    options = asked.build(model=model, output=folder, seed=run.seed, bos=bos)
    with progress() as bars:
        work = WorkBars(bars)

        def finished(step: StepRecord) -> None:
            work.hide()
            outcome = "reused, nothing it depends on has changed" if step.reused else f"{step.wall_s:.1f} s"
            bars.console.print(f"{step.name}: {outcome}", highlight=False)

        report = Pipeline(options, work.show, finished).run()
    run.write(folder / "report.json", report)
    page = write_page(folder)
    print_report({**report, "arguments": run.arguments}, console)
    if report["convert"]["warning"]:
        error_console.print(f"Warning: {report['convert']['warning']}", highlight=False, soft_wrap=True)
    if any(step["reused"] for step in report["steps"]):
        console.print("Some steps were reused from an earlier run; --force does every step again.", highlight=False)
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)
    run.result(report)
