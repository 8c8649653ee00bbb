"""The canonical decoder in floating point, differentiable, with eyes on everything that the integer network codes (families.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.canonical import CanonicalDecoder, frequencies_name
from neuromorphic_llm.registry import Registry

LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class LayerRun:
    """Run of a decoder through one layer; tables: cosines and sines [tokens, head_dim]."""

    decoder: FloatDecoder
    tables: tuple[Tensor, Tensor]
    observer: Observer


class FloatBlock(Protocol):
    """A kind of block in floating point, and its integers."""

    def forward(self, run: LayerRun, block: Any, x: Tensor, before: Tensor) -> Tensor:
        """Residual stream [batch, tokens, hidden] after the block; x: in front of it; before: in front of the block before it."""

    def integers(self, converter: Any, block: Any) -> dict[str, Any]:
        """Parameters of the block and LinearWeights of its sites, stop tables zero, by their names in the layer.

        converter: integers.Converter, which has the float tensors, the calibration and the fractions. Raises ConversionError.
        """


FLOAT_BLOCKS: Registry[FloatBlock] = Registry(
    "block to convert",
    (
        ("attention", "neuromorphic_llm.conversion.float_blocks:ATTENTION"),
        ("feed-forward", "neuromorphic_llm.conversion.float_blocks:FEED_FORWARD"),
    ),
    error=ConversionError,
)
"""Every kind of block that can be converted, by its name."""


class Observer:
    """Observer of a run of a FloatDecoder. The decoder goes on with the results of `site` and `query`."""

    def site(self, index: int, x: Tensor) -> Tensor:  # noqa: ARG002 - its override uses it
        """Input [batch, tokens, inputs] of a crossbar site `index` in DecoderConfig.sites."""
        return x

    def query(self, layer: int, q: Tensor) -> Tensor:  # noqa: ARG002 - its override uses it
        """Query [batch, heads, tokens, head_dim] after norm and rotation, scaled: q k is the score in base-2 logarithms."""
        return q

    def value(self, name: str, layer: int, x: Tensor) -> None:
        """Any other value that the chip holds.

        `query`, `key`, `value` [batch, tokens, outputs] as projected; `key` again, rotated [batch, kv_heads, tokens, head_dim];
        `gate` (gate and up, before the activation); `attention_output`, `feed_forward_output` (in front of output norms only);
        `residual` after the embedding (layer -1) and after each layer; `logit` before its soft cap (layer -1).
        """


_NOTHING = Observer()


class FloatDecoder:
    """Runs a CanonicalDecoder in torch. `weights` may be exchanged between runs, for parameters that require gradients for example.

    The weights of a float32 decoder on the CPU are those of the checkpoint, not a copy.
    """

    def __init__(self, canonical: CanonicalDecoder, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.config = canonical.config
        self.device, self.dtype = torch.device(device), dtype
        self.weights: dict[str, Tensor] = {
            name: tensor.to(device, torch.float64 if name.startswith("rotary.") else dtype) for name, tensor in canonical.tensors.items()
        }

    def __call__(self, ids: Tensor, observer: Observer = _NOTHING) -> Tensor:
        """Logits [batch, tokens, vocab] of token ids int64 [batch, tokens], from position 0 on."""
        return self.head(self.hidden(ids, observer), observer)

    def head(self, x: Tensor, observer: Observer = _NOTHING) -> Tensor:
        """Logits [batch, tokens, vocab] of the head's input [batch, tokens, hidden]."""
        logits = self.linear("lm_head", observer.site(self.config.head.index, x))
        observer.value("logit", -1, logits)
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def hidden(self, ids: Tensor, observer: Observer = _NOTHING) -> Tensor:
        """Input of the head [batch, tokens, hidden], before `observer` sees it. Raises ValueError beyond the learned positions."""
        ids = ids.to(self.device)
        tokens = ids.shape[1]
        x = functional.embedding(ids, self.weights["model.embed_tokens.weight"])
        if self.config.learned_positions:
            if tokens > self.config.max_positions:
                raise ValueError(f"{tokens} tokens do not fit the {self.config.max_positions} learned positions")
            x = x + self.weights["model.embed_positions.weight"][:tokens]
        observer.value("residual", -1, x)
        names = [frequencies_name(self.config, number) for number in range(self.config.layers)]
        tables = {name: self._rotary(name, tokens) for name in set(names)}
        for number, name in enumerate(names):
            x = self.layer(number, x, tables[name], observer)
        return self.norm("model.norm", x)

    def tables(self, number: int, tokens: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [tokens, head_dim] of a layer."""
        return self._rotary(frequencies_name(self.config, number), tokens)

    def layer(self, number: int, x: Tensor, tables: tuple[Tensor, Tensor], observer: Observer) -> Tensor:
        """Residual stream [batch, tokens, hidden] after a layer; tables: cosines and sines [tokens, head_dim]."""
        before, run = x, LayerRun(self, tables, observer)
        for block in self.config.layer_blocks(number):
            before, x = x, FLOAT_BLOCKS[block.kind].forward(run, block, x, before)
        observer.value("residual", number, x)
        return x

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x [.., inputs] times the weights of `name`, plus its bias if it has one."""
        return functional.linear(x, self.weights[name + ".weight"], self.weights.get(name + ".bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        """RMSNorm over the last axis, in float32 at least."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.config.rms_norm_eps)
        return self.weights[name + ".weight"] * wide.to(x.dtype)

    def _rotary(self, name: str, tokens: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [tokens, head_dim]; angles in float64, because float32 is off by 1e-4 at position 2,000."""
        angles = torch.arange(tokens, device=self.device, dtype=torch.float64)[:, None] * self.weights[name]
        scale = self.weights.get("rotary.scale", 1.0)
        cos, sin = angles.cos() * scale, angles.sin() * scale
        return torch.cat((cos, cos), -1).to(self.dtype), torch.cat((sin, sin), -1).to(self.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [.., head_dim] by tables that fit it, the halves of a head apart."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
