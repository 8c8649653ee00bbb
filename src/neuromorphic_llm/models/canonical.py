"""The canonical decoder: what every family is brought to before calibration and conversion (docs/reference/families.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.reference import rotary
from neuromorphic_llm.reference.blocks import Attention, FeedForward
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.registry import Registry

SITE_PROJECTIONS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""Site of a layer -> the projections whose rows it stacks; a decoder without a gate has no gate_proj."""


Shapes = dict[str, tuple[int, ...]]


def _attention_shapes(config: DecoderConfig, block: Attention) -> Shapes:
    prefix, hidden = f"model.layers.{block.layer}.", config.hidden_size
    shapes: Shapes = {prefix + "input_layernorm.weight": (hidden,)}
    for name, outputs in (("q", block.queries), ("k", block.keys), ("v", block.keys)):
        shapes[f"{prefix}self_attn.{name}_proj.weight"] = (outputs, hidden)
    if block.query_key_norm:
        shapes |= {prefix + "self_attn.q_norm.weight": (block.head_dim,), prefix + "self_attn.k_norm.weight": (block.head_dim,)}
    shapes[prefix + "self_attn.o_proj.weight"] = (hidden, block.queries)
    if block.output_norm:
        shapes[prefix + "attention_output_norm.weight"] = (hidden,)
    return shapes


def _feed_forward_shapes(config: DecoderConfig, block: FeedForward) -> Shapes:
    prefix, hidden = f"model.layers.{block.layer}.", config.hidden_size
    shapes: Shapes = {prefix + "post_attention_layernorm.weight": (hidden,)}
    for name in ("gate", "up") if block.gated else ("gate",):
        shapes[f"{prefix}mlp.{name}_proj.weight"] = (block.size, hidden)
    shapes[prefix + "mlp.down_proj.weight"] = (hidden, block.size)
    if block.output_norm:
        shapes[prefix + "feed_forward_output_norm.weight"] = (hidden,)
    return shapes


BLOCK_SHAPES: Registry[Callable[[DecoderConfig, Any], Shapes]] = Registry(
    "block of canonical decoders", (("attention", _attention_shapes), ("feed-forward", _feed_forward_shapes)), error=CheckpointError
)
"""Kind of block -> function of configuration and block to the names and shapes of its tensors, in the order of execution."""


def canonical_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that a canonical decoder must have, in the order of execution; linear weights are [outputs, inputs]."""
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    if config.learned_positions:
        shapes["model.embed_positions.weight"] = (config.max_positions, hidden)
    for block in config.blocks:
        shapes |= BLOCK_SHAPES[block.kind](config, block)
    shapes |= {"model.norm.weight": (hidden,), "lm_head.weight": (config.vocab_size, hidden)}
    shapes["rotary.frequencies"] = (config.head_dim // 2,)
    if config.local_rotary:
        shapes["rotary.local_frequencies"] = (config.head_dim // 2,)
    return shapes


@dataclass(frozen=True)
class CanonicalDecoder:
    """A decoder of any family in canonical form.

    `tensors` has the names of canonical_shapes, any `..._proj.bias` and `lm_head.bias` [outputs], and `rotary.scale` [] (absent: 1).
    Weights are float32, `rotary.*` float64. Raises ValueError naming a tensor that is missing, unknown or of another shape.
    """

    config: DecoderConfig
    tensors: Mapping[str, torch.Tensor]

    def __post_init__(self) -> None:
        shapes = canonical_shapes(self.config)
        optional = {name.removesuffix("weight") + "bias": shape[:1] for name, shape in shapes.items() if _is_linear(name)}
        optional["rotary.scale"] = ()
        for name, tensor in self.tensors.items():
            expected = shapes.get(name, optional.get(name))
            if expected is None:
                raise ValueError(f"tensor {name!r} is no part of this canonical decoder")
            if tuple(tensor.shape) != expected:
                raise ValueError(f"tensor {name!r} has shape {list(tensor.shape)}, the configuration says {list(expected)}")
        if missing := [name for name in shapes if name not in self.tensors]:
            raise ValueError(f"tensor {missing[0]!r} is missing")


def _is_linear(name: str) -> bool:
    return name.endswith("_proj.weight") or name == "lm_head.weight"


def frequencies_name(config: DecoderConfig, layer: int) -> str:
    """Name of the tensor with the rotary frequencies of a layer."""
    return "rotary.local_frequencies" if config.local_rotary and config.window(layer) else "rotary.frequencies"


def rotary_frequencies(config: DecoderConfig) -> torch.Tensor:
    """Angle per position of every pair (j, j + head_dim / 2) without scaling, float64 [head_dim / 2]."""
    # In numpy: torch's powers may differ in the last bit, and so may a table's entry then.
    return torch.from_numpy(rotary.rotary_frequencies(config.head_dim, config.rope_theta))
