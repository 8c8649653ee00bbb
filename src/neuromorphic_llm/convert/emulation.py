"""Float emulation of a spiking decoder, differentiable: what fine-tuning trains (docs/reference/conversion.md, Fine-tuning).

The inputs of all crossbar sites and the queries pass the signed-digit code with its stop rule, weights are rounded to 8 bits a row. Norms,
rotary embedding, gate, keys, values and the softmax stay in floating point: 8-bit keys and values and coded probabilities cost little
(numerics.md). Gradients pass code and rounding unchanged (straight-through); those of the prices are below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuromorphic_llm.reference.weights import SITES, DecoderConfig, DecoderWeights

_LOG2_E = 1.4426950408889634
_LEAST_MAXIMUM = 1e-20
_LEAST_PRICE = 1e-30


def signed_digits(x: Tensor, price: Tensor, phases: int) -> tuple[Tensor, Tensor]:
    """Signed-digit code of x [.., inputs] with prices R in units of x squared: (coded x, number of spikes, a scalar).

    Equal to numerics.md as long as the last phase lies above x's own rounding.
    """
    rest, spikes = x, torch.zeros((), dtype=x.dtype, device=x.device)
    for weight, fires, _ in _phases(x, price, phases):
        rest = rest - torch.where(fires, torch.sign(rest) * weight, torch.zeros_like(rest))
        spikes = spikes + fires.sum()
    return x - rest, spikes


def _phases(x: Tensor, price: Tensor, phases: int) -> Any:
    """(weight of the phase [.., 1], fires, remainder before it) of every phase."""
    largest = x.abs().amax(-1, keepdim=True).clamp_min(_LEAST_MAXIMUM)
    weight = torch.exp2(torch.ceil(torch.log2(largest * (2 / 3))))
    rest = x
    for _ in range(phases):
        magnitude = rest.abs()
        fires = (magnitude >= 0.75 * weight) & (2 * magnitude > weight + price / weight)
        yield weight, fires, rest
        rest = rest - torch.where(fires, torch.sign(rest) * weight, torch.zeros_like(rest))
        weight = weight * 0.5


class _StraightThrough(torch.autograd.Function):
    """Code with the gradient of the identity for x; for log R that of a firing threshold smeared over half a phase's weight.

    A spike fires if z = 2 |v| - w - R / w is positive. With the step's derivative taken as 1 / w where |z| < w / 2,

        d x^ / d R = - sign(v) / w,    d spikes / d R = - 1 / w^2    (there, else 0).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_price: Tensor, phases: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, log_price)
        ctx.phases = phases
        return signed_digits(x, log_price.exp(), phases)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, log_price = ctx.saved_tensors
        coded, spikes = gradients
        price = log_price.exp()
        total = torch.zeros_like(x)
        for weight, _, rest in _phases(x, price, ctx.phases):
            magnitude = rest.abs()
            near = (2 * magnitude - weight - price / weight).abs() < 0.5 * weight
            change = -(coded * torch.sign(rest) + spikes / weight) / weight
            total = total + torch.where(near & (magnitude >= 0.75 * weight), change, torch.zeros_like(change))
        return coded, (total * price).sum_to_size(log_price.shape), None


def coded(x: Tensor, log_price: Tensor, phases: int) -> tuple[Tensor, Tensor]:
    """Coded x and its spikes, differentiable in both; log_price broadcastable to x."""
    result: tuple[Tensor, Tensor] = _StraightThrough.apply(x, log_price, phases)  # type: ignore[no-untyped-call]
    return result


def rounded_rows(weight: Tensor) -> Tensor:
    """8-bit weights per row, round to nearest as conversion does it, with the gradient of the identity."""
    with torch.no_grad():
        scale = weight.abs().amax(1, keepdim=True).clamp_min(_LEAST_MAXIMUM) / 127
        correction = (weight / scale).round() * scale - weight
    return weight + correction


