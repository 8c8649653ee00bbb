"""`nmllm eval`: quality of a model or a spiking network on a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuromorphic_llm.cli.common import CommandRun, Debug, JsonFile, Seed, console, progress

if TYPE_CHECKING:
    from neuromorphic_llm.evaluate.open_model import OpenedModel

EXAMPLES = """
nmllm eval smollm2-135m --limit-tokens 2048
nmllm eval NETWORK --task wikitext2 --limit-tokens 65536 --against smollm2-135m
nmllm eval NETWORK --task cnn_dailymail --limit-documents 50 --against smollm2-135m --device cuda --batch 50
"""

LONGEST_SUMMARY = 128
"""Tokens, unless the user names another number."""


def command(
    model: Annotated[
        str, typer.Argument(help="Network folder, or a model: known name, folder, GGUF file or hub id.", metavar="MODEL|NETWORK")
    ],
    task: Annotated[str, typer.Option(help="default (text of our own), wikitext2, wikitext103 or cnn_dailymail.")] = "default",
    data: Annotated[Path | None, typer.Option(help="File with the task's data.", metavar="FILE")] = None,
    limit_tokens: Annotated[int | None, typer.Option(help="Evaluate the first N tokens only.", min=2, metavar="N")] = None,
    window: Annotated[
        int | None, typer.Option(help="Tokens per window, each predicted on its own (default 1024, less if the model holds less).", min=2)
    ] = None,
    limit_documents: Annotated[int | None, typer.Option(help="Summarise the first N documents only.", min=1, metavar="N")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest summary, in tokens (default 128).", min=1)] = None,
    against: Annotated[str | None, typer.Option(help="Model to compare with: KL and top-1 agreement, or ROUGE.", metavar="MODEL")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(help="Windows or documents at a time.", min=1)] = 1,
    json: JsonFile = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Evaluate a model or a spiking network: perplexity on a text, or ROUGE of summaries."""
    arguments = {
        "model": model,
        "task": task,
        "data": data,
        "limit_tokens": limit_tokens,
        "window": window,
        "limit_documents": limit_documents,
        "max_new_tokens": max_new_tokens,
        "against": against,
        "device": device,
        "batch": batch,
    }
    with CommandRun("eval", json, seed, debug, arguments) as run:
        from neuromorphic_llm.errors import UsageError
        from neuromorphic_llm.evaluate.open_model import checked_device, open_model
        from neuromorphic_llm.evaluate.tasks import get_task

        chosen = get_task(task)
        if chosen.kind == "summaries" and limit_tokens is not None:
            raise UsageError("--limit-tokens is for text tasks; use --limit-documents for summaries")
        if chosen.kind == "summaries" and window is not None:
            raise UsageError("--window is for text tasks; a document is read whole")
        if chosen.kind == "language-model" and limit_documents is not None:
            raise UsageError("--limit-documents is for summary tasks; use --limit-tokens for a text")
        if chosen.kind == "language-model" and max_new_tokens is not None:
            raise UsageError("--max-new-tokens is for summary tasks; a text is read, not written")
        where = checked_device(device)
        opener = lambda: open_model(model, where)  # noqa: E731
        other = None if against is None else lambda: open_model(against, where)
        if chosen.kind == "summaries":
            opened, payload = _summaries(opener, other, task, data, limit_documents, max_new_tokens or LONGEST_SUMMARY, batch)
        else:
            opened, payload = _text(opener, other, task, data, limit_tokens, window, batch)
        payload |= {"task": task, "model_hash": opened.content_hash, "kind": "measured"} | spike_figures(opened)
        print_figures(opened.name, payload)
        run.result(payload)


Open = Callable[[], "OpenedModel"]


def _text(
    opener: Open, against: Open | None, task: str, data: Path | None, limit: int | None, window: int | None, batch: int
) -> tuple[OpenedModel, dict[str, Any]]:
    from neuromorphic_llm.evaluate.language_model import encode_text, evaluate_text
    from neuromorphic_llm.evaluate.tasks import get_task, load_text

    content = load_text(get_task(task), data)
    opened = opener()
    text = encode_text(opened.tokenizer, content, limit)
    reference = None if against is None else against().model
    if window is None:
        window = min([1024, *(scored.max_positions for scored in (opened.model, reference) if scored is not None)])
    with progress() as bars:
        bar = bars.add_task("tokens", total=len(text.ids))
        result = evaluate_text(
            opened.model, text, window=window, batch=batch, against=reference, progress=lambda done: bars.advance(bar, done)
        )
    return opened, result.to_json()


def _summaries(
    opener: Open, against: Open | None, task: str, data: Path | None, limit: int | None, max_new_tokens: int, batch: int
) -> tuple[OpenedModel, dict[str, Any]]:
    from neuromorphic_llm.evaluate.summaries import SummariesResult, evaluate_summaries, paired_differences, stop_tokens
    from neuromorphic_llm.evaluate.tasks import get_task, load_documents

    documents = load_documents(get_task(task), data, limit)
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


def spike_figures(opened: OpenedModel) -> dict[str, Any]:
    """Spike statistics of what was evaluated; null with the reason for a dense model."""
    from neuromorphic_llm.evaluate.scored_model import SpikingModel

    if isinstance(opened.model, SpikingModel):
        return {key: value for key, value in opened.model.decoder.statistics.to_json().items() if key != "tokens"}
    return {"spikes_per_activation": None, "spikes_per_activation_reason": "a dense model has no spikes"}


FIGURES = {
    "tokens": ("tokens", ",d"),
    "predicted_tokens": ("tokens predicted", ",d"),
    "perplexity": ("perplexity", ".2f"),
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
            # Perplexities of a model that knows nothing have many digits.
            table.add_row(label, f"{value:.3g}" if form == ".2f" and value >= 1e5 else f"{value:{form}}")
        if key in payload.get("difference", {}):
            difference = payload["difference"][key]
            table.add_row("  of the reference", f"{payload['reference'][key]:{form}}")
            relative, error = difference["relative"], difference["relative_standard_error"]
            text = "the reference's is 0" if relative is None else f"{relative:+.1%} ± {'unknown' if error is None else f'{error:.1%}'}"
            table.add_row("  difference, relative, with its standard error", text)
    console.print(table)
