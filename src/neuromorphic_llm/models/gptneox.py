"""The GPT-NeoX family (Pythia): LayerNorm, q, k, v fused head by head, a rotary embedding of part of a head, parallel residual."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from neuromorphic_llm.models.entries import Entries
from neuromorphic_llm.models.family import Family, Shapes, equal_heads, token_fields
from neuromorphic_llm.models.layer_norm import Affine, LayerNormLayer, canonical_tensors
from neuromorphic_llm.models.rotary import Rotary, read_rotary, rotary_entries
from neuromorphic_llm.reference.config import LARGEST_LAYERS, DecoderConfig


class GPTNeoX(Family):
    """`gpt_neox.layers.N` with `attention.query_key_value`, `attention.dense` and `mlp.dense_h_to_4h`, `mlp.dense_4h_to_h`."""

    architecture, model_type, tokenizer_class = "GPTNeoXForCausalLM", "gpt_neox", "GPTNeoXTokenizer"
    base, embedding = "gpt_neox.", "gpt_neox.embed_in.weight"
    renamed = MappingProxyType({"embed_out.weight": "lm_head.weight"})
    ignored = re.compile(r"(gpt_neox\.)?(layers\.\d+\.attention\.((masked_)?bias|rotary_emb\.inv_freq)|rotary_emb\.inv_freq)")

    def config(self, entries: Entries) -> DecoderConfig:
        hidden, heads = equal_heads(entries, "hidden_size", "num_attention_heads")
        positions = entries.integer("max_position_embeddings", 2048)
        entries.flag("attention_bias", True)
        return DecoderConfig(
            **token_fields(entries, tied=False),
            hidden_size=hidden,
            intermediate_size=entries.integer("intermediate_size"),
            layers=entries.integer("num_hidden_layers", largest=LARGEST_LAYERS),
            heads=heads,
            kv_heads=heads,
            head_dim=hidden // heads,
            max_positions=positions,
            rms_norm_eps=entries.number("layer_norm_eps", 1e-5),
            rope_theta=self._rotary(entries, hidden // heads, positions).theta,
            activation=entries.activation("hidden_act", "gelu"),
            gated=False,
            parallel_residual=entries.flag("use_parallel_residual", True),
        )

    def frequencies(self, entries: Entries, config: DecoderConfig) -> tuple[Tensor, ...]:
        return (self._rotary(entries, config.head_dim, config.max_positions).frequencies,)

    def _rotary(self, entries: Entries, head_dim: int, positions: int) -> Rotary:
        rope = rotary_entries(entries)
        share = rope.number("partial_rotary_factor", entries.number("rotary_pct", 0.25))
        rotated = int(head_dim * share)
        if rotated % 2 or not 0 < rotated <= head_dim:
            raise ValueError(f"rotary_pct must leave an even number of rotated elements, got {share} of {head_dim}")
        return read_rotary(rope, entries.number("rotary_emb_base", 10000.0), rotated, positions)

    def shapes(self, entries: Entries, config: DecoderConfig) -> Shapes:
        hidden, inner = config.hidden_size, config.intermediate_size
        shapes: Shapes = {self.embedding: (config.vocab_size, hidden)}
        linear = {"attention.query_key_value": (3 * hidden, hidden), "attention.dense": (hidden, hidden)}
        linear |= {"mlp.dense_h_to_4h": (inner, hidden), "mlp.dense_4h_to_h": (hidden, inner)}
        for layer in range(config.layers):
            for name in ("input_layernorm", "post_attention_layernorm"):
                shapes |= {f"gpt_neox.layers.{layer}.{name}.{kind}": (hidden,) for kind in ("weight", "bias")}
            for name, shape in linear.items():
                shapes[f"gpt_neox.layers.{layer}.{name}.weight"] = shape
                if entries.flag("attention_bias", True) or name.startswith("mlp."):
                    shapes[f"gpt_neox.layers.{layer}.{name}.bias"] = shape[:1]
        shapes |= {f"gpt_neox.final_layer_norm.{kind}": (hidden,) for kind in ("weight", "bias")}
        return {**shapes, self.head: (config.vocab_size, hidden)}

    def canonical(self, entries: Entries, config: DecoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        def affine(name: str) -> Affine:
            return Affine(tensors[f"gpt_neox.{name}.weight"], tensors.get(f"gpt_neox.{name}.bias"))

        rotary = self._rotary(entries, config.head_dim, config.max_positions)
        query, key, value = _rows_of_heads(config, 2 * len(rotary.frequencies))
        layers = []
        for number in range(config.layers):
            fused = affine(f"layers.{number}.attention.query_key_value")
            layers.append(
                LayerNormLayer(
                    attention_norm=affine(f"layers.{number}.input_layernorm"),
                    query=fused.rows(query),
                    key=fused.rows(key),
                    value=fused.rows(value),
                    output=affine(f"layers.{number}.attention.dense"),
                    feed_forward_norm=affine(f"layers.{number}.post_attention_layernorm"),
                    up=affine(f"layers.{number}.mlp.dense_h_to_4h"),
                    down=affine(f"layers.{number}.mlp.dense_4h_to_h"),
                )
            )
        named = canonical_tensors(tensors[self.embedding], None, layers, affine("final_layer_norm"), tensors[self.head])
        frequencies = torch.zeros(config.head_dim // 2, dtype=torch.float64)
        frequencies[: len(rotary.frequencies)] = rotary.frequencies
        return {**named, "rotary.frequencies": frequencies, "rotary.scale": torch.tensor(rotary.scale, dtype=torch.float64)}


def _rows_of_heads(config: DecoderConfig, rotated: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of q, k and v in the fused projection, int64 [hidden] each.

    The fused rows are [heads, 3, head_dim]; within a head of q and k, the pairs (j, j + rotated / 2) become (j, j + head_dim / 2).
    """
    rows = torch.arange(3 * config.hidden_size).view(config.heads, 3, config.head_dim)
    half, middle = rotated // 2, (rotated + config.head_dim) // 2
    head = torch.arange(config.head_dim)
    order = torch.cat((head[:half], head[rotated:middle], head[half:rotated], head[middle:]))
    return rows[:, 0, order].flatten(), rows[:, 1, order].flatten(), rows[:, 2].flatten()