def rms_norm(x: Tensor, gain: Tensor, epsilon: float) -> Tensor:
    """RMSNorm over the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * gain


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [.., tokens, head_dim], the halves of a head apart."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def rotary(config: DecoderConfig, tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [tokens, head_dim]."""
    rates = config.rope_theta ** -(torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float64) / config.head_dim)
    angles = torch.arange(tokens, device=device, dtype=torch.float64)[:, None] * rates
    return torch.cat((angles.cos(),) * 2, -1).float(), torch.cat((angles.sin(),) * 2, -1).float()


@dataclass(frozen=True)
class Prices:
    """Stop prices R of a converted network, in units of the squared input: the start of fine-tuning."""

    sites: tuple[Tensor, ...]  # [inputs] of each site
    queries: tuple[Tensor, ...]  # [heads, head_dim] of each layer

    @classmethod
    def of(cls, weights: DecoderWeights) -> Prices:
        """Those of a network's stop tables."""
        formats, sites = weights.formats, []
        for layer in weights.layers:
            fractions = (formats.norm, formats.attention, formats.norm, layer.hidden_fraction)
            sites += [torch.from_numpy(getattr(layer, key).stop / 4.0**f).float() for key, f in zip(SITES, fractions, strict=True)]
        sites.append(torch.from_numpy(weights.head.stop / 4.0**formats.norm).float())
        queries = tuple(torch.from_numpy(layer.query_stop / 4.0**formats.qkv).float() for layer in weights.layers)
        return cls(tuple(sites), queries)


