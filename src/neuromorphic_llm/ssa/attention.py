"""Spiking self-attention in the place of a transformers attention module (docs/reference/ssa.md, Attention)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neuromorphic_llm.conversion.float_decoder import rotate
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.ssa.config import SsaConfig
from neuromorphic_llm.ssa.neuron import lif

PARTS = ("query", "key", "value", "output")
_MEAN_RATE = {"query": 0.25, "key": 0.25, "value": 0.5, "output": 0.5}
"""Mean rate of a channel after calibration. Products of few query and key spikes select more, cost less and learn as well."""

_LEAST_DEVIATION = 1e-6


@dataclass
class SsaCounts:
    """Spikes and operations of one layer since counting began; device tensors are read only when asked for."""

    tokens: int = 0
    pairs: int = 0  # visible query-key pairs times query heads
    spikes: dict[str, Tensor | int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    score_spikes: Tensor | int = 0
    query_operations: Tensor | int = 0
    value_operations: Tensor | int = 0


class SpikingSelfAttention(nn.Module):
    """Attention over spike trains of T steps: no softmax, causal, grouped heads; called as transformers calls its attention.

    `query`, `key`, `value`, `output` are the dense module's projections, copied. Raises ValueError if their shapes do not fit.
    """

    def __init__(self, shape: DecoderConfig, config: SsaConfig, projections: dict[str, nn.Linear]) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        self.query, self.key, self.value, self.output = (projections[part] for part in PARTS)
        self.counts: SsaCounts | None = None
        heads = {"query": shape.heads, "key": shape.kv_heads, "value": shape.kv_heads, "output": shape.heads}
        for part, count in heads.items():
            module = projections[part]
            width = module.in_features if part == "output" else module.out_features
            if width != count * shape.head_dim:
                raise ValueError(f"projection {part} is {width} wide, {count} heads of {shape.head_dim} need {count * shape.head_dim}")
        channels = {part: (count, 1, shape.head_dim) for part, count in heads.items()}
        self.gain = nn.ParameterDict({part: nn.Parameter(torch.ones(size)) for part, size in channels.items()})
        self.shift = nn.ParameterDict({part: nn.Parameter(torch.zeros(size)) for part, size in channels.items()})
        self.decode_gain = nn.Parameter(torch.ones(channels["output"]))
        self.decode_shift = nn.Parameter(torch.zeros(channels["output"]))
        if config.score_spikes:
            self.score_gain = nn.Parameter(torch.full((shape.heads, 1, 1), 1.0))
            self.score_shift = nn.Parameter(torch.zeros(shape.heads, 1, 1))

    def currents(self, x: Tensor, position_embeddings: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [batch, heads or kv_heads, tokens, head_dim] of x [batch, tokens, hidden], rotated where there are angles."""
        batch, tokens, _ = x.shape
        q, k, v = (
            part(x).view(batch, tokens, -1, self.shape.head_dim).transpose(1, 2).float() for part in (self.query, self.key, self.value)
        )
        if position_embeddings is not None:
            cos, sin = (angle[:, None].float() for angle in position_embeddings)
            q, k = (rotate(part, cos, sin) for part in (q, k))
        return q, k, v

    def forward(self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor] | None = None, **_: Any) -> tuple[Tensor, None]:
        """hidden_states [batch, tokens, hidden] -> ([batch, tokens, hidden], None)."""
        batch, tokens, _hidden = hidden_states.shape
        context, scores, trains = self._context(self.currents(hidden_states, position_embeddings))
        trains["output"] = lif(self.gain["output"] * context + self.shift["output"], self.config.neuron)
        if self.counts is not None:
            self._count(self.counts, trains, scores)
        decoded = self.decode_gain * trains["output"].mean(0) + self.decode_shift
        joined = decoded.transpose(1, 2).reshape(batch, tokens, -1)
        return self.output(joined.to(hidden_states.dtype)), None

    def _context(self, currents: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Context [steps, batch, heads, tokens, head_dim] in rates, masked scores [steps, batch, heads, tokens, tokens], spike trains."""
        config, groups = self.config, self.shape.heads // self.shape.kv_heads
        trains = {
            part: lif(self.gain[part] * x + self.shift[part], config.neuron, config.time_steps)
            for part, x in zip(PARTS, currents, strict=False)
        }
        keys, values = (trains[part].repeat_interleave(groups, 2) for part in ("key", "value"))
        scores = (trains["query"] @ keys.transpose(-1, -2)).tril()
        if config.score_spikes:
            scores = lif(self.score_gain * scores + self.score_shift, config.neuron).tril()
        return (scores @ values) / scores.sum(-1, keepdim=True).clamp_min(1), scores, trains

    @torch.no_grad()
    def calibrate(self, x: Tensor, position_embeddings: tuple[Tensor, Tensor] | None) -> None:
        """Set gains and shifts from inputs x [batch, tokens, hidden]: a channel gets its mean rate, and 1/4 of the threshold as deviation.

        What the output neurons' rates stand for follows from those of the values.
        """
        groups = self.shape.heads // self.shape.kv_heads
        currents = self.currents(x, position_embeddings)
        if self.config.score_spikes:
            # A query half of whose neurons meet a spiking key is at the threshold at once.
            self.score_gain.fill_(2 * self.config.neuron.threshold / self.shape.head_dim)
        for part, values in zip(PARTS, currents, strict=False):
            mean, scale = self._centre(part, values)
        mean, scale = (each.repeat_interleave(groups, 0) for each in (mean, scale))
        context_mean, context_scale = self._centre("output", self._context(currents)[0].mean(0))
        # rate -> context in rates of the values -> values
        self.decode_gain.copy_(context_scale * scale)
        self.decode_shift.copy_(mean + scale * (context_mean - 0.5 - 0.5 * context_scale))

    def _centre(self, part: str, values: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and shift of one part from its values [batch, heads, tokens, head_dim]; returns mean and four deviations of its channels."""
        threshold = self.config.neuron.threshold
        mean, scale = values.mean((0, 2))[:, None], 4 * values.std((0, 2))[:, None].clamp_min(_LEAST_DEVIATION)
        self.gain[part].copy_(threshold / scale)
        # Half a spike over all steps: spike counts are rounded instead of cut.
        self.shift[part].copy_(threshold * (_MEAN_RATE[part] - mean / scale + 0.5 / self.config.time_steps))
        return mean, scale

    @torch.no_grad()
    def _count(self, counts: SsaCounts, trains: dict[str, Tensor], scores: Tensor) -> None:
        """Add the spikes and synaptic operations of one pass."""
        _, batch, heads, tokens, _ = scores.shape
        position = torch.arange(1, tokens + 1, device=scores.device, dtype=torch.float64)
        counts.tokens += batch * tokens
        counts.pairs += batch * heads * tokens * (tokens + 1) // 2
        for part, train in trains.items():
            counts.spikes[part] = counts.spikes[part] + train.sum(dtype=torch.float64)
        counts.query_operations = counts.query_operations + _per_token(trains["query"]) @ position
        if self.config.score_spikes:
            spikes = scores.sum(dtype=torch.float64)
            counts.score_spikes = counts.score_spikes + spikes
            counts.value_operations = counts.value_operations + spikes * self.shape.head_dim
        else:
            later = heads // self.shape.kv_heads * position.flip(0)
            counts.value_operations = counts.value_operations + _per_token(trains["value"]) @ later


def _per_token(train: Tensor) -> Tensor:
    """Spikes of each token, float64 [tokens], of trains [steps, batch, heads, tokens, head_dim]."""
    return train.sum((0, 1, 2, 4), dtype=torch.float64)
