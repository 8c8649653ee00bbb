"""Perplexity, and divergence between two models on the same text (docs/reference/evaluation.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluate.scored_model import ScoredModel

_ROWS = 128  # logits rows in float64 at a time: 50 MB for a vocabulary of 49,152


@dataclass(frozen=True)
class EncodedText:
    """The first tokens of a text and the number of white-space separated words that they cover."""

    ids: tuple[int, ...]
    words: int


@dataclass(frozen=True)
class LanguageModelResult:
    """Figures of one pass; nll in nats a predicted token, divergence in nats."""

    tokens: int
    predicted_tokens: int
    words: int
    window: int
    nll: float
    perplexity: float
    word_perplexity: float
    kl_to_dense: float | None = None
    top1_agreement: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields; the divergence only where there was a model to compare with."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def encode_text(tokenizer: Any, text: str, limit_tokens: int | None = None) -> EncodedText:
    """Tokens of `text` without special tokens, at most `limit_tokens`.

    Raises DataError if fewer than two tokens are left, UsageError for a limit below two.
    """
    if limit_tokens is not None and limit_tokens < 2:
        raise UsageError(f"--limit-tokens must be at least 2, got {limit_tokens}")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = encoded["input_ids"][:limit_tokens]
    if len(ids) < 2:
        raise DataError(f"the text has {len(ids)} tokens; at least 2 are needed to predict one")
    end = encoded["offset_mapping"][len(ids) - 1][1]
    return EncodedText(tuple(ids), max(len(text[:end].split()), 1))


def windows(ids: Sequence[int], window: int) -> list[list[int]]:
    """Consecutive windows of `window` tokens; the last may be shorter, one of a single token is left out (nothing to predict)."""
    return [list(ids[start : start + window]) for start in range(0, len(ids), window) if len(ids) - start > 1]


def check_window(window: int, positions: int) -> None:
    """UsageError for a window that a model with so many positions cannot hold."""
    if not 2 <= window <= positions:
        raise UsageError(f"--window must lie in 2..{positions}, the context of the model; got {window}")


def evaluate_text(
    model: ScoredModel,
    text: EncodedText,
    *,
    window: int = 1024,
    batch: int = 1,
    against: ScoredModel | None = None,
    progress: Callable[[int], None] | None = None,
) -> LanguageModelResult:
    """Perplexity over windows predicted independently of each other; the first token of a window is not predicted.

    With `against`, also the mean of KL(against || model) and the share of positions where both have the same largest logit.
    progress is called with the number of tokens done.
    Raises UsageError for a window that the model cannot hold, DataError for other vocabularies.
    """
    for scored in (model, against):
        if scored is not None:
            check_window(window, scored.max_positions)
    if against is not None and against.vocab_size != model.vocab_size:
        raise DataError(f"the models have {model.vocab_size} and {against.vocab_size} token ids; compare models with the same tokenizer")
    if max(text.ids) >= model.vocab_size:
        raise DataError(f"token id {max(text.ids)} is outside the vocabulary of {model.vocab_size}; the tokenizer is not this model's")
    nll = divergence = 0.0
    agreed = predicted = 0
    for group in _batches(windows(text.ids, window), batch):
        ids = torch.tensor(group)
        targets = ids[:, 1:].reshape(-1)
        scores = _Scores(model, ids)
        reference = None if against is None else _Scores(against, ids)
        for start in range(0, len(targets), _ROWS):
            log_p = scores.log_probabilities(start)
            nll -= float(log_p.gather(1, targets[start : start + _ROWS, None].to(log_p.device)).sum())
            if reference is not None:
                log_q = reference.log_probabilities(start).to(log_p.device)
                divergence += float((log_q.exp() * (log_q - log_p)).sum())
                agreed += int((log_q.argmax(-1) == log_p.argmax(-1)).sum())
        predicted += len(targets)
        if progress:
            progress(ids.numel())
    mean = nll / predicted
    if not math.isfinite(mean):
        raise DataError("the model gives logits that are not finite; its weights are damaged")
    return LanguageModelResult(
        tokens=len(text.ids),
        predicted_tokens=predicted,
        words=text.words,
        window=window,
        nll=mean,
        perplexity=_exp(mean),
        word_perplexity=_exp(nll / text.words),
        kl_to_dense=None if against is None else max(divergence / predicted, 0.0),
        top1_agreement=None if against is None else agreed / predicted,
    )


def _exp(nll: float) -> float:
    """exp, capped: a word perplexity of a model that knows nothing must stay a number."""
    return math.exp(min(nll, 700.0))


def _batches(items: list[list[int]], batch: int) -> list[list[list[int]]]:
    """Groups of at most `batch` windows of equal length."""
    groups: list[list[list[int]]] = []
    for item in items:
        if groups and len(groups[-1]) < batch and len(groups[-1][0]) == len(item):
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


class _Scores:
    """Log-probabilities of the predicting positions of a batch, float64, a few rows at a time."""

    def __init__(self, model: ScoredModel, ids: torch.Tensor) -> None:
        logits = model.logits(ids)
        self._rows = logits[:, :-1].reshape(-1, logits.shape[-1])
        self._scale = model.scale

    def log_probabilities(self, start: int) -> torch.Tensor:
        """float64 [rows, vocab] from row `start`."""
        return torch.log_softmax(self._rows[start : start + _ROWS].double() * self._scale, dim=-1)
