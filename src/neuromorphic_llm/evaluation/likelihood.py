"""Log-likelihoods of continuations: what is scored, batches of similar lengths, and scores from logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

_SCORED_ROWS = {"cpu": 128, "cuda": 1024}
"""Rows of logits in float64 at a time, by kind of device: 50 MB and 400 MB for a vocabulary of 49,152."""

Progress = Callable[[int], None]
"""Called with the number of continuations done."""


@dataclass(frozen=True)
class Continued:
    """Token ids of a context, at least one, and of its continuations, each at least one."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest continuation."""
        return max(map(len, self.continuations))

    @property
    def tokens(self) -> int:
        """Tokens of the longest sequence that a model is given: a continuation's last token predicts nothing that is wanted."""
        return len(self.context) + self.longest - 1


@dataclass(frozen=True)
class Score:
    """Log-likelihood of a continuation in nats, and whether greedy decoding would write it."""

    log_likelihood: float
    greedy: bool


def padded(rows: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    """int64 [rows, width], padded on the right with token 0, which a causal model does not see from the left."""
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def batches(items: Sequence[Continued], most: int) -> Iterator[list[int]]:
    """Indices of `items` in groups of similar lengths, longest first, each of at most `most` padded tokens (or a single item)."""
    group: list[int] = []
    sequences = 0
    for index in sorted(range(len(items)), key=lambda index: (items[index].tokens, index), reverse=True):
        sequences += len(items[index].continuations)
        # The first of a group is its longest.
        if group and sequences * items[group[0]].tokens > most:
            yield group
            group, sequences = [], len(items[index].continuations)
        group.append(index)
    if group:
        yield group


def scores(
    sequences: Sequence[Sequence[int]], logits_of: Callable[[list[tuple[int, int]]], torch.Tensor], scale: float, device: torch.device
) -> list[Score]:
    """Scores of continuations.

    logits_of maps places (number of the continuation, number of its token) to the logits [places, vocab] that predict that token.
    Logits times `scale` are natural logarithms up to a constant. Of equal logits the lowest index is the greedy one.
    """
    places = [(number, token) for number, sequence in enumerate(sequences) for token in range(len(sequence))]
    at_once = _SCORED_ROWS[device.type]
    log_p, missed = [], []
    for start in range(0, len(places), at_once):
        chosen = places[start : start + at_once]
        targets = torch.tensor([[sequences[number][token]] for number, token in chosen]).to(device)
        logits = logits_of(chosen)
        wanted = logits.gather(1, targets)
        log_p.append(wanted.squeeze(1).double() * scale - (logits.double() * scale).logsumexp(-1))
        before = torch.arange(logits.shape[1], device=device) < targets
        missed.append(((logits > wanted) | ((logits == wanted) & before)).any(-1).long())
    owner = torch.tensor([number for number, _ in places])
    totals = torch.zeros(len(sequences), dtype=torch.float64).index_add_(0, owner, torch.cat(log_p).cpu())
    misses = torch.zeros(len(sequences), dtype=torch.long).index_add_(0, owner, torch.cat(missed).cpu())
    return [Score(total, miss == 0) for total, miss in zip(totals.tolist(), misses.tolist(), strict=True)]
