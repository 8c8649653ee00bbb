"""`nmllm eval`: quality of a model or a spiking network on a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuromorphic_llm.cli.common import BosChoice, CommandRun, Device, console, progress
from neuromorphic_llm.models.text_tokens import Bos, bos_text

if TYPE_CHECKING:
    from neuromorphic_llm.evaluation.open_model import OpenedModel
    from neuromorphic_llm.evaluation.tasks import Task

EXAMPLES = """
nmllm eval smollm2-135m --limit-tokens 2048
nmllm eval networks/nano --against nano
nmllm eval NETWORK --task wikitext2 --limit-tokens 65536 --against smollm2-135m
nmllm eval NETWORK --task cnn_dailymail --limit-documents 50 --against smollm2-135m --device cuda --batch 50
nmllm eval NETWORK --task hellaswag --limit-documents 500 --against smollm2-135m
nmllm eval NETWORK --task zero-shot --against smollm2-135m --device cuda
"""

LONGEST_SUMMARY = 128
"""Tokens, unless the user names another number."""


def command(
    run: CommandRun,
    model: Annotated[
        str, typer.Argument(help="Network folder, or a model: known name, folder, GGUF file or hub id.", metavar="MODEL|NETWORK")
    ],
    task: Annotated[
        str,
        typer.Option(
            help="default (text of our own), wikitext2, wikitext103, cnn_dailymail, hellaswag, piqa, arc_easy, arc_challenge, lambada, "
            "or zero-shot (hellaswag, piqa, arc_easy and lambada)."
        ),
    ] = "default",
    data: Annotated[Path | None, typer.Option(help="File with the task's data.", metavar="FILE")] = None,
    limit_tokens: Annotated[int | None, typer.Option(help="Evaluate the first N tokens only.", min=2, metavar="N")] = None,
    window: Annotated[
        int | None, typer.Option(help="Tokens per window, each predicted on its own (default 1024, less if the model holds less).", min=2)
    ] = None,
    limit_documents: Annotated[
        int | None, typer.Option(help="Take the first N documents or questions of each task only.", min=1, metavar="N")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest summary, in tokens (default 128).", min=1)] = None,
    against: Annotated[
        str | None, typer.Option(help="Model to compare with: KL and top-1 agreement, ROUGE, or accuracies.", metavar="MODEL")
    ] = None,
    device: Device = "cpu",
    batch: Annotated[int, typer.Option(help="Windows or documents at a time; questions are batched by themselves.", min=1)] = 1,
    bos: BosChoice = Bos.AUTO,
) -> None:
    """Evaluate a model or a spiking network: perplexity on a text, ROUGE of summaries, or accuracy on zero-shot tasks."""
    from neuromorphic_llm.evaluation.open_model import checked_device, open_model
    from neuromorphic_llm.evaluation.tasks import TASKS

    chosen = TASKS[task]
    _check_options(chosen.kind, run.arguments)
    where = checked_device(device)
    opener = lambda: open_model(model, where, bos)  # noqa: E731
    other = None if against is None else lambda: open_model(against, where, bos)
    if chosen.kind == "summaries":
        opened, payload = _summaries(opener, other, task, data, limit_documents, max_new_tokens or LONGEST_SUMMARY, batch)
    elif chosen.kind == "zero-shot":
        opened, payload = _zero_shot(opener, other, chosen, data, limit_documents)
    else:
        opened, payload = _text(opener, other, task, data, limit_tokens, window, batch, run.seed)
    payload |= {"task": task, "model_hash": opened.content_hash, "kind": "measured"} | spike_figures(opened)
    if "tasks" in payload:
        print_tasks(payload)
    print_figures(opened.name, payload)
    run.result(payload)


Open = Callable[[], "OpenedModel"]


_SUMMARIES_ONLY, _TEXT_ONLY = "is for summary tasks", "is for text tasks"
_REFUSED = {
    "language-model": {
        "limit_documents": f"{_SUMMARIES_ONLY} and questions; use --limit-tokens for a text",
        "max_new_tokens": f"{_SUMMARIES_ONLY}; a text is read, not written",
    },
    "summaries": {
        "limit_tokens": f"{_TEXT_ONLY}; use --limit-documents for summaries",
        "window": f"{_TEXT_ONLY}; a document is read whole",
    },
    "zero-shot": {
        "limit_tokens": f"{_TEXT_ONLY}; use --limit-documents for questions",
        "window": f"{_TEXT_ONLY}; a question is read whole",
        "max_new_tokens": f"{_SUMMARIES_ONLY}; the choices of a question are read, not written",
    },
}
"""Kind of task -> options that it has no use for, and why."""


def _check_options(kind: str, arguments: Mapping[str, Any]) -> None:
    from neuromorphic_llm.errors import UsageError

    for name, reason in _REFUSED[kind].items():
        if arguments[name] is not None:
            raise UsageError(f"--{name.replace('_', '-')} {reason}")


def _text(
    opener: Open, against: Open | None, task: str, data: Path | None, limit: int | None, window: int | None, batch: int, seed: int
) -> tuple[OpenedModel, dict[str, Any]]:
    from neuromorphic_llm.evaluation.language_model import encode_text, evaluate_text
    from neuromorphic_llm.evaluation.tasks import TASKS, load_text

    content = load_text(TASKS[task], data)
    opened = opener()
    text = encode_text(opened.tokenizer, content, limit)
    reference = None if against is None else against().model
    if window is None:
        window = min([1024, *(scored.max_positions for scored in (opened.model, reference) if scored is not None)])
    with progress() as bars:
        bar = bars.add_task("tokens", total=len(text.ids))
        result = evaluate_text(
            opened.model, text, window=window, batch=batch, against=reference, seed=seed, progress=lambda done: bars.advance(bar, done)
        )
    return opened, result.to_json()


def _summaries(
    opener: Open, against: Open | None, task: str, data: Path | None, limit: int | None, max_new_tokens: int, batch: int
) -> tuple[OpenedModel, dict[str, Any]]:
    from neuromorphic_llm.evaluation.stop import stop_tokens
    from neuromorphic_llm.evaluation.summaries import SummariesResult, evaluate_summaries, paired_differences
    from neuromorphic_llm.evaluation.tasks import TASKS, load_documents

    documents = load_documents(TASKS[task], data, limit)
    opened = opener()
    models = [opened] if against is None else [opened, against()]
    results: list[SummariesResult] = []
    with progress() as bars:
        bar = bars.add_task("documents", total=len(documents) * len(models))
        for each in models:
            result = evaluate_summaries(
                each.model,
                each.tokenizer,
                documents,
                stop=stop_tokens(each.tokenizer, each.eos_token_ids),
                max_new_tokens=max_new_tokens,
                batch=batch,
                progress=lambda done: bars.advance(bar, done),
            )
            results.append(result)
    payload = results[0].to_json()
    if against is not None:
        payload["reference"] = results[1].to_json()
        payload["difference"] = {name: asdict(value) for name, value in paired_differences(*results).items()}
    return opened, payload


def _zero_shot(opener: Open, against: Open | None, task: Task, data: Path | None, limit: int | None) -> tuple[OpenedModel, dict[str, Any]]:
    from neuromorphic_llm.evaluation.zero_shot import (
        average,
        average_difference,
        check_harness,
        differences,
        evaluate_zero_shot,
        figures_json,
        load_task_questions,
    )

    check_harness()
    questions = load_task_questions(task, data, limit)
    opened = opener()
    models = [opened] if against is None else [opened, against()]
    with progress() as bars:
        count = sum(len(question.choices) for each in questions.values() for question in each)
        bar = bars.add_task("choices", total=count * len(models))
        results = [evaluate_zero_shot(each, questions, lambda done: bars.advance(bar, done)) for each in models]
    parts = []
    for result in results:
        part: dict[str, Any] = {"tasks": {name: each.to_json() for name, each in result.items()}}
        parts.append(part | ({"average": figures_json(average(result))} if len(result) > 1 else {}))
    payload = parts[0] | {"bos_token": bos_text(opened.tokenizer)}
    if against is not None:
        payload["reference"] = parts[1]
        for name, each in results[0].items():
            payload["tasks"][name]["difference"] = {key: asdict(pair) for key, pair in differences(each, results[1][name]).items()}
        if len(questions) > 1:
            payload["average"]["difference"] = {
                key: {"difference": mean.value, "standard_error": mean.standard_error} for key, mean in average_difference(*results).items()
            }
    return opened, payload


def spike_figures(opened: OpenedModel) -> dict[str, Any]:
    """Spike statistics of what was evaluated; null with the reason for a dense model."""
    from neuromorphic_llm.evaluation.scored_model import SpikingModel

    if isinstance(opened.model, SpikingModel):
        return {key: value for key, value in opened.model.decoder.statistics.to_json().items() if key != "tokens"}
    return {"spikes_per_activation": None, "spikes_per_activation_reason": "a dense model has no spikes"}


FIGURES = {
    "tokens": ("tokens", ",d"),
    "predicted_tokens": ("tokens predicted", ",d"),
    "perplexity": ("perplexity", ".2f"),
    "reference_perplexity": ("perplexity of the reference", ".2f"),
    "perplexity_ratio": ("perplexity / that of the reference", ".4f"),
    "word_perplexity": ("perplexity a word", ".2f"),
    "kl_to_dense": ("KL(reference || this model), nats a token", ".4f"),
    "top1_agreement": ("same most likely token as the reference", ".1%"),
    "rouge1": ("ROUGE-1, F-measure", ".1%"),
    "rouge2": ("ROUGE-2, F-measure", ".1%"),
    "rougeL": ("ROUGE-L, F-measure", ".1%"),
    "spikes_per_activation": ("spikes per activation", ".3f"),
    "query_spikes_per_value": ("query spikes per value", ".3f"),
    "probability_spikes_per_pair": ("probability spikes per visible query-key pair", ".3f"),
    "value_rows_read": ("visible query-key pairs whose value is read", ".1%"),
}
"""Key of the result -> label with its unit, and format."""


def print_figures(name: str, payload: dict[str, Any]) -> None:
    """A table of the single figures; the caption says why spikes are missing."""
    from rich.table import Table

    table = Table(title=f"{name}, task {payload['task']}", caption=payload.get("spikes_per_activation_reason"))
    table.add_column("figure")
    table.add_column("value", justify="right")
    if "documents" in payload:
        table.add_row("documents", f"{len(payload['documents']):,}")
    for key, (label, form) in FIGURES.items():
        if payload.get(key) is not None:
            value = payload[key]
            table.add_row(label, _number(value, form))
        if payload.get(f"{key}_interval"):
            low, high = (_number(payload[f"{key}_interval"][bound], form) for bound in ("low", "high"))
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


def _number(value: float, form: str) -> str:
    """Perplexities of a model that knows nothing have many digits."""
    return f"{value:.3g}" if form == ".2f" and value >= 1e5 else f"{value:{form}}"


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
