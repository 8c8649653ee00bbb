"""Float emulation of a spiking decoder, differentiable: what fine-tuning trains (docs/reference/conversion.md, Fine-tuning).

The inputs of all crossbar sites pass their code with its stop rule, the queries signed digits, weights are rounded to 8 bits per row.
Norms, rotary embedding, gate, keys, values and the softmax stay in floating point: 8-bit keys and values and coded probabilities cost
little (numerics.md). Gradients pass the rounding unchanged; those of the codes are in straight_through.py and straight_through_log.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuromorphic_llm.conversion.float_decoder import LOG2_E, rotate
from neuromorphic_llm.conversion.straight_through import LEAST_MAXIMUM, LEAST_PRICE, STRAIGHT, Surrogate, coded
from neuromorphic_llm.conversion.straight_through_log import coded_levels
from neuromorphic_llm.errors import ConversionError, UsageError
from neuromorphic_llm.graph.parts import other_parts
from neuromorphic_llm.models.canonical import SITE_PROJECTIONS, CanonicalDecoder
from neuromorphic_llm.reference.build import build_graph, outline
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog


def rounded_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """8-bit weights per row, round to nearest as conversion does it: (integers, with the gradient of weight / scale, scale [rows])."""
    with torch.no_grad():
        scale = weight.abs().amax(1).clamp_min(LEAST_MAXIMUM) / 127
    quotient = weight / scale[:, None]
    return quotient + (quotient.round() - quotient).detach(), scale


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Coded x [.., inputs] times the rounded weight [outputs, inputs], plus bias, float32; integers of 8 bits are exact in bfloat16."""
    integers, scale = rounded_rows(weight)
    y = functional.linear(x, integers.to(x.dtype)).float() * scale
    return y if bias is None else y + bias


def rms_norm(x: Tensor, gain: Tensor, epsilon: float) -> Tensor:
    """RMSNorm over the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * gain


def rotary(tensors: Mapping[str, Tensor], tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [tokens, 1, head_dim] of a canonical decoder's `rotary.frequencies` and `rotary.scale`."""
    angles = torch.arange(tokens, device=device, dtype=torch.float64)[:, None] * tensors["rotary.frequencies"].to(device)
    scale = tensors["rotary.scale"].to(device) if "rotary.scale" in tensors else 1.0
    cos, sin = (torch.cat((table * scale,) * 2, -1).float()[:, None] for table in (angles.cos(), angles.sin()))
    return cos, sin


@dataclass(frozen=True)
class Prices:
    """Stop prices R of a converted network, in units of the squared input: the start of fine-tuning."""

    sites: tuple[Tensor, ...]  # [inputs] of each site
    queries: tuple[Tensor, ...]  # [heads, head_dim] of each layer

    @classmethod
    def of(cls, weights: DecoderWeights) -> Prices:
        """Prices of a network's stop tables."""
        sites = [weights.site(site.name).stop / 4.0 ** weights.input_fraction(site.name) for site in weights.config.sites]
        queries = [layer.query_stop / 4.0**weights.formats.qkv for layer in weights.layers]
        return cls(*(tuple(torch.from_numpy(table).float() for table in tables) for tables in (sites, queries)))


@dataclass(frozen=True)
class EmulationConfig:
    """Phases of the codes of sites and queries, the surrogate of their derivative, and whether products take bfloat16.

    bfloat16 is exact for coded values of 8 bits. `steps` 0: sites have the code signed-digit; else first-spike-log with so many values an
    octave.
    """

    phases: int
    query_phases: int
    surrogate: Surrogate = STRAIGHT
    half: bool = False
    steps: int = 0

    def code(self, x: Tensor, price: Tensor) -> tuple[Tensor, Tensor]:
        """(coded input, number of spikes) of a site, of x [.., inputs] with prices [1, inputs]."""
        if self.steps:
            return coded_levels(x, price, self.phases, self.steps, self.surrogate, self.half)
        return coded(x, price, self.phases, self.surrogate, self.half)


def emulation_of(code: SpikeCode, query_phases: int, surrogate: Surrogate, half: bool) -> EmulationConfig:
    """The emulation of a code; UsageError for one whose derivative nobody has written."""
    steps = 0
    if isinstance(code, FirstSpikeLog):
        if not code.signed or code.clip_per_mille or code.octaves > 1:
            raise UsageError(
                "fine-tuning knows the code first-spike-log signed, unclipped and with octaves=1 only; leave those options out"
            )
        steps = code.steps
    elif code.name != "signed-digit":
        raise UsageError(f"fine-tuning knows the codes signed-digit and first-spike-log, not {code.name}; convert without it")
    return EmulationConfig(code.phases, query_phases, surrogate, half, steps)


