"""The Gemma family (text): gains 1 + g, a scaled embedding, norms behind attention and feed-forward layers, soft caps, windows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from neuromorphic_llm.models.entries import Entries
from neuromorphic_llm.models.family import Shapes, read_windows
from neuromorphic_llm.models.llama import ATTENTION, Llama
from neuromorphic_llm.models.rotary import Rotary, read_rotary
from neuromorphic_llm.reference.config import DecoderConfig

_NORMS = {
    "post_attention_layernorm": "attention_output_norm",
    "pre_feedforward_layernorm": "post_attention_layernorm",
    "post_feedforward_layernorm": "feed_forward_output_norm",
}
"""Norms of a layer that have other names here: theirs -> ours."""

_OURS_TO_THEIRS = {ours: theirs for theirs, ours in _NORMS.items()}


class Gemma2(Llama):
    """Windows in every second layer, soft caps of scores and logits."""

    architecture, model_type, tokenizer_class = "Gemma2ForCausalLM", "gemma2", "GemmaTokenizer"
    tied = True
    max_positions, default_head_dim = 8192, 256
    biased_by = MappingProxyType({"attention_bias": ATTENTION})
    attention_softcap, logit_softcap = 50.0, 30.0
    """Defaults of transformers where the entries are left out."""

    def fields(self, entries: Entries) -> dict[str, Any]:
        entries.refuse_flag("use_bidirectional_attention", "attention to later tokens")
        scalar = entries.number("query_pre_attn_scalar", 256.0)
        if scalar <= 0:
            raise ValueError(f"query_pre_attn_scalar must be positive, got {scalar}")
        return {
            **super().fields(entries),
            "output_norms": True,
            "score_scale": scalar**-0.5,
            "attention_softcap": entries.optional_number("attn_logit_softcapping", self.attention_softcap),
            "logit_softcap": entries.optional_number("final_logit_softcapping", self.logit_softcap),
        }

    def activation(self, entries: Entries) -> str:
        return entries.activation("hidden_activation", "gelu_pytorch_tanh")

    def windows(self, entries: Entries, layers: int) -> tuple[int, ...]:
        return read_windows(entries, layers, entries.optional_integer("sliding_window", 4096), [layer % 2 == 0 for layer in range(layers)])

    def shapes(self, entries: Entries, config: DecoderConfig) -> Shapes:
        return {_renamed(name, _OURS_TO_THEIRS): shape for name, shape in super().shapes(entries, config).items()}

    def canonical(self, entries: Entries, config: DecoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        named = {_renamed(name, _NORMS): 1.0 + tensor if _is_gain(name) else tensor for name, tensor in tensors.items()}
        named[self.embedding] = tensors[self.embedding] * torch.tensor(config.hidden_size**0.5)
        return super().canonical(entries, config, named)


class Gemma3(Gemma2):
    """Norms of q and k per head, and rotary frequencies of their own for the layers with a window."""

    architecture, model_type = "Gemma3ForCausalLM", "gemma3_text"
    max_positions = 131_072
    local_rotary = True
    attention_softcap = logit_softcap = 0.0

    def fields(self, entries: Entries) -> dict[str, Any]:
        entries.refuse("attn_logit_softcapping" in entries, "a soft cap of scores (attn_logit_softcapping)")
        fields = {**super().fields(entries), "query_key_norm": True}
        if fields["local_rotary"]:
            self._rotary(entries, "sliding_attention", fields["head_dim"], fields["max_positions"])
        return fields

    def windows(self, entries: Entries, layers: int) -> tuple[int, ...]:
        size, pattern = entries.optional_integer("sliding_window", 4096), entries.integer("sliding_window_pattern", 6)
        return read_windows(entries, layers, size, [(layer + 1) % pattern != 0 for layer in range(layers)])

    def rotary(self, entries: Entries, head_dim: int, positions: int) -> Rotary:
        return self._rotary(entries, "full_attention", head_dim, positions)

    def frequencies(self, entries: Entries, config: DecoderConfig) -> tuple[Tensor, ...]:
        full = super().frequencies(entries, config)
        if not config.local_rotary:
            return full
        return (*full, self._rotary(entries, "sliding_attention", config.head_dim, config.max_positions).frequencies)

    def canonical(self, entries: Entries, config: DecoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        named = super().canonical(entries, config, tensors)
        if config.local_rotary:
            named["rotary.local_frequencies"] = self.frequencies(entries, config)[1]
        return named

    def _rotary(self, entries: Entries, layers: str, head_dim: int, positions: int) -> Rotary:
        """Rotary embedding of one type of layers; `rope_scaling` of older files is that of full attention."""
        parameters = Entries(entries.object("rope_parameters"), entries.where)
        unknown = sorted(parameters.names() - {"full_attention", "sliding_attention"})
        parameters.refuse(bool(unknown), f"entry {unknown[0]!r} of rope_parameters" if unknown else "")
        full = layers == "full_attention"
        rope = {**parameters.object(layers), **(entries.object("rope_scaling") if full else {})}
        theta = entries.number("rope_theta", 1_000_000.0) if full else entries.number("rope_local_base_freq", 10_000.0)
        rotary = read_rotary(Entries(rope, entries.where), theta, head_dim, positions)
        entries.refuse(rotary.scale != 1.0, "a rotary embedding with a scale (yarn) in some layers only")
        return rotary


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """A tensor's name with the norm of a layer named anew."""
    parts = name.split(".")
    return ".".join(names.get(part, part) if place == len(parts) - 2 else part for place, part in enumerate(parts))


def _is_gain(name: str) -> bool:
    return name.endswith("norm.weight")
