"""Copies within a checkpoint: heads beside embeddings, tensors under two names, masks and rotary tables beside the configuration.

transformers' classes decide what counts; where the copies differ, they are kept apart with a warning or refused, never dropped unsaid.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from neuromorphic_llm.errors import CheckpointError, NeuromorphicLLMWarning
from neuromorphic_llm.models.family import Family, Shapes

_MASKED = -1e3
"""Scores from here on downwards are hidden; files have -1e4, -1e9 or -inf."""


def under_one_name(family: Family, shapes: Shapes, stored: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Stored tensors by the family's names; CheckpointError if two names of one tensor hold different weights."""
    tensors: dict[str, Tensor] = {}
    source: dict[str, str] = {}
    for name, tensor in stored.items():
        own = family.tensor_name(name, shapes)
        if own in tensors and not torch.equal(tensors[own], tensor):
            what = f"tensors {source[own]!r} and {name!r} are both {own!r} and differ"
            raise CheckpointError(f"{where}: {what}; remove the wrong one")
        tensors[own], source[own] = tensor, name
    return tensors


def tie_head(family: Family, tensors: dict[str, Tensor], where: str) -> bool:
    """Make head and embedding one tensor; False, with a warning, if the checkpoint holds both and they differ.

    As in transformers: the one that is there stands for both, and a head that differs is kept although the configuration ties it.
    """
    embedding, head = tensors.get(family.embedding), tensors.get(family.head)
    if embedding is not None and head is not None and not torch.equal(embedding, head):
        warnings.warn(
            f"{where}: the configuration ties the head to the embedding, but the checkpoint holds a {family.head} that differs; "
            "it is kept, as in transformers",
            NeuromorphicLLMWarning,
            stacklevel=4,
        )
        return False
    shared = head if embedding is None else embedding
    if shared is not None:
        tensors[family.embedding] = tensors[family.head] = shared
    return True


def check_buffers(buffers: Mapping[str, Tensor], frequencies: tuple[Tensor, ...], where: str) -> None:
    """Warn of stored rotary tables that are none of `frequencies`, and of masks that are not causal: the configuration counts."""
    for name, buffer in buffers.items():
        if name.endswith("inv_freq"):
            # Within the rounding of 16-bit tables.
            agrees = any(_close(buffer, table) for table in frequencies)
        elif name.endswith("masked_bias"):
            agrees = bool((buffer <= _MASKED).all())
        else:
            agrees = buffer.dim() < 2 or torch.equal(buffer != 0, torch.ones_like(buffer, dtype=torch.bool).tril())
        if not agrees:
            kind = "rotary table" if name.endswith("inv_freq") else "mask"
            warnings.warn(
                f"{where}: the stored {kind} {name!r} is not that of the configuration, which counts, as in transformers",
                NeuromorphicLLMWarning,
                stacklevel=4,
            )
            return


def _close(stored: Tensor, table: Tensor) -> bool:
    return stored.shape == table.shape and torch.allclose(stored.double(), table.double(), rtol=1e-2, atol=1e-7)
