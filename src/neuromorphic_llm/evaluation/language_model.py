"""Perplexity, and divergence between two models on the same text (docs/reference/evaluation.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation.bootstrap import Bootstrap, TokenLosses, interval_json
from neuromorphic_llm.evaluation.scored_model import ScoredModel
from neuromorphic_llm.models.text_tokens import bos_text, text_prefix, token_windows

_ROWS = 128  # logits rows in float64 at a time: 50 MB for a vocabulary of 49,152


@dataclass(frozen=True)
class EncodedText:
    """The first tokens of a text, the number of white-space separated words that they cover, and what stands before each window."""

    ids: tuple[int, ...]
    words: int
    prefix: tuple[int, ...] = ()
    bos_token: str | None = None  # the prefix as text

    def windows(self, window: int) -> list[list[int]]:
        """Consecutive windows of `window` tokens, the prefix included; one of a single token is left out (nothing to predict)."""
        return token_windows(self.ids, window, self.prefix)


@dataclass(frozen=True)
class LanguageModelResult:
    """Figures of one pass; nll in nats per predicted token, divergence in nats.

    `losses` and, with a reference model, `reference_losses` are of single tokens, for the intervals, which `seed` draws.
    """

    tokens: int
    predicted_tokens: int
    words: int
    window: int
    bos_token: str | None
    nll: float
    perplexity: float
    word_perplexity: float
    losses: TokenLosses
    reference_losses: TokenLosses | None = None
    kl_to_dense: float | None = None
    top1_agreement: float | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON object of the figures with their intervals; those against a reference only where there was one."""
        names = ("tokens", "predicted_tokens", "words", "window", "bos_token", "nll", "perplexity", "word_perplexity")
        bootstrap = Bootstrap.of(self.losses.windows, self.seed)
        figures = {name: getattr(self, name) for name in names}
        figures |= {**interval_json("perplexity", bootstrap.perplexity(self.losses)), "intervals": bootstrap.to_json()}
        if self.reference_losses is None:
            return figures
        reference = _exp(math.fsum(self.reference_losses.nll) / self.predicted_tokens)
        return figures | {
            "reference_perplexity": reference,
            **interval_json("reference_perplexity", bootstrap.perplexity(self.reference_losses)),
            "perplexity_ratio": self.perplexity / reference,
            **interval_json("perplexity_ratio", bootstrap.ratio(self.losses, self.reference_losses)),
            "kl_to_dense": self.kl_to_dense,
            "top1_agreement": self.top1_agreement,
        }


def encode_text(tokenizer: Any, text: str, limit_tokens: int | None = None) -> EncodedText:
    """Tokens of `text` itself, at most `limit_tokens`; what the tokenizer puts before a text is the prefix of every window.

    Raises DataError if fewer than two tokens are left, UsageError for a limit below two.
    """
    if limit_tokens is not None and limit_tokens < 2:
        raise UsageError(f"--limit-tokens must be at least 2, got {limit_tokens}")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    prefix = text_prefix(tokenizer)
    # A text that begins with the prefix does not get it twice.
    first = len(prefix) if tuple(encoded["input_ids"][: len(prefix)]) == prefix else 0
    ids = encoded["input_ids"][first:][:limit_tokens]
    if len(ids) < 2:
        raise DataError(f"the text has {len(ids)} tokens; at least 2 are needed to predict one")
    end = encoded["offset_mapping"][first + len(ids) - 1][1]
    return EncodedText(tuple(ids), max(len(text[:end].split()), 1), prefix, bos_text(tokenizer))


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
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> LanguageModelResult:
    """Perplexity over windows predicted independently of each other; the first token of a window is not predicted.

    With `against`, also its perplexity, the mean of KL(against || model) and the share of positions where both have the same largest
    logit. `seed` is that of the intervals. progress is called with the number of the text's tokens done.
    Raises UsageError for a window that the model cannot hold, DataError for other vocabularies.
    """
    for scored in (model, against):
        if scored is not None:
            check_window(window, scored.max_positions)
    if against is not None and against.vocab_size != model.vocab_size:
        raise DataError(f"the models have {model.vocab_size} and {against.vocab_size} token ids; compare models with the same tokenizer")
    if (largest := max((*text.prefix, *text.ids))) >= model.vocab_size:
        raise DataError(f"token id {largest} is outside the vocabulary of {model.vocab_size}; the tokenizer is not this model's")
    losses: list[torch.Tensor] = []
    reference_losses: list[torch.Tensor] = []
    lengths: list[int] = []
    divergence, agreed = 0.0, 0
    first = max(len(text.prefix), 1)  # of the predicted tokens
    for group in _batches(text.windows(window), batch):
        ids = torch.tensor(group)
        targets = ids[:, first:].reshape(-1)
        scores = _Scores(model, ids, first)
        reference = None if against is None else _Scores(against, ids, first)
        for start in range(0, len(targets), _ROWS):
            some = targets[start : start + _ROWS]
            log_p = scores.log_probabilities(start)
            losses.append(_losses(log_p, some))
            if reference is not None:
                log_q = reference.log_probabilities(start).to(log_p.device)
                reference_losses.append(_losses(log_q, some))
                divergence += float((log_q.exp() * (log_q - log_p)).sum())
                agreed += int((log_q.argmax(-1) == log_p.argmax(-1)).sum())
        lengths += [ids.shape[1] - first] * len(ids)
        if progress:
            progress(ids.numel() - len(ids) * len(text.prefix))
    predicted, nll = sum(lengths), float(torch.cat(losses).sum())
    mean = nll / predicted
    if not math.isfinite(mean) or not all(map(math.isfinite, (float(part.sum()) for part in reference_losses))):
        raise DataError("the model gives logits that are not finite; its weights are damaged")
    return LanguageModelResult(
        tokens=len(text.ids),
        predicted_tokens=predicted,
        words=text.words,
        window=window,
        bos_token=text.bos_token,
        nll=mean,
        perplexity=_exp(mean),
        word_perplexity=_exp(nll / text.words),
        losses=TokenLosses(tuple(torch.cat(losses).tolist()), tuple(lengths)),
        reference_losses=TokenLosses(tuple(torch.cat(reference_losses).tolist()), tuple(lengths)) if reference_losses else None,
        kl_to_dense=None if against is None else max(divergence / predicted, 0.0),
        top1_agreement=None if against is None else agreed / predicted,
        seed=seed,
    )


def _losses(log_p: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """nll of each target, float64 on the CPU."""
    return -log_p.gather(1, targets[:, None].to(log_p.device)).squeeze(1).cpu()


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
    """Log-probabilities of the positions that predict token `first` and those after it, float64, a few rows at a time."""

    def __init__(self, model: ScoredModel, ids: torch.Tensor, first: int = 1) -> None:
        logits = model.logits(ids)
        self._rows = logits[:, first - 1 : -1].reshape(-1, logits.shape[-1])
        self._scale = model.scale

    def log_probabilities(self, start: int) -> torch.Tensor:
        """float64 [rows, vocab] from row `start`."""
        return torch.log_softmax(self._rows[start : start + _ROWS].double() * self._scale, dim=-1)
