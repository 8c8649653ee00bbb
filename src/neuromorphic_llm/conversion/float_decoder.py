"""The canonical decoder in floating point, differentiable, with eyes on everything that the integer network codes (families.md)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from neuromorphic_llm.models.canonical import CanonicalDecoder

LOG2_E = math.log2(math.e)
_LN_2 = math.log(2.0)

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
}


class Observer:
    """What sees a run of a FloatDecoder. `site` and `query` return what the decoder goes on with."""

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
        tables = {name: self._rotary(name, tokens) for name in {self._frequencies(number) for number in range(self.config.layers)}}
        for number in range(self.config.layers):
            x = self.layer(number, x, tables[self._frequencies(number)], observer)
        return self.norm("model.norm", x)

    def tables(self, number: int, tokens: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [tokens, head_dim] of a layer."""
        return self._rotary(self._frequencies(number), tokens)

    def _frequencies(self, number: int) -> str:
        return "rotary.local_frequencies" if self.config.local_rotary and self.config.window(number) else "rotary.frequencies"

    def layer(self, number: int, x: Tensor, tables: tuple[Tensor, Tensor], observer: Observer) -> Tensor:
        """Residual stream [batch, tokens, hidden] after a layer; tables: cosines and sines [tokens, head_dim]."""
        prefix = f"model.layers.{number}."
        o = self._attention(number, self.norm(prefix + "input_layernorm", x), tables, observer)
        if self.config.output_norms:
            observer.value("attention_output", number, o)
            o = self.norm(prefix + "attention_output_norm", o)
        f = x if self.config.parallel_residual else x + o
        d = self._feed_forward(number, self.norm(prefix + "post_attention_layernorm", f), observer)
        if self.config.output_norms:
            observer.value("feed_forward_output", number, d)
            d = self.norm(prefix + "feed_forward_output_norm", d)
        x = x + o + d if self.config.parallel_residual else f + d
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

    def _attention(self, number: int, y: Tensor, tables: tuple[Tensor, Tensor], observer: Observer) -> Tensor:
        config, prefix = self.config, f"model.layers.{number}.self_attn."
        y = observer.site(self.config.site(f"layers.{number}.qkv").index, y)
        heads = []
        for name, what in (("q", "query"), ("k", "key"), ("v", "value")):
            projected = self.linear(f"{prefix}{name}_proj", y)
            observer.value(what, number, projected)
            heads.append(projected.view(*y.shape[:2], -1, config.head_dim).transpose(1, 2))
        q, k, v = heads
        if config.query_key_norm:
            q, k = self.norm(prefix + "q_norm", q), self.norm(prefix + "k_norm", k)
        q, k = rotate(q, *tables) * (LOG2_E * config.query_scale), rotate(k, *tables)
        observer.value("key", number, k)
        o = self._attend(number, observer.query(number, q), k, v).transpose(1, 2).flatten(2)
        return self.linear(prefix + "o_proj", observer.site(self.config.site(f"layers.{number}.output").index, o))

    def _attend(self, number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention within the layer's window; q scaled for base-2 logarithms. All [batch, heads, tokens, head_dim]."""
        config, tokens = self.config, q.shape[2]
        if config.kv_heads < config.heads:
            k, v = (part.repeat_interleave(config.heads // config.kv_heads, 1) for part in (k, v))
        window = config.window(number)
        if not config.attention_softcap and not 0 < window < tokens:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=_LN_2)
        age = torch.arange(tokens, device=q.device)[:, None] - torch.arange(tokens, device=q.device)
        seen = (age >= 0) & (age < window) if window else age >= 0
        if not config.attention_softcap:
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=_LN_2)
        cap = config.attention_softcap
        score = cap * torch.tanh(q @ k.transpose(2, 3) * (_LN_2 / cap))
        return score.masked_fill(~seen, -math.inf).softmax(-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype) @ v

    def _feed_forward(self, number: int, y: Tensor, observer: Observer) -> Tensor:
        prefix = f"model.layers.{number}.mlp."
        y = observer.site(self.config.site(f"layers.{number}.gate_up").index, y)
        gate = self.linear(prefix + "gate_proj", y)
        observer.value("gate", number, gate)
        h = _ACTIVATIONS[self.config.activation](gate)
        if self.config.gated:
            up = self.linear(prefix + "up_proj", y)
            observer.value("gate", number, up)
            h = h * up
        return self.linear(prefix + "down_proj", observer.site(self.config.site(f"layers.{number}.down").index, h))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [.., head_dim] by tables that fit it, the halves of a head apart."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
