"""Options of an evaluation, and those that a kind of task has no use for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.evaluation.tasks import TASKS
from neuromorphic_llm.options import check_numbers, described, option

LONGEST_SUMMARY = 128
"""Tokens, unless the user names another number."""

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


@described
@dataclass(frozen=True)
class EvaluationOptions:
    """Task, and what of it is evaluated; None leaves the choice to the task. UsageError for what the task has no use for."""

    task: str = option(
        "default",
        "default (text of our own), wikitext2, wikitext103, cnn_dailymail, hellaswag, piqa, arc_easy, arc_challenge, lambada, "
        "or zero-shot (hellaswag, piqa, arc_easy and lambada).",
    )
    data: Path | None = option(None, "File with the task's data.", metavar="FILE")
    limit_tokens: int | None = option(None, "Evaluate the first N tokens only.", least=2, metavar="N")
    window: int | None = option(None, "Tokens per window, each predicted on its own (default 1024, less if the model holds less).", least=2)
    limit_documents: int | None = option(None, "Take the first N documents or questions of each task only.", least=1, metavar="N")
    max_new_tokens: int | None = option(None, f"Longest summary, in tokens (default {LONGEST_SUMMARY}).", least=1)
    batch: int = option(1, "Windows or documents at a time; questions are batched by themselves.", least=1)
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self, UsageError)
        for name, reason in _REFUSED[self.kind].items():
            if getattr(self, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} {reason}")

    @property
    def kind(self) -> str:
        """Kind of the task; UsageError if there is none of its name."""
        return TASKS[self.task].kind
