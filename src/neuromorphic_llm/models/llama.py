"""The Llama family, and the decoders that differ from it by a few entries: Mistral."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from neuromorphic_llm.models.canonical import canonical_shapes
from neuromorphic_llm.models.entries import Entries
from neuromorphic_llm.models.family import Family, Shapes, token_fields
from neuromorphic_llm.models.rotary import Rotary, read_rotary, rotary_entries
from neuromorphic_llm.reference.config import LARGEST_LAYERS, LARGEST_SIZE, DecoderConfig

ARCHITECTURE = "LlamaForCausalLM"
ATTENTION = tuple(f"self_attn.{part}_proj" for part in "qkvo")
FEED_FORWARD = tuple(f"mlp.{part}_proj" for part in ("gate", "up", "down"))


class Llama(Family):
    """RMSNorm, gated feed-forward layers, rotary embedding of whole heads."""

    architecture, model_type, tokenizer_class = ARCHITECTURE, "llama", "LlamaTokenizer"
    ignored = re.compile(r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
    tied = False
    max_positions = 2048
    default_head_dim: int | None = None
    """Default of transformers where entries are left out; None: hidden size / heads."""
    local_rotary = False
    always_biased: tuple[str, ...] = ()
    biased_by: Mapping[str, tuple[str, ...]] = MappingProxyType({"attention_bias": ATTENTION, "mlp_bias": FEED_FORWARD})
    """Flag -> projections that it gives a bias."""

    def config(self, entries: Entries) -> DecoderConfig:
        return DecoderConfig(**self.fields(entries))

    def fields(self, entries: Entries) -> dict[str, Any]:
        """Fields of DecoderConfig; families like Llama change some."""
        heads, hidden = entries.integer("num_attention_heads"), entries.integer("hidden_size")
        # Bounded here already: a damaged number would make lists of its size.
        layers = entries.integer("num_hidden_layers", largest=LARGEST_LAYERS)
        head_dim = entries.integer("head_dim", self.default_head_dim or hidden // heads, LARGEST_SIZE)
        positions = entries.integer("max_position_embeddings", self.max_positions)
        fields = {
            **token_fields(entries, self.tied),
            "hidden_size": hidden,
            "intermediate_size": entries.integer("intermediate_size"),
            "layers": layers,
            "heads": heads,
            "kv_heads": entries.integer("num_key_value_heads", heads),
            "head_dim": head_dim,
            "max_positions": positions,
            "rms_norm_eps": entries.number("rms_norm_eps", 1e-6),
            "activation": self.activation(entries),
        }
        fields["rope_theta"] = self.rotary(entries, head_dim, positions).theta
        windows = self.windows(entries, layers)
        if not self.local_rotary:
            # A window as long as the longest context is none.
            windows = tuple(window if window < positions else 0 for window in windows)
        return {**fields, "windows": windows if any(windows) else (), "local_rotary": self.local_rotary and any(windows)}

    def activation(self, entries: Entries) -> str:
        """Activation of DecoderConfig."""
        return entries.activation("hidden_act", "silu")

    def windows(self, entries: Entries, layers: int) -> tuple[int, ...]:
        """Window of each layer, or nothing."""
        entries.refuse("sliding_window" in entries, "a sliding window (sliding_window)")
        return (0,) * layers

    def rotary(self, entries: Entries, head_dim: int, positions: int) -> Rotary:
        """Rotary embedding of the layers without a window, or of all."""
        rope = rotary_entries(entries)
        for place in (entries, rope):
            entries.refuse(place.number("partial_rotary_factor", 1.0) != 1.0, "a partial rotary embedding (partial_rotary_factor)")
        return read_rotary(rope, entries.number("rope_theta", 10000.0), head_dim, positions)

    def frequencies(self, entries: Entries, config: DecoderConfig) -> tuple[Tensor, ...]:
        return (self.rotary(entries, config.head_dim, config.max_positions).frequencies,)

    def shapes(self, entries: Entries, config: DecoderConfig) -> Shapes:
        shapes = {name: shape for name, shape in canonical_shapes(config).items() if not name.startswith("rotary.")}
        biased = {*self.always_biased, *(name for flag, names in self.biased_by.items() if entries.flag(flag) for name in names)}
        for name, shape in list(shapes.items()):
            if name.startswith("model.layers.") and name.split(".", 3)[3].removesuffix(".weight") in biased:
                shapes[name.removesuffix("weight") + "bias"] = shape[:1]
        return shapes

    def canonical(self, entries: Entries, config: DecoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rotary = self.rotary(entries, config.head_dim, config.max_positions)
        scale = torch.tensor(rotary.scale, dtype=torch.float64)
        return {**tensors, "rotary.frequencies": rotary.frequencies, "rotary.scale": scale}


class Mistral(Llama):
    """Llama with a window in every layer."""

    architecture, model_type = "MistralForCausalLM", "mistral"
    max_positions = 131_072
    biased_by = MappingProxyType({})

    def windows(self, entries: Entries, layers: int) -> tuple[int, ...]:
        entries.refuse("layer_types" in entries, "a window in some layers only (layer_types)")
        return (entries.optional_integer("sliding_window", 4096) or 0,) * layers


def hugging_face_config(config: DecoderConfig) -> dict[str, Any]:
    """Content of the `config.json` that a plain Llama decoder of this configuration is read from."""
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids) or None,
    }
