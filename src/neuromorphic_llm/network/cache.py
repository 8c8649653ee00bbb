"""State of a batch of sequences in the functional simulation: 8-bit keys and values, and what other operations keep."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import torch


class State(Protocol):
    """State of one node for a number of sequences (slots)."""

    def grown(self, capacity: int) -> State:
        """The same state with room for `capacity` tokens."""

    def reordered(self, index: torch.Tensor) -> State:
        """The state whose slot i is a copy of this one's slot index[i]; index int64 on the device."""


@dataclass
class SlotCache:
    """Keys and values of one layer: integers held as floats in which their products are exact (numerics.md, Attention)."""

    keys: torch.Tensor  # [slots, kv_heads, context, head_dim], 8-bit integers
    key_exponent: torch.Tensor  # int32 [slots, kv_heads, context]
    values: torch.Tensor  # [slots, kv_heads, context, head_dim], V8 << e_v

    @classmethod
    def empty(cls, slots: int, capacity: int, kv_heads: int, head_dim: int, device: torch.device) -> SlotCache:
        """A cache for `capacity` tokens in each slot."""
        # Scores and outputs stay below 2^24, where float32 is exact, up to these sizes only.
        exact = torch.float32 if head_dim <= 128 and capacity <= 8192 else torch.float64
        shape = (slots, kv_heads, capacity)
        keys, values = (torch.zeros(*shape, head_dim, dtype=exact, device=device) for _ in range(2))
        return cls(keys, torch.zeros(shape, dtype=torch.int32, device=device), values)

    def grown(self, capacity: int) -> SlotCache:
        """The same keys and values with room for `capacity` tokens."""
        slots, kv_heads, tokens, head_dim = self.keys.shape
        new = SlotCache.empty(slots, capacity, kv_heads, head_dim, self.keys.device)
        new.keys[:, :, :tokens] = self.keys
        new.key_exponent[:, :, :tokens] = self.key_exponent
        new.values[:, :, :tokens] = self.values
        return new

    def reordered(self, index: torch.Tensor) -> SlotCache:
        """Keys and values whose slot i is a copy of slot index[i]."""
        return SlotCache(self.keys[index], self.key_exponent[index], self.values[index])


class KeyValueCache:
    """States of a batch of sequences; grows in steps so that its size follows the context."""

    def __init__(self, states: Sequence[State], slots: int, capacity: int, largest: int, device: torch.device) -> None:
        self.states, self.lengths = list(states), [0] * slots
        self.capacity, self.largest, self.device = capacity, largest, device

    @property
    def slots(self) -> int:
        """Number of sequences."""
        return len(self.lengths)

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens in every sequence."""
        if length <= self.capacity:
            return
        self.capacity = max(length, min(2 * self.capacity, self.largest))
        self.states = [state.grown(self.capacity) for state in self.states]

    def copies(self, order: list[int]) -> KeyValueCache:
        """A cache of its own whose sequence i is a copy of this one's sequence order[i]."""
        other = copy(self)
        other.reorder(order)
        return other

    def reorder(self, order: list[int]) -> None:
        """Sequence i becomes a copy of the former sequence order[i] (beam search)."""
        index = torch.tensor(order, device=self.device)
        self.lengths = [self.lengths[i] for i in order]
        self.states = [state.reordered(index) for state in self.states]
