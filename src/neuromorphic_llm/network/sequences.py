"""Sequences of the functional simulation, as token choice drives them (generation/engine.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from neuromorphic_llm.generation.engine import Logits
    from neuromorphic_llm.network.functional import FunctionalDecoder

_PREFILL_ROWS = 16384
"""Tokens that a GPU takes at once."""


class FunctionalSequences:
    """Slots of one cache. A GPU decodes all of them every time: compiled decoding wants one shape, so those left out are padding."""

    def __init__(self, decoder: FunctionalDecoder, count: int, length: int) -> None:
        self._decoder, self._cache = decoder, decoder.new_cache(count, length)
        self._padded = decoder.device.type != "cpu"

    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> Iterator[Logits]:
        """Logits after each prompt. A GPU takes several at once, padded to the longest; a CPU gains nothing by it."""
        longest = max(map(len, prompts))
        at_once = max(_PREFILL_ROWS // longest, 1) if self._padded else 1
        for start in range(0, len(prompts), at_once):
            group = prompts[start : start + at_once]
            width = len(group[0]) if len(group) == 1 else longest
            ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in group])
            yield self._logits(ids, slots[start : start + len(group)], None if len(group) == 1 else [len(prompt) for prompt in group])

    def step(self, slots: Sequence[int], tokens: Sequence[int]) -> Logits:
        """Logits after one more token in each of the slots."""
        if not self._padded or len(slots) == self._cache.slots:
            return self._logits(torch.tensor([[token] for token in tokens]), slots, None)
        fed = dict(zip(slots, tokens, strict=True))
        every = range(self._cache.slots)
        ids = torch.tensor([[fed.get(slot, 0)] for slot in every])
        return self._logits(ids, every, [int(slot in fed) for slot in every])[list(slots)]

    def fork(self, order: Sequence[int]) -> None:
        """Slot i becomes a copy of the former slot order[i]."""
        self._cache.reorder(list(order))

    def _logits(self, ids: torch.Tensor, slots: Sequence[int], valid: Sequence[int] | None) -> Logits:
        """Logits int32 [slots, vocab] after the last valid token of each row; on a CPU as a numpy array."""
        logits = self._decoder.forward(ids, self._cache, slots=slots, valid=valid, last_only=True)[:, -1]
        return logits if self._padded else logits.numpy()
