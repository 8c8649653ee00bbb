"""Evaluation of what a user names on a task, as `nmllm eval` and `neuromorphic_llm.evaluate` do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from neuromorphic_llm.display import Displayed
from neuromorphic_llm.evaluation.language_model import encode_text, evaluate_text
from neuromorphic_llm.evaluation.open_model import OpenedModel
from neuromorphic_llm.evaluation.options import LONGEST_SUMMARY, EvaluationOptions
from neuromorphic_llm.evaluation.scored_model import SpikingModel
from neuromorphic_llm.evaluation.stop import stop_tokens
from neuromorphic_llm.evaluation.summaries import SummariesResult, evaluate_summaries, paired_differences
from neuromorphic_llm.evaluation.tasks import TASKS, load_documents, load_text
from neuromorphic_llm.models.text_tokens import bos_text

Open = Callable[[], OpenedModel]
"""Opens a model once the task's data are there."""

Counted = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Called with what is counted and how many there are; context of a function that takes how many more are done."""

FIGURES = {
    "tokens": ("tokens", ",d"),
    "predicted_tokens": ("tokens predicted", ",d"),
    "perplexity": ("perplexity", ".2f"),
    "reference_perplexity": ("perplexity of the reference", ".2f"),
    "perplexity_ratio": ("perplexity / that of the reference", ".4f"),
    "word_perplexity": ("perplexity per word", ".2f"),
    "kl_to_dense": ("KL(reference || this model), nats per token", ".4f"),
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


@dataclass(frozen=True, repr=False)
class Evaluation(Displayed):
    """Figures of a model or network on a task; `report` has all of them (formats.md, `eval`)."""

    model: str
    report: Mapping[str, Any]

    @property
    def perplexity(self) -> float | None:
        """Perplexity per token; None if the task is no text."""
        return self.report.get("perplexity")

    @property
    def reference_perplexity(self) -> float | None:
        """Perplexity of the model compared with; None without one."""
        return self.report.get("reference_perplexity")

    @property
    def spikes_per_activation(self) -> float | None:
        """Mean spikes per activation; None for a dense model."""
        return self.report.get("spikes_per_activation")

    def to_json(self) -> dict[str, Any]:
        """JSON object of every figure."""
        return dict(self.report)

    @property
    def title(self) -> str:
        """Model and task."""
        return f"{self.model}, task {self.report['task']}"

    def figures(self) -> dict[str, str]:
        """Single figures of the task; accuracies in percent."""
        found = {label: figure_text(self.report[key], form) for key, (label, form) in FIGURES.items() if self.report.get(key) is not None}
        for name, part in self.report.get("tasks", {}).items():
            found |= {f"{name}, {measure}": f"{part[measure]:.1%}" for measure in ("acc", "acc_norm") if measure in part}
        return found


def evaluate(opener: Open, options: EvaluationOptions, counted: Counted, against: Open | None = None) -> Evaluation:
    """Quality of a model on a task, beside that of another one; raises what loading data and models raises."""
    run = {"summaries": _summaries, "zero-shot": _zero_shot}.get(options.kind, _text)
    opened, payload = run(opener, against, options, counted)
    payload |= {"task": options.task, "model_hash": opened.content_hash, "kind": "measured"} | spike_figures(opened)
    return Evaluation(opened.name, payload)


def _text(opener: Open, against: Open | None, options: EvaluationOptions, counted: Counted) -> tuple[OpenedModel, dict[str, Any]]:
    content = load_text(TASKS[options.task], options.data)
    opened = opener()
    text = encode_text(opened.tokenizer, content, options.limit_tokens)
    reference = None if against is None else against().model
    window = options.window
    if window is None:
        window = min([1024, *(scored.max_positions for scored in (opened.model, reference) if scored is not None)])
    with counted("tokens", len(text.ids)) as advance:
        result = evaluate_text(
            opened.model, text, window=window, batch=options.batch, against=reference, seed=options.seed, progress=advance
        )
    return opened, result.to_json()


def _summaries(opener: Open, against: Open | None, options: EvaluationOptions, counted: Counted) -> tuple[OpenedModel, dict[str, Any]]:
    documents = load_documents(TASKS[options.task], options.data, options.limit_documents)
    opened = opener()
    models = [opened] if against is None else [opened, against()]
    results: list[SummariesResult] = []
    with counted("documents", len(documents) * len(models)) as advance:
        for each in models:
            result = evaluate_summaries(
                each.model,
                each.tokenizer,
                documents,
                stop=stop_tokens(each.tokenizer, each.eos_token_ids),
                max_new_tokens=options.max_new_tokens or LONGEST_SUMMARY,
                batch=options.batch,
                progress=advance,
            )
            results.append(result)
    payload = results[0].to_json()
    if against is not None:
        payload["reference"] = results[1].to_json()
        payload["difference"] = {name: asdict(value) for name, value in paired_differences(*results).items()}
    return opened, payload


def _zero_shot(opener: Open, against: Open | None, options: EvaluationOptions, counted: Counted) -> tuple[OpenedModel, dict[str, Any]]:
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
    questions = load_task_questions(TASKS[options.task], options.data, options.limit_documents)
    opened = opener()
    models = [opened] if against is None else [opened, against()]
    count = sum(len(question.choices) for each in questions.values() for question in each)
    with counted("choices", count * len(models)) as advance:
        results = [evaluate_zero_shot(each, questions, advance) for each in models]
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
    if isinstance(opened.model, SpikingModel):
        return {key: value for key, value in opened.model.decoder.statistics.to_json().items() if key != "tokens"}
    return {"spikes_per_activation": None, "spikes_per_activation_reason": "a dense model has no spikes"}


def figure_text(value: float, form: str) -> str:
    """Perplexities of a model that knows nothing have many digits."""
    return f"{value:.3g}" if form == ".2f" and value >= 1e5 else f"{value:{form}}"
