"""Scores of continuations by a spiking network: every context runs once, its continuations go on from copies of its cache.

A GPU compiles a layer for one shape, so there every pass has the same one: sequences in chunks of a fixed width, contexts first, then
continuations. A CPU takes one context after the other as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from neuromorphic_llm.evaluation.likelihood import Continued, Progress, Score, padded, scores
from neuromorphic_llm.network.cache import KeyValueCache
from neuromorphic_llm.network.functional import FunctionalDecoder

_SEQUENCES, _WIDTH = 512, 16
_LONGEST = 1024
"""Tokens of a cache up to which a GPU takes many sequences at once."""


@dataclass(frozen=True)
class _Plan:
    """One group: which items, sequences at a time (contexts, continuations), tokens at a time of each, and room of a cache."""

    items: list[int]
    contexts: int
    continuations: int
    context_width: int
    width: int
    capacity: int


def spiking_scores(
    decoder: FunctionalDecoder, items: Sequence[Continued], scale: float, progress: Progress | None = None
) -> list[list[Score]]:
    """Scores of the continuations of every item, which fit the network's context."""
    results: dict[int, list[Score]] = {}
    for plan in _plans(decoder, items):
        group = [items[index] for index in plan.items]
        results.update(zip(plan.items, _group_scores(decoder, group, plan, scale), strict=True))
        if progress:
            progress(sum(len(item.continuations) for item in group))
    return [results[index] for index in range(len(items))]


def _plans(decoder: FunctionalDecoder, items: Sequence[Continued]) -> Iterator[_Plan]:
    order = sorted(range(len(items)), key=lambda index: (len(items[index].context), index), reverse=True)
    most = _many_at_once(decoder)
    together = [index for index in order if items[index].tokens <= most]
    if together:
        # Padding of a sequence that has ended takes room for one more chunk.
        capacity = (-(-max(items[index].tokens for index in together) // _WIDTH) + 1) * _WIDTH
        for start in range(0, len(together), _SEQUENCES):
            yield _Plan(together[start : start + _SEQUENCES], _SEQUENCES, _SEQUENCES, _WIDTH, _WIDTH, capacity)
    for index in order:
        item = items[index]
        if item.tokens > most:
            yield _Plan([index], 1, len(item.continuations), max(len(item.context) - 1, 1), item.longest, item.tokens)


def _many_at_once(decoder: FunctionalDecoder) -> int:
    """Tokens of the longest sequence that is taken together with others: 0 on a CPU, which gains nothing by it."""
    if decoder.device.type == "cpu":
        return 0
    return min(_LONGEST, int(decoder.weights.rope_cos.shape[0])) - 2 * _WIDTH


def _group_scores(decoder: FunctionalDecoder, group: Sequence[Continued], plan: _Plan, scale: float) -> list[list[Score]]:
    cache = decoder.new_cache(plan.contexts, plan.capacity)
    _run(decoder, [item.context[:-1] for item in group], cache, plan.context_width)
    sequences = [(owner, place) for owner, item in enumerate(group) for place in range(len(item.continuations))]
    sequences.sort(key=lambda sequence: len(group[sequence[0]].continuations[sequence[1]]), reverse=True)
    found: dict[tuple[int, int], Score] = {}
    for start in range(0, len(sequences), plan.continuations):
        part = sequences[start : start + plan.continuations]
        texts = [group[owner].continuations[place] for owner, place in part]
        owners = [owner for owner, _ in part] + [0] * (plan.continuations - len(part))
        # The token before a continuation predicts its first one.
        inputs = [(group[owner].context[-1], *text[:-1]) for (owner, _), text in zip(part, texts, strict=True)]
        hidden = torch.cat(_run(decoder, inputs, cache.copies(owners), plan.width), 1)

        def logits_of(places: list[tuple[int, int]], hidden: torch.Tensor = hidden) -> torch.Tensor:
            sequence, token = torch.tensor(places).to(decoder.device).unbind(1)
            return decoder.head(hidden[sequence, token])

        found.update(zip(part, scores(texts, logits_of, scale, decoder.device), strict=True))
    return [[found[owner, place] for place in range(len(item.continuations))] for owner, item in enumerate(group)]


def _run(decoder: FunctionalDecoder, rows: Sequence[Sequence[int]], cache: KeyValueCache, width: int) -> list[torch.Tensor]:
    """Feed every row to its sequence of the cache, `width` tokens at a time; residual streams int32 [sequences, width, hidden]."""
    hidden = []
    for start in range(0, max(map(len, rows)), width):
        parts = [row[start : start + width] for row in rows] + [()] * (cache.slots - len(rows))
        hidden.append(decoder.hidden(padded(parts, width), cache, [len(part) for part in parts]))
    return hidden
