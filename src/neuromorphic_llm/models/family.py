"""Family of decoders: its configuration, its tensors, and the way to the canonical decoder."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.entries import Entries
from neuromorphic_llm.reference.config import LARGEST_SIZE, DecoderConfig

Shapes = dict[str, tuple[int, ...]]


class Family(ABC):
    """One architecture of transformers. Settings are its Hugging Face configuration, tensors have its own names."""

    architecture: str
    model_type: str
    tokenizer_class: str
    """Tokenizer of the family where the files do not name theirs."""
    embedding = "model.embed_tokens.weight"
    base = "model."
    """Prefix of the body's tensors; checkpoints of the body alone leave it out."""
    renamed: Mapping[str, str] = MappingProxyType({})
    """Older tensor name -> name now."""
    ignored = re.compile(r"(?!)")
    """Masks and rotary tables that old checkpoints store although they follow from the configuration; none unless a family has some."""
    head = "lm_head.weight"

    @abstractmethod
    def config(self, entries: Entries) -> DecoderConfig:
        """Configuration of the canonical decoder; raises as Entries and DecoderConfig do."""

    @abstractmethod
    def shapes(self, entries: Entries, config: DecoderConfig) -> Shapes:
        """Name -> shape of every tensor, `lm_head.weight` also where it is tied."""

    @abstractmethod
    def canonical(self, entries: Entries, config: DecoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the canonical decoder (families.md)."""

    def frequencies(self, entries: Entries, config: DecoderConfig) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Rotary tables of the configuration [rotated / 2], one for each kind of layer; none without a rotary embedding."""
        return ()

    def read(self, settings: Mapping[str, Any], where: str) -> tuple[DecoderConfig, Shapes, Entries]:
        """Canonical configuration, shapes of the tensors, and what was read of the settings for them.

        Raises CheckpointError naming the entry that is missing, not valid, or asks for something the network does not do.
        """
        entries = Entries(settings, where)
        entries.refuse("quantization_config" in entries, "quantised weights (quantization_config)")
        try:
            config = self.config(entries)
            return config, self.shapes(entries, config), entries
        except KeyError as error:
            raise CheckpointError(f"{where}: the configuration lacks {error.args[0]!r}; fetch the checkpoint again") from error
        except (TypeError, ValueError, ArithmeticError) as error:
            advice = "correct its config.json or fetch the checkpoint again"
            raise CheckpointError(f"{where}: the configuration is not valid ({error}); {advice}") from error

    def tensor_name(self, name: str, known: Iterable[str]) -> str:
        """The name in `known` that a stored tensor has here; unchanged if there is none."""
        name = self.renamed.get(name, name)
        return self.base + name if name not in known and self.base + name in known else name


def token_fields(entries: Entries, tied: bool) -> dict[str, Any]:
    """Fields of DecoderConfig that every family spells alike; `tied`: whether embeddings are where the entry is left out."""
    return {
        "vocab_size": entries.integer("vocab_size"),
        "tie_embeddings": entries.flag("tie_word_embeddings", tied),
        "bos_token_id": entries.token("bos_token_id"),
        "eos_token_ids": entries.tokens("eos_token_id"),
    }


def equal_heads(entries: Entries, hidden_name: str, heads_name: str) -> tuple[int, int]:
    """(hidden size, heads) of a family whose heads share the hidden size; ValueError if they do not divide it."""
    hidden, heads = entries.integer(hidden_name, largest=LARGEST_SIZE), entries.integer(heads_name)
    if hidden % heads:
        raise ValueError(f"{hidden_name} ({hidden}) must be a multiple of {heads_name} ({heads})")
    return hidden, heads


def read_windows(entries: Entries, layers: int, size: int | None, sliding: Sequence[bool]) -> tuple[int, ...]:
    """Window of each layer, 0 for none: `layer_types` says which layers have one, else `sliding`.

    ValueError for a type of layer that is not known and if there is a sliding layer without a size.
    """
    types = entries.texts("layer_types", layers)
    if types is not None:
        if unknown := sorted(set(types) - {"full_attention", "sliding_attention"}):
            raise ValueError(f"layer_types must name full_attention or sliding_attention, got {unknown[0]!r}")
        sliding = [kind == "sliding_attention" for kind in types]
    if any(sliding) and size is None:
        raise ValueError("layer_types names layers with sliding_attention, but there is no sliding_window")
    return tuple((size or 0) if has else 0 for has in sliding)
