"""`nmllm report`: the page of an earlier run, from its report.json alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuromorphic_llm.cli.common import CommandRun, console

EXAMPLES = """
nmllm report runs/smollm2-135m
nmllm report runs/nano --json page.json
"""


def command(
    run: CommandRun,
    folder: Annotated[Path, typer.Argument(help="Output folder of nmllm run, with report.json.", metavar="FOLDER")],
) -> None:
    """Write report.html again from report.json; nothing is computed."""
    run.outputs(folders={"FOLDER": folder})
    from neuromorphic_llm.report.html import write_page

    page = write_page(folder)
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)
    run.result({"page": page})
