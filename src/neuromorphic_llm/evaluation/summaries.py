"""Summaries: prompts, greedy generation, ROUGE against reference summaries (docs/reference/evaluation.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation.scored_model import ScoredModel
from neuromorphic_llm.evaluation.tasks import Document
from neuromorphic_llm.models.text_tokens import chat_ids, first_bos, text_ids

INSTRUCTION = "Summarize the following news article in three sentences."
_CHARACTERS_PER_TOKEN = 16
"""A beginning of so many characters that is too long already need not be followed by the rest."""

ROUGE = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class Summary:
    """One document's summary and its ROUGE F-measures, 0..1."""

    id: str
    summary: str
    prompt_tokens: int
    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815 (the name of the metric)


@dataclass(frozen=True)
class SummariesResult:
    """Means over the documents; bos_token: the beginning-of-sequence token, if the prompts begin with it."""

    documents: tuple[Summary, ...]
    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815 (the name of the metric)
    bos_token: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON object of the means and every document."""
        return asdict(self)


@dataclass(frozen=True)
class PairedDifference:
    """Mean over documents of (evaluated - reference) of one measure, its standard error, and both over the reference's mean.

    A single document has no standard error, and nothing is relative to a mean of 0: None.
    """

    difference: float
    standard_error: float | None
    relative: float | None
    relative_standard_error: float | None


def paired_difference(evaluated: Sequence[float], reference: Sequence[float]) -> PairedDifference:
    """Difference of one measure, document by document."""
    each = [ours - theirs for ours, theirs in zip(evaluated, reference, strict=True)]
    error = stdev(each) / sqrt(len(each)) if len(each) > 1 else None
    scale = fmean(reference)
    relative, relative_error = (None if value is None or not scale else value / scale for value in (fmean(each), error))
    return PairedDifference(fmean(each), error, relative, relative_error)


def paired_differences(evaluated: SummariesResult, reference: SummariesResult) -> dict[str, PairedDifference]:
    """Differences of the ROUGE measures, document by document. Raises ValueError if the documents are not the same."""
    if [document.id for document in evaluated.documents] != [document.id for document in reference.documents]:
        raise ValueError("the two results are of different documents")
    return {
        name: paired_difference(*([getattr(document, name) for document in result.documents] for result in (evaluated, reference)))
        for name in ROUGE
    }


def _render(tokenizer: Any, article: str) -> list[int]:
    """Token ids of the prompt: the model's chat template, or plain text where it has none. Control tokens in the article are text."""
    if getattr(tokenizer, "chat_template", None):
        return chat_ids(tokenizer, [{"role": "user", "content": f"{INSTRUCTION}\n\n{article}"}])
    return text_ids(tokenizer, f"{INSTRUCTION}\n\n{article}\n\nSummary:", parse_special=False)


def summary_prompt(tokenizer: Any, article: str, max_prompt_tokens: int) -> list[int]:
    """Prompt that asks for a summary; the end of the article is cut off until the prompt has at most `max_prompt_tokens` tokens.

    Raises DataError for an empty article, UsageError if not even the instruction fits.
    """
    article = article.strip()
    if not article:
        raise DataError("the article is empty; give a text to summarise")
    beginning = article[: _CHARACTERS_PER_TOKEN * max(max_prompt_tokens, 1)]
    prompt = _render(tokenizer, beginning)
    if len(prompt) > max_prompt_tokens:
        article = beginning  # the rest would be cut off anyway
    elif len(beginning) < len(article):
        prompt = _render(tokenizer, article)
    if len(prompt) <= max_prompt_tokens:
        return prompt
    offsets = tokenizer(article, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    keep = len(offsets) - (len(prompt) - max_prompt_tokens)
    while keep > 0:
        prompt = _render(tokenizer, article[: offsets[keep - 1][1]].rstrip())
        if len(prompt) <= max_prompt_tokens:
            return prompt
        keep -= 1  # a cut can change how the last characters are split into tokens
    raise UsageError(
        f"the context leaves {max(max_prompt_tokens, 0)} tokens for the prompt, no room for an article; ask for fewer new tokens"
    )


def evaluate_summaries(
    model: ScoredModel,
    tokenizer: Any,
    documents: Sequence[Document],
    *,
    stop: Sequence[int],
    max_new_tokens: int = 128,
    batch: int = 1,
    max_context: int = 2048,
    progress: Callable[[int], None] | None = None,
) -> SummariesResult:
    """Summarise greedily in batches and score with rouge-score (stemmed F-measure).

    max_context bounds prompt and summary together, in tokens. progress is called with the number of documents done.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    limit = min(max_context, model.max_positions) - max_new_tokens
    summaries = []
    bos_token = None
    for start in range(0, len(documents), batch):
        group = documents[start : start + batch]
        prompts = [summary_prompt(tokenizer, document.article, limit) for document in group]
        bos_token = first_bos(tokenizer, prompts[0])
        outputs = model.generate(prompts, max_new_tokens, stop)
        for document, prompt, output in zip(group, prompts, outputs, strict=True):
            text = tokenizer.decode(output, skip_special_tokens=True).strip()
            scores = scorer.score(document.highlights, text)
            summaries.append(Summary(document.id, text, len(prompt), *(float(scores[name].fmeasure) for name in ROUGE)))
        if progress:
            progress(len(group))
    means = {name: fmean(getattr(summary, name) for summary in summaries) for name in ROUGE}
    return SummariesResult(tuple(summaries), **means, bos_token=bos_token)
