"""Engine protocol: the few methods by which tokens are chosen, whatever computes the logits (docs/reference/generation.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, Union, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.weights import DecoderWeights

if TYPE_CHECKING:
    import torch

Logits: TypeAlias = Union["NDArray[np.int32]", "torch.Tensor"]
"""Integer logits int32 [sequences, vocab] at fraction formats.logit; a tensor where they lie on another device."""


class Sequences(Protocol):
    """States of a number of sequences (slots) in an engine, all empty at first."""

    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> Iterator[Logits]:
        """Read a prompt into each empty slot; logits after each prompt, in their order, for as many at a time as the engine takes."""

    def step(self, slots: Sequence[int], tokens: Sequence[int]) -> Logits:
        """Read one token into each of the slots, which ascend; logits after it. The other slots stay as they are."""

    def fork(self, order: Sequence[int]) -> None:
        """Slot i becomes a copy of the former slot order[i]."""


@runtime_checkable
class Engine(Protocol):
    """Decoder that yields logits: the integer reference, the functional simulation and the event simulation."""

    @property
    def weights(self) -> DecoderWeights:
        """Network that it computes."""

    def sequences(self, count: int, length: int) -> Sequences:
        """State for `count` sequences of at most `length` tokens each."""


@runtime_checkable
class TokenEngine(Protocol):
    """Decoder that yields tokens alone, the largest logit's: the RTL of the chip, which does not report logits."""

    def greedy_tokens(
        self, prompt: Sequence[int], max_new_tokens: int, ends: Collection[int], on_token: Callable[[int], None] | None = None
    ) -> list[int]:
        """New tokens of one prompt, up to `max_new_tokens` or one of `ends`; `on_token` is called with each."""
