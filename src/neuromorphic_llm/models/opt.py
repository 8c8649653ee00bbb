"""The OPT family: LayerNorm, learned positions from row 2 on, ReLU."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from neuromorphic_llm.models.entries import Entries
from neuromorphic_llm.models.family import Family, Shapes, equal_heads, token_fields
from neuromorphic_llm.models.layer_norm import Affine, LayerNormLayer, canonical_tensors
from neuromorphic_llm.reference.config import LARGEST_LAYERS, DecoderConfig

_OFFSET = 2
"""Rows of the position table that no token uses."""


class OPT(Family):
    """`model.decoder.layers.N` with `self_attn.{q,k,v,out}_proj`, `fc1` and `fc2`; norms before the blocks."""

    architecture, model_type, tokenizer_class = "OPTForCausalLM", "opt", "GPT2Tokenizer"
    embedding = "model.decoder.embed_tokens.weight"

    def config(self, entries: Entries) -> DecoderConfig:
        hidden, heads = equal_heads(entries, "hidden_size", "num_attention_heads")
        entries.refuse(not entries.flag("do_layer_norm_before", True), "a norm behind the blocks (do_layer_norm_before false)")
        entries.refuse(entries.flag("_remove_final_layer_norm"), "a head without a norm (_remove_final_layer_norm)")
        entries.refuse(entries.integer("word_embed_proj_dim", hidden) != hidden, "a projected embedding (word_embed_proj_dim)")
        return DecoderConfig(
            **token_fields(entries, tied=True),
            hidden_size=hidden,
            intermediate_size=entries.integer("ffn_dim"),
            layers=entries.integer("num_hidden_layers", largest=LARGEST_LAYERS),
            heads=heads,
            kv_heads=heads,
            head_dim=hidden // heads,
            max_positions=entries.integer("max_position_embeddings", 2048),
            rms_norm_eps=1e-5,  # that of torch's LayerNorm: the family has no entry for it
            rope_theta=10000.0,
            activation=entries.activation("activation_function", "relu"),
            gated=False,
            learned_positions=True,
        )

    def shapes(self, entries: Entries, config: DecoderConfig) -> Shapes:
        hidden, inner = config.hidden_size, config.intermediate_size
        body = "model.decoder."
        shapes: Shapes = {self.embedding: (config.vocab_size, hidden)}
        shapes[body + "embed_positions.weight"] = (config.max_positions + _OFFSET, hidden)
        linear = {f"self_attn.{part}_proj": (hidden, hidden) for part in ("q", "k", "v", "out")}
        linear |= {"fc1": (inner, hidden), "fc2": (hidden, inner)}
        norms = ["final_layer_norm"]
        for layer in range(config.layers):
            for name, shape in linear.items():
                shapes[f"{body}layers.{layer}.{name}.weight"] = shape
                if entries.flag("enable_bias", True):
                    shapes[f"{body}layers.{layer}.{name}.bias"] = shape[:1]
            norms += [f"layers.{layer}.{name}" for name in ("self_attn_layer_norm", "final_layer_norm")]
        if entries.flag("layer_norm_elementwise_affine", True):
            shapes |= {f"{body}{name}.{kind}": (hidden,) for name in norms for kind in ("weight", "bias")}
        return {**shapes, self.head: (config.vocab_size, hidden)}

    def canonical(self, entries: Entries, config: DecoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        def affine(name: str) -> Affine:
            # A norm without gains has gain 1.
            weight = tensors.get(f"model.decoder.{name}.weight", torch.ones(config.hidden_size))
            return Affine(weight, tensors.get(f"model.decoder.{name}.bias"))

        layers = [
            LayerNormLayer(
                attention_norm=affine(f"layers.{number}.self_attn_layer_norm"),
                query=affine(f"layers.{number}.self_attn.q_proj"),
                key=affine(f"layers.{number}.self_attn.k_proj"),
                value=affine(f"layers.{number}.self_attn.v_proj"),
                output=affine(f"layers.{number}.self_attn.out_proj"),
                feed_forward_norm=affine(f"layers.{number}.final_layer_norm"),
                up=affine(f"layers.{number}.fc1"),
                down=affine(f"layers.{number}.fc2"),
            )
            for number in range(config.layers)
        ]
        positions = tensors["model.decoder.embed_positions.weight"][_OFFSET:]
        named = canonical_tensors(tensors[self.embedding], positions, layers, affine("final_layer_norm"), tensors[self.head])
        return {**named, "rotary.frequencies": torch.zeros(config.head_dim // 2, dtype=torch.float64)}
