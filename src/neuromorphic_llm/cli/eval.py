"""`nmllm eval`: quality of a model or a spiking network on a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from neuromorphic_llm.cli.common import BosChoice, CommandRun, Device, console, counted
from neuromorphic_llm.cli.options import Given
from neuromorphic_llm.evaluation.options import EvaluationOptions
from neuromorphic_llm.models.text_tokens import Bos

EXAMPLES = """
nmllm eval smollm2-135m --limit-tokens 2048
nmllm eval networks/nano --against nano
nmllm eval NETWORK --task wikitext2 --limit-tokens 65536 --against smollm2-135m
nmllm eval NETWORK --task cnn_dailymail --limit-documents 50 --against smollm2-135m --device cuda --batch 50
nmllm eval NETWORK --task hellaswag --limit-documents 500 --against smollm2-135m
nmllm eval NETWORK --task zero-shot --against smollm2-135m --device cuda
"""


def command(
    run: CommandRun,
    model: Annotated[
        str, typer.Argument(help="Network folder, or a model: known name, folder, GGUF file or hub id.", metavar="MODEL|NETWORK")
    ],
    asked: Given[EvaluationOptions],
    against: Annotated[
        str | None, typer.Option(help="Model to compare with: KL and top-1 agreement, ROUGE, or accuracies.", metavar="MODEL")
    ] = None,
    device: Device = "cpu",
    bos: BosChoice = Bos.AUTO,
) -> None:
    """Evaluate a model or a spiking network: perplexity on a text, ROUGE of summaries, or accuracy on zero-shot tasks."""
    from neuromorphic_llm.evaluation.evaluate import evaluate
    from neuromorphic_llm.evaluation.open_model import checked_device, open_model

    options = asked.build(seed=run.seed)
    where = checked_device(device)
    other = None if against is None else lambda: open_model(against, where, bos)
    found = evaluate(lambda: open_model(model, where, bos), options, counted, other)
    payload = found.to_json()
    if "tasks" in payload:
        print_tasks(payload)
    print_figures(found.model, payload)
    run.result(payload)


def print_figures(name: str, payload: dict[str, Any]) -> None:
    """A table of the single figures; the caption says why spikes are missing."""
    from rich.table import Table

    from neuromorphic_llm.evaluation.evaluate import FIGURES, figure_text

    table = Table(title=f"{name}, task {payload['task']}", caption=payload.get("spikes_per_activation_reason"))
    table.add_column("figure")
    table.add_column("value", justify="right")
    if "documents" in payload:
        table.add_row("documents", f"{len(payload['documents']):,}")
    for key, (label, form) in FIGURES.items():
        if payload.get(key) is not None:
            value = payload[key]
            table.add_row(label, figure_text(value, form))
        if payload.get(f"{key}_interval"):
            low, high = (figure_text(payload[f"{key}_interval"][bound], form) for bound in ("low", "high"))
            table.add_row(f"  {payload['intervals']['level']:.0%} interval", f"{low} to {high}")
        if key in payload.get("difference", {}):
            difference = payload["difference"][key]
            table.add_row("  of the reference", f"{payload['reference'][key]:{form}}")
            relative, error = difference["relative"], difference["relative_standard_error"]
            text = "the reference's is 0" if relative is None else f"{relative:+.1%} ± {'unknown' if error is None else f'{error:.1%}'}"
            table.add_row("  difference, relative, with its standard error", text)
    if "bos_token" in payload:
        table.add_row("beginning-of-sequence token", payload["bos_token"] or "none")
    if table.row_count:
        console.print(table)


def print_tasks(payload: Mapping[str, Any]) -> None:
    """Accuracies of zero-shot tasks with their standard errors, beside the reference's and the paired differences, in percent."""
    from rich.table import Table

    reference = payload.get("reference", {})
    table = Table(title="Zero-shot accuracy, %", caption="acc_norm: log-likelihoods over the choices' lengths in characters")
    table.add_column("task")
    table.add_column("documents", justify="right")
    table.add_column("measure")
    for column in ("accuracy", "reference", "difference")[: 3 if reference else 1]:
        table.add_column(column, justify="right")
    rows = [(name, f"{part['documents']:,}", part, reference.get("tasks", {}).get(name)) for name, part in payload["tasks"].items()]
    if "average" in payload:
        rows.append(("average", "", payload["average"], reference.get("average")))
    for name, documents, part, other in rows:
        for measure in ("acc", "acc_norm"):
            if measure in part:
                cells = [_percent(each[measure], each[f"{measure}_standard_error"]) for each in (part, other) if each is not None]
                if other is not None:
                    pair = part["difference"][measure]
                    cells.append(_percent(pair["difference"], pair["standard_error"], "+"))
                table.add_row(name, documents, measure, *cells)
    console.print(table)


def _percent(value: float, error: float | None, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f} ± {'unknown' if error is None else f'{100 * error:.2f}'}"
