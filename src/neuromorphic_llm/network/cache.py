"""8-bit key/value cache of the functional simulation."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import torch

from neuromorphic_llm.reference.config import DecoderConfig


@dataclass
class LayerCache:
    """Keys and values of one layer: integers held as floats in which their products are exact (numerics.md, Attention)."""

    keys: torch.Tensor  # [slots, kv_heads, context, head_dim], 8-bit integers
    key_exponent: torch.Tensor  # int32 [slots, kv_heads, context]
    values: torch.Tensor  # [slots, kv_heads, context, head_dim], V8 << e_v


class KeyValueCache:
    """Cache of a batch of sequences; grows in steps so that its size follows the context."""

    def __init__(self, config: DecoderConfig, slots: int, device: torch.device, length: int = 0) -> None:
        self.config = config
        self.lengths = [0] * slots
        self.capacity = max(length, 1)
        self.layers = [self._empty(slots, self.capacity, device) for _ in range(config.layers)]

    def _empty(self, slots: int, capacity: int, device: torch.device) -> LayerCache:
        shape = (slots, self.config.kv_heads, capacity)
        # Scores and outputs stay below 2^24, where float32 is exact, up to these sizes only.
        exact = torch.float32 if self.config.head_dim <= 128 and capacity <= 8192 else torch.float64
        return LayerCache(
            torch.zeros(*shape, self.config.head_dim, dtype=exact, device=device),
            torch.zeros(shape, dtype=torch.int32, device=device),
            torch.zeros(*shape, self.config.head_dim, dtype=exact, device=device),
        )

    @property
    def slots(self) -> int:
        """Number of sequences."""
        return len(self.lengths)

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens in every sequence."""
        if length <= self.capacity:
            return
        capacity = max(length, min(2 * self.capacity, self.config.max_positions))
        for index, old in enumerate(self.layers):
            new = self._empty(self.slots, capacity, old.keys.device)
            new.keys[:, :, : self.capacity] = old.keys
            new.key_exponent[:, :, : self.capacity] = old.key_exponent
            new.values[:, :, : self.capacity] = old.values
            self.layers[index] = new
        self.capacity = capacity

    def copies(self, order: list[int]) -> KeyValueCache:
        """A cache of its own whose sequence i is a copy of this one's sequence order[i]."""
        other = copy(self)
        other.layers = [replace(layer) for layer in self.layers]
        other.reorder(order)
        return other

    def reorder(self, order: list[int]) -> None:
        """Sequence i becomes a copy of the former sequence order[i] (beam search)."""
        index = torch.tensor(order, device=self.layers[0].keys.device)
        self.lengths = [self.lengths[i] for i in order]
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[index], layer.values[index]
            layer.key_exponent = layer.key_exponent[index]
