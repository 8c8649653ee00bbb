"""Decoders with LayerNorm in canonical form: centring makes LayerNorm an RMSNorm (docs/reference/families.md, Centring)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """A linear layer [outputs, inputs] or a norm [channels], with its bias if it has one."""

    weight: Tensor
    bias: Tensor | None

    def scaled(self, factor: float) -> Affine:
        """Outputs times `factor`."""
        return Affine(self.weight * factor, None if self.bias is None else self.bias * factor)

    def rows(self, order: Tensor) -> Affine:
        """Outputs in another order."""
        return Affine(self.weight[order], None if self.bias is None else self.bias[order])


@dataclass(frozen=True)
class LayerNormLayer:
    """One layer of a decoder with LayerNorm and without a gate."""

    attention_norm: Affine
    query: Affine
    key: Affine
    value: Affine
    output: Affine
    feed_forward_norm: Affine
    up: Affine
    down: Affine


def centred_rows(table: Tensor) -> Tensor:
    """Embeddings [rows, hidden] without their mean over the channels."""
    wide = table.double()
    return (wide - wide.mean(1, keepdim=True)).float()


def canonical_tensors(
    embedding: Tensor, positions: Tensor | None, layers: Sequence[LayerNormLayer], final_norm: Affine, head: Tensor
) -> dict[str, Tensor]:
    """Canonical tensors, without `rotary.*`, of a decoder with LayerNorm; computed in float64, kept in float32."""
    named = {"model.embed_tokens.weight": centred_rows(embedding)}
    if positions is not None:
        named["model.embed_positions.weight"] = centred_rows(positions)
    for number, layer in enumerate(layers):
        prefix = f"model.layers.{number}."
        named[prefix + "input_layernorm.weight"] = layer.attention_norm.weight
        for name, projection in (("q", layer.query), ("k", layer.key), ("v", layer.value)):
            named |= _behind_norm(f"{prefix}self_attn.{name}_proj", projection, layer.attention_norm)
        named |= _into_residual(prefix + "self_attn.o_proj", layer.output)
        named[prefix + "post_attention_layernorm.weight"] = layer.feed_forward_norm.weight
        named |= _behind_norm(prefix + "mlp.gate_proj", layer.up, layer.feed_forward_norm)
        named |= _into_residual(prefix + "mlp.down_proj", layer.down)
    named["model.norm.weight"] = final_norm.weight
    return named | _behind_norm("lm_head", Affine(head, None), final_norm)


def _behind_norm(name: str, linear: Affine, norm: Affine) -> dict[str, Tensor]:
    """A linear layer that takes over the bias b of the norm in front of it: W (n + b) = W n + W b."""
    biases = [] if linear.bias is None else [linear.bias.double()]
    if norm.bias is not None:
        biases.append(linear.weight.double() @ norm.bias.double())
    bias = {name + ".bias": torch.stack(biases).sum(0).float()} if biases else {}
    return {name + ".weight": linear.weight, **bias}


def _into_residual(name: str, linear: Affine) -> dict[str, Tensor]:
    """A linear layer whose outputs have mean zero."""
    wide = linear.weight.double()
    centred = {name + ".weight": (wide - wide.mean(0, keepdim=True)).float()}
    if linear.bias is not None:
        bias = linear.bias.double()
        centred[name + ".bias"] = (bias - bias.mean()).float()
    return centred