class EmulatedLayer(nn.Module):
    """One decoder layer on coded inputs."""

    query_log_price: Tensor

    def __init__(self, config: DecoderConfig, tensors: dict[str, Tensor], number: int, prices: Prices, phases: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.phases = config, phases
        prefix = f"model.layers.{number}."

        def joined(*names: str) -> nn.Parameter:
            return nn.Parameter(torch.cat([tensors[f"{prefix}{name}.weight"] for name in names]).clone())

        self.attention_gain = joined("input_layernorm")
        self.qkv = joined(*(f"self_attn.{part}_proj" for part in "qkv"))
        self.output = joined("self_attn.o_proj")
        self.feed_forward_gain = joined("post_attention_layernorm")
        self.gate_up = joined("mlp.gate_proj", "mlp.up_proj")
        self.down = joined("mlp.down_proj")
        log_prices = [price.clamp_min(_LEAST_PRICE).log() for price in prices.sites[4 * number : 4 * number + 4]]
        self.log_prices = nn.ParameterList(log_prices)
        self.register_buffer("query_log_price", prices.queries[number].clamp_min(_LEAST_PRICE).log()[:, None])

    def forward(self, x: Tensor, log_scale: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, tokens, hidden] -> (x after the layer, spikes of the four sites [4]); log_scale is added to all log prices."""
        config, (phases, query_phases) = self.config, self.phases
        batch, tokens, _ = x.shape
        query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
        prices = [price + log_scale for price in self.log_prices]
        hidden, qkv_spikes = coded(rms_norm(x, self.attention_gain, config.rms_norm_eps), prices[0], phases)
        parts = functional.linear(hidden, rounded_rows(self.qkv)).split([query, key, key], -1)  # type: ignore[no-untyped-call]
        q, k, v = (part.view(batch, tokens, -1, config.head_dim).transpose(1, 2) for part in parts)
        # The chip's queries carry the scale of the softmax and its base 2.
        factor = _LOG2_E / math.sqrt(config.head_dim)
        q, _ = coded(rotate(q, cos, sin) * factor, self.query_log_price, query_phases)
        attended = functional.scaled_dot_product_attention(
            q / factor, rotate(k, cos, sin), v, is_causal=True, enable_gqa=config.heads != config.kv_heads
        )
        hidden, output_spikes = coded(attended.transpose(1, 2).reshape(batch, tokens, query), prices[1], phases)
        x = x + functional.linear(hidden, rounded_rows(self.output))
        hidden, gate_up_spikes = coded(rms_norm(x, self.feed_forward_gain, config.rms_norm_eps), prices[2], phases)
        gate, up = functional.linear(hidden, rounded_rows(self.gate_up)).chunk(2, -1)
        hidden, down_spikes = coded(functional.silu(gate) * up, prices[3], phases)
        x = x + functional.linear(hidden, rounded_rows(self.down))
        return x, torch.stack((qkv_spikes, output_spikes, gate_up_spikes, down_spikes))

    def tensors(self, number: int) -> dict[str, Tensor]:
        """Weights by their Hugging Face names."""
        config = self.config
        query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
        q, k, v = self.qkv.split([query, key, key])  # type: ignore[no-untyped-call]
        gate, up = self.gate_up.chunk(2)
        named = {
            "input_layernorm": self.attention_gain,
            "self_attn.q_proj": q,
            "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.o_proj": self.output,
            "post_attention_layernorm": self.feed_forward_gain,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": self.down,
        }
        return {f"model.layers.{number}.{name}.weight": value for name, value in named.items()}


class EmulatedDecoder(nn.Module):
    """A Llama decoder on coded inputs; `log_scale` moves all prices of the sites together."""

    log_scale: Tensor
    outputs: Tensor

    def __init__(self, config: DecoderConfig, tensors: dict[str, Tensor], prices: Prices, phases: int, query_phases: int) -> None:
        super().__init__()
        self.config, self.phases = config, phases
        self.embedding = nn.Parameter(tensors["model.embed_tokens.weight"].clone())
        self.layers = nn.ModuleList(
            EmulatedLayer(config, tensors, number, prices, (phases, query_phases)) for number in range(config.layers)
        )
        self.final_gain = nn.Parameter(tensors["model.norm.weight"].clone())
        self.untied_head = None if config.tie_embeddings else nn.Parameter(tensors["lm_head.weight"].clone())
        self.head_log_price = nn.Parameter(prices.sites[-1].clamp_min(_LEAST_PRICE).log())
        self.register_buffer("log_scale", torch.zeros(()))
        shapes = [config.site_shape(site) for site in range(config.sites)]
        self.register_buffer("outputs", torch.tensor([outputs for _, outputs in shapes], dtype=torch.float32))
        self.weights_total = sum(inputs * outputs for inputs, outputs in shapes)

    @property
    def head(self) -> Tensor:
        """Weights of the head [vocab, hidden]."""
        return self.embedding if self.untied_head is None else self.untied_head

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids [batch, tokens] -> (coded input of the head [batch, tokens, hidden], mean spikes per activation, weighted by outputs)."""
        cos, sin = rotary(self.config, ids.shape[1], ids.device)
        x = functional.embedding(ids, self.embedding)
        spikes = []
        for layer in self.layers:
            x, counts = layer(x, self.log_scale, cos, sin)
            spikes.append(counts)
        hidden = rms_norm(x, self.final_gain, self.config.rms_norm_eps)
        hidden, head_spikes = coded(hidden, self.head_log_price + self.log_scale, self.phases)
        counts = torch.cat([*spikes, head_spikes[None]]) / ids.numel()
        return hidden, (counts * self.outputs).sum() / self.weights_total

    def tensors(self) -> dict[str, Tensor]:
        """Weights by their Hugging Face names, detached, on the CPU."""
        named = {"model.embed_tokens.weight": self.embedding, "model.norm.weight": self.final_gain, "lm_head.weight": self.head}
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, EmulatedLayer)
            named |= layer.tensors(number)
        return {name: value.detach().float().cpu().contiguous() for name, value in named.items()}

    def prices(self) -> Prices:
        """Prices as they are now."""
        layers = [layer for layer in self.layers if isinstance(layer, EmulatedLayer)]
        sites = [price for layer in layers for price in layer.log_prices] + [self.head_log_price]
        now = tuple((price.detach() + self.log_scale).exp().cpu() for price in sites)
        return Prices(now, tuple(layer.query_log_price.detach()[:, 0].exp().cpu() for layer in layers))
