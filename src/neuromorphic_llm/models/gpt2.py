"""The GPT-2 family: LayerNorm, learned positions, fused q, k, v stored as [inputs, outputs]."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from neuromorphic_llm.models.entries import Entries
from neuromorphic_llm.models.family import Family, Shapes, equal_heads, token_fields
from neuromorphic_llm.models.layer_norm import Affine, LayerNormLayer, canonical_tensors
from neuromorphic_llm.reference.config import LARGEST_LAYERS, DecoderConfig

_OTHER_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}
"""Names of entries in other families, which transformers takes too -> name in this one."""


class GPT2(Family):
    """`transformer.h.N` with `attn.c_attn`, `attn.c_proj`, `mlp.c_fc` and `mlp.c_proj`."""

    architecture, model_type, tokenizer_class = "GPT2LMHeadModel", "gpt2", "GPT2Tokenizer"
    base, embedding = "transformer.", "transformer.wte.weight"
    ignored = re.compile(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias")

    def config(self, entries: Entries) -> DecoderConfig:
        entries.refuse_flag("add_cross_attention", "attention to another model")
        for other, own in _OTHER_NAMES.items():
            if other in entries and entries.integer(other) != entries.integer(own, entries.integer(other)):
                raise ValueError(f"{own} and {other} are one entry, but differ")
        hidden, heads = equal_heads(entries, "n_embd", "n_head")
        entries.flag("scale_attn_by_inverse_layer_idx")
        return DecoderConfig(
            **token_fields(entries, tied=True),
            hidden_size=hidden,
            intermediate_size=entries.integer("n_inner", 4 * hidden),
            layers=entries.integer("n_layer", largest=LARGEST_LAYERS),
            heads=heads,
            kv_heads=heads,
            head_dim=hidden // heads,
            max_positions=entries.integer("n_positions", 1024),
            rms_norm_eps=entries.number("layer_norm_epsilon", 1e-5),
            rope_theta=10000.0,
            activation=entries.activation("activation_function", "gelu_new"),
            gated=False,
            learned_positions=True,
            score_scale=0.0 if entries.flag("scale_attn_weights", True) else 1.0,
        )

    def shapes(self, entries: Entries, config: DecoderConfig) -> Shapes:  # noqa: ARG002 - the configuration says it all
        hidden, inner = config.hidden_size, config.intermediate_size
        shapes: Shapes = {"transformer.wte.weight": (config.vocab_size, hidden), "transformer.wpe.weight": (config.max_positions, hidden)}
        parts = {
            "ln_1": (hidden,),
            "attn.c_attn": (hidden, 3 * hidden),
            "attn.c_proj": (hidden, hidden),
            "ln_2": (hidden,),
            "mlp.c_fc": (hidden, inner),
            "mlp.c_proj": (inner, hidden),
        }
        blocks = {f"transformer.h.{layer}.{part}": shape for layer in range(config.layers) for part, shape in parts.items()}
        for name, shape in {**blocks, "transformer.ln_f": (hidden,)}.items():
            shapes |= {name + ".weight": shape, name + ".bias": shape[-1:]}
        return {**shapes, self.head: (config.vocab_size, hidden)}

    def canonical(self, entries: Entries, config: DecoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        def affine(name: str) -> Affine:
            weight = tensors[f"transformer.{name}.weight"]
            return Affine(weight.T.contiguous() if weight.dim() == 2 else weight, tensors[f"transformer.{name}.bias"])

        layers = []
        for number in range(config.layers):
            fused = affine(f"h.{number}.attn.c_attn")
            query, key, value = (fused.rows(part) for part in torch.arange(3 * config.hidden_size).chunk(3))
            if entries.flag("scale_attn_by_inverse_layer_idx"):
                query = query.scaled(1.0 / (number + 1))
            layers.append(
                LayerNormLayer(
                    attention_norm=affine(f"h.{number}.ln_1"),
                    query=query,
                    key=key,
                    value=value,
                    output=affine(f"h.{number}.attn.c_proj"),
                    feed_forward_norm=affine(f"h.{number}.ln_2"),
                    up=affine(f"h.{number}.mlp.c_fc"),
                    down=affine(f"h.{number}.mlp.c_proj"),
                )
            )
        positions, head = tensors["transformer.wpe.weight"], tensors[self.head]
        named = canonical_tensors(tensors[self.embedding], positions, layers, affine("ln_f"), head)
        return {**named, "rotary.frequencies": torch.zeros(config.head_dim // 2, dtype=torch.float64)}