def _layer(
    x: Tensor, weights: Sequence[Tensor], prices: Sequence[Tensor], rotation: tuple[Tensor, Tensor], config: DecoderConfig,
    emulation: EmulationConfig,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One decoder layer on coded inputs: x [batch, tokens, hidden] -> (x after it, spikes of the four sites [4]).

    weights: those of EmulatedLayer in its order; prices: of the four sites [1, inputs] and of the queries [heads, head_dim].
    A function of tensors, so that all layers share what is compiled of it.
    """
    attention_gain, qkv, output, feed_forward_gain, gate_up, down, *biases = weights
    batch, tokens, _ = x.shape
    query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim

    hidden, qkv_spikes = emulation.code(rms_norm(x, attention_gain, config.rms_norm_eps), prices[0])
    parts = product(hidden, qkv, biases[0]).split([query, key, key], -1)  # type: ignore[no-untyped-call]
    q, k, v = (part.view(batch, tokens, -1, config.head_dim) for part in parts)
    # The chip's queries carry the scale of the softmax and its base 2.
    factor = LOG2_E / math.sqrt(config.head_dim)
    q, _ = coded(rotate(q, *rotation) * factor, prices[4], emulation.query_phases)
    kind = hidden.dtype
    attended = functional.scaled_dot_product_attention(
        (q / factor).to(kind).transpose(1, 2),
        rotate(k, *rotation).to(kind).transpose(1, 2),
        v.to(kind).transpose(1, 2),
        is_causal=True,
        enable_gqa=config.heads != config.kv_heads,
    )
    hidden, output_spikes = emulation.code(attended.transpose(1, 2).reshape(batch, tokens, query).float(), prices[1])
    x = x + product(hidden, output, biases[1])
    hidden, gate_up_spikes = emulation.code(rms_norm(x, feed_forward_gain, config.rms_norm_eps), prices[2])
    gate, up = product(hidden, gate_up, biases[2]).chunk(2, -1)
    hidden, down_spikes = emulation.code(functional.silu(gate) * up, prices[3])
    return x + product(hidden, down, biases[3]), torch.stack((qkv_spikes, output_spikes, gate_up_spikes, down_spikes))


class EmulatedLayer(nn.Module):
    """Parameters of one decoder layer; its sites have biases, zero at first where the decoder has none."""

    query_log_price: Tensor

    def __init__(self, config: DecoderConfig, tensors: Mapping[str, Tensor], number: int, prices: Prices) -> None:
        super().__init__()
        self.config = config
        prefix = f"model.layers.{number}."

        def stacked(role: str) -> nn.Parameter:
            names = SITE_PROJECTIONS[role]
            return nn.Parameter(torch.cat([tensors[f"{prefix}{name}.weight"] for name in names]).clone())

        def bias(role: str) -> Tensor:
            names = [f"{prefix}{name}" for name in SITE_PROJECTIONS[role]]
            rows = (tensors[f"{name}.weight"].new_zeros(len(tensors[f"{name}.weight"])) for name in names)
            return torch.cat([tensors.get(f"{name}.bias", zeros) for name, zeros in zip(names, rows, strict=True)]).clone()

        self.attention_gain = nn.Parameter(tensors[f"{prefix}input_layernorm.weight"].clone())
        self.feed_forward_gain = nn.Parameter(tensors[f"{prefix}post_attention_layernorm.weight"].clone())
        self.qkv, self.output, self.gate_up, self.down = map(stacked, SITE_PROJECTIONS)
        self.biases = nn.ParameterList(map(bias, SITE_PROJECTIONS))
        log_prices = [prices.sites[site.index].clamp_min(LEAST_PRICE).log() for site in config.layer_sites(number)]
        self.log_prices = nn.ParameterList(log_prices)
        self.register_buffer("query_log_price", prices.queries[number].clamp_min(LEAST_PRICE).log())

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """Weights in the order of _layer's arguments."""
        return self.attention_gain, self.qkv, self.output, self.feed_forward_gain, self.gate_up, self.down, *self.biases

    def prices(self, log_scale: Tensor) -> tuple[Tensor, ...]:
        """Prices of the sites [1, inputs], log_scale added to their logarithms, and of the queries [heads, head_dim]."""
        return *((price + log_scale).exp()[None] for price in self.log_prices), self.query_log_price.exp()

    def tensors(self, number: int) -> dict[str, Tensor]:
        """Weights and biases by their Hugging Face names."""
        config, prefix = self.config, f"model.layers.{number}."
        query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
        rows = {"qkv": [query, key, key], "gate_up": [config.intermediate_size] * 2}
        named: dict[str, Tensor] = {
            f"{prefix}input_layernorm.weight": self.attention_gain,
            f"{prefix}post_attention_layernorm.weight": self.feed_forward_gain,
        }
        for position, site in enumerate(SITE_PROJECTIONS):
            for kind, tensor in (("weight", getattr(self, site)), ("bias", self.biases[position])):
                parts = tensor.split(rows.get(site, len(tensor)))
                named |= {f"{prefix}{name}.{kind}": part for name, part in zip(SITE_PROJECTIONS[site], parts, strict=True)}
        return named


_EMULATED = {
    *("token", "embedding", "shift", "normalise", "gain", "matmul", "scale", "bias", "slice", "rope", "kv_write", "attention", "gate"),
    *("add", "argmax"),
}
"""Operations of the graph that _layer and EmulatedDecoder have."""


def check_plain(decoder: CanonicalDecoder) -> None:
    """ConversionError naming what the emulation has not, if the decoder is other than Llama's or Qwen2's."""
    graph = build_graph(outline(decoder.config))
    found = other_parts(graph, _EMULATED)
    others = {
        "attention windows": any("window" in node.attributes for node in graph.nodes),
        "a scale of scores": decoder.config.score_scale != 0.0,
        "a bias of the head": "lm_head.bias" in decoder.tensors,
    }
    if found := [*found, *(name for name, there in others.items() if there)]:
        raise ConversionError(f"fine-tuning knows Llama and Qwen2 decoders only; this one has {', '.join(found)}; convert it without")


class EmulatedDecoder(nn.Module):
    """A Llama or Qwen2 decoder on coded inputs; `log_scale` moves all prices of the sites together.

    Raises ConversionError for other decoders.
    """

    log_scale: Tensor
    outputs: Tensor

    def __init__(self, decoder: CanonicalDecoder, prices: Prices, emulation: EmulationConfig) -> None:
        super().__init__()
        check_plain(decoder)
        config, tensors = decoder.config, decoder.tensors
        self.config, self.emulation = config, emulation
        self._layer = _layer
        self._rotary = {name: tensor for name, tensor in tensors.items() if name.startswith("rotary.")}
        self.embedding = nn.Parameter(tensors["model.embed_tokens.weight"].clone())
        self.layers = nn.ModuleList(EmulatedLayer(config, tensors, number, prices) for number in range(config.layers))
        self.final_gain = nn.Parameter(tensors["model.norm.weight"].clone())
        self.untied_head = None if config.tie_embeddings else nn.Parameter(tensors["lm_head.weight"].clone())
        self.head_log_price = nn.Parameter(prices.sites[-1].clamp_min(LEAST_PRICE).log())
        self.register_buffer("log_scale", torch.zeros(()))
        self.register_buffer("outputs", torch.tensor([site.outputs for site in config.sites], dtype=torch.float32))
        self.weights_total = sum(site.inputs * site.outputs for site in config.sites)

    @property
    def head(self) -> Tensor:
        """Weights of the head [vocab, hidden]."""
        return self.embedding if self.untied_head is None else self.untied_head

    def compile_layers(self) -> None:
        """Compile the function of a layer, on its first call."""
        self._layer = torch.compile(_layer, dynamic=False)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids [batch, tokens] -> (coded input of the head [batch, tokens, hidden], mean spikes per activation, weighted by outputs)."""
        rotation = rotary(self._rotary, ids.shape[1], ids.device)
        x = functional.embedding(ids, self.embedding)
        spikes = []
        for layer in self.layers:
            assert isinstance(layer, EmulatedLayer)
            x, counts = self._layer(x, layer.weights, layer.prices(self.log_scale), rotation, self.config, self.emulation)
            spikes.append(counts)
        hidden = rms_norm(x, self.final_gain, self.config.rms_norm_eps)
        price = (self.head_log_price + self.log_scale).exp()[None]
        hidden, head_spikes = self.emulation.code(hidden, price)
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
        return Prices(now, tuple(layer.query_log_price.exp().cpu() for layer in layers))
