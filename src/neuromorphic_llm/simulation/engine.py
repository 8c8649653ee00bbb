"""Event simulation as an engine of token choice (generation/engine.py)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.simulation.events import EventDecoder


class EventSequences:
    """One event simulation per slot.

    `progress` is called with 1 after every token read; logits are computed at the positions `observe` too, where nothing asks for them.
    """

    def __init__(
        self, decoders: Sequence[EventDecoder], progress: Callable[[int], None] | None = None, observe: Collection[int] = ()
    ) -> None:
        self.decoders = list(decoders)
        self._progress, self._observe = progress, observe

    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> Iterator[NDArray[np.int32]]:
        """Logits int32 [1, vocab] after each prompt."""
        for slot, prompt in zip(slots, prompts, strict=True):
            yield self._read(slot, prompt)[None]

    def step(self, slots: Sequence[int], tokens: Sequence[int]) -> NDArray[np.int32]:
        """Logits int32 [slots, vocab] after one more token in each of the slots."""
        return np.array([self._read(slot, [token]) for slot, token in zip(slots, tokens, strict=True)])

    def fork(self, order: Sequence[int]) -> None:
        """Slot i becomes a copy of the former slot order[i]."""
        former, self.decoders = self.decoders, []
        for place in order:
            self.decoders.append(former[place].copy() if former[place] in self.decoders else former[place])

    def _read(self, slot: int, tokens: Sequence[int]) -> NDArray[np.int32]:
        decoder = self.decoders[slot]
        logits = None
        for index, token in enumerate(tokens):
            logits = decoder.step(token, logits_wanted=index == len(tokens) - 1 or decoder.position in self._observe)
            if self._progress is not None:
                self._progress(1)
        assert logits is not None  # the last token asks for them
        return logits


@dataclass(frozen=True)
class EventEngine:
    """Event simulation of a program; `threads` as in EventDecoder."""

    program: Program
    threads: int | None = None

    @property
    def weights(self) -> DecoderWeights:
        """Network of the program."""
        return self.program.weights

    def sequences(self, count: int, length: int) -> EventSequences:  # noqa: ARG002 - the program says how long
        """`count` empty sequences."""
        return EventSequences([EventDecoder(self.program, threads=self.threads) for _ in range(count)])
