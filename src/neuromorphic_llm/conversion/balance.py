"""Exact rescalings of a canonical decoder, taken back where they would cost the network precision (docs/reference/conversion.md).

A decoder predicts the same if a channel of the values is multiplied by s and the columns of the output projection that read it by 1 / s;
so it is between keys and queries, between the up and down projections, between the gains of a norm and the columns behind it, and for the
residual stream as a whole. Formats, 8-bit weights and spike codes do not see it that way: they have one scale for many channels.
All factors are powers of two, so floating-point predictions stay what they are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neuromorphic_llm.conversion.float_decoder import LOG2_E
from neuromorphic_llm.conversion.key_offsets import KEY_SPREAD, turning_share
from neuromorphic_llm.models.canonical import CanonicalDecoder, frequencies_name
from neuromorphic_llm.reference.blocks import Attention, FeedForward
from neuromorphic_llm.reference.config import DecoderConfig

if TYPE_CHECKING:
    from neuromorphic_llm.models.checkpoint import Checkpoint

# All in bits, logarithms to base 2. What trained models have lies well inside (docs/results/robustness.md).
PAIR_SPREAD, PAIR_DEVIATION, PAIR_LEVEL = 5.0, 2.0, 6.0
"""Limits of a ratio of two sides: farthest channel from the median, standard deviation over channels, median from normal."""
COLUMN_SPREAD, COLUMN_DEVIATION = 4.0, 1.25
"""Limits of the columns behind a norm: farthest from the median, and standard deviation."""
GAIN_LEVELS, STREAM_LEVELS = (-6.0, 4.0), (-8.0, 8.0)
"""Median gain of a norm, root mean square of the embedding."""
NORMAL_GAIN, NORMAL_STREAM = -1.0, -2.0
NORMAL_VALUES, NORMAL_KEYS, NORMAL_HIDDEN = -1.0, 2.0, -1.0
"""Usual ratios: rows of values to columns of the output, keys to scaled queries, rows of up to columns of down."""

BIAS_EXCESS = 2.0
"""Limit of a turning key bias over the median row of its head."""

_LARGEST_SHIFT = 60.0
_BIAS_SHARE = 2.0**-8  # a bias counts for a row where it is that much larger; below, weights do
_SAMPLED_ROWS = 1024  # of a matrix, evenly: plenty for a mean logarithm

_READERS = (
    ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
)


@dataclass(frozen=True)
class ConvertedDecoder:
    """Balanced decoder that is calibrated and converted, with a hash that tells it from the decoder as stored."""

    canonical: CanonicalDecoder
    content_hash: str


def converted_decoder(checkpoint: Checkpoint) -> ConvertedDecoder:
    """The balanced decoder of a checkpoint; its hash is the checkpoint's where nothing had to be rescaled."""
    canonical = balanced(checkpoint.canonical)
    if canonical is checkpoint.canonical:
        return ConvertedDecoder(canonical, checkpoint.content_hash)
    return ConvertedDecoder(canonical, hashlib.sha256(f"{checkpoint.content_hash} balanced 1".encode()).hexdigest())


def balanced(canonical: CanonicalDecoder) -> CanonicalDecoder:
    """The decoder with rescaled weights and equal predictions; `canonical` itself, the same object, if no scale is out of the ordinary."""
    work = _Rescaling(canonical.config, dict(canonical.tensors))
    work.stream()
    for layer in range(work.config.layers):
        for norm, readers in _READERS:
            names = [f"model.layers.{layer}.{reader}.weight" for reader in readers]
            if there := [name for name in names if name in work.tensors]:
                work.columns(f"model.layers.{layer}.{norm}.weight", there)
        for block in work.config.layer_blocks(layer):
            if isinstance(block, Attention):
                work.values(layer)
                work.keys(layer)
            elif isinstance(block, FeedForward):
                work.hidden(layer)
    work.columns("model.norm.weight", ["lm_head.weight"])
    return CanonicalDecoder(work.config, work.tensors) if work.changed else canonical


def _log(x: Tensor) -> Tensor:
    """Base-2 logarithms, float64; -inf of zero."""
    return x.double().abs().log2()


def _median(x: Tensor) -> float:
    """Median of the finite entries, 0 without any."""
    finite = x[torch.isfinite(x)]
    return float(finite.median()) if len(finite) else 0.0


def _column_levels(weights: Sequence[Tensor]) -> Tensor:
    """Mean logarithm over the rows of stacked weights [outputs, inputs] -> [inputs], zeros left out; -inf of a column of zeros.

    The logarithm of a product of row and column scales is a sum, so that the scales of rows do not matter.
    """
    total = torch.zeros(weights[0].shape[1], dtype=torch.float64)
    count = torch.zeros_like(total)
    for weight in weights:
        sample = weight[:: max(1, len(weight) // _SAMPLED_ROWS)]
        there = sample != 0
        total += torch.where(there, sample.abs(), 1.0).log2().double().sum(0)
        count += there.sum(0)
    return torch.where(count > 0, total / count.clamp_min(1), -math.inf)


def column_deviations(levels: Tensor, others: Tensor) -> Tensor:
    """Distance of column levels from their median; a column of zeros takes the distance that brings its gain to the median gain."""
    back = torch.where(torch.isfinite(others), _median(others) - others, 0.0)
    return torch.where(torch.isfinite(levels), levels - _median(levels), back)


def pair_shifts(first: Tensor, second: Tensor, normal: float) -> Tensor:
    """Exponents e for `first * 2^e`, `second * 2^-e` from the logarithms of both sides, of one shape; 0 where all is ordinary.

    Where one side is zero, the other is brought to its median.
    """
    ratio = first - second
    middle = _median(ratio)
    ratio = torch.where(torch.isfinite(second), ratio, middle + 2 * (first - _median(first)))
    ratio = torch.where(torch.isfinite(first), ratio, middle - 2 * (second - _median(second)))
    ratio = torch.where(torch.isfinite(ratio), ratio, middle)
    away = ratio - middle
    if float(away.abs().max()) > PAIR_SPREAD or float(away.std(correction=0)) > PAIR_DEVIATION:
        target = min(max(middle, normal - PAIR_LEVEL / 2), normal + PAIR_LEVEL / 2)
        return _whole((target - ratio) / 2)
    if abs(middle - normal) > PAIR_LEVEL:
        return _whole(torch.full_like(ratio, (normal - middle) / 2))
    return torch.zeros_like(ratio)


def _whole(shift: Tensor) -> Tensor:
    return shift.round().clamp(-_LARGEST_SHIFT, _LARGEST_SHIFT)


@dataclass
class _Rescaling:
    """Tensors of a decoder while they are rescaled."""

    config: DecoderConfig
    tensors: dict[str, Tensor]
    changed: bool = False

    def stream(self) -> None:
        """The residual stream as a whole, with the epsilon of the norms."""
        tables = [name for name in ("model.embed_tokens.weight", "model.embed_positions.weight") if name in self.tensors]
        level = float(_log(torch.stack([self.tensors[name].double().square().mean().sqrt() for name in tables])).max())
        if not math.isfinite(level) or STREAM_LEVELS[0] <= level <= STREAM_LEVELS[1]:
            return
        # Epsilon goes with the square, and stays at most 1.
        shift = min(round(NORMAL_STREAM - level), math.floor(-math.log2(self.config.rms_norm_eps) / 2))
        if not shift:
            return
        self.config = replace(self.config, rms_norm_eps=self.config.rms_norm_eps * 4.0**shift)
        for name in tables:
            self._scale(name, shift)
        for layer in range(self.config.layers):
            prefix = f"model.layers.{layer}."
            # In front of a norm the epsilon asks for it.
            normed = ["self_attn.q_proj", "self_attn.k_proj"] if self.config.query_key_norm else []
            for linear in ("self_attn.o_proj", "mlp.down_proj", *normed):
                self._scale(f"{prefix}{linear}.weight", shift)
                self._scale(f"{prefix}{linear}.bias", shift)
            for norm in ("attention_output_norm", "feed_forward_output_norm"):
                self._scale(f"{prefix}{norm}.weight", shift)

    def columns(self, norm: str, readers: Sequence[str]) -> None:
        """The gains of a norm against the columns of the weights behind it."""
        gains = _log(self.tensors[norm])
        away = column_deviations(_column_levels([self.tensors[name] for name in readers]), gains)
        shift = torch.zeros_like(away)
        if float(away.abs().max()) > COLUMN_SPREAD or float(away.std(correction=0)) > COLUMN_DEVIATION:
            shift = _whole(away)
        level = _median(gains + shift)
        if not GAIN_LEVELS[0] <= level <= GAIN_LEVELS[1]:
            shift = shift + round(NORMAL_GAIN - level)
        if not shift.any():
            return
        self._scale(norm, shift)
        for name in readers:
            self._scale(name, -shift)
        if readers == ["lm_head.weight"]:  # whose table is no longer the embedding's
            self.config = replace(self.config, tie_embeddings=False)

    def values(self, layer: int) -> None:
        """Channels of the values against the columns of the output projection that read them."""
        config, prefix = self.config, f"model.layers.{layer}.self_attn."
        output = self.tensors[prefix + "o_proj.weight"]
        shape = (len(output), config.kv_heads, config.heads // config.kv_heads, config.head_dim)
        columns = output.view(shape).square().sum(0, dtype=torch.float64).mean(1).sqrt().flatten()
        shift = pair_shifts(self._rows(layer, "self_attn.v_proj"), _log(columns), NORMAL_VALUES)
        if shift.any():
            self._scale_rows(prefix + "v_proj", shift)
            self._scale(prefix + "o_proj.weight", -self._by_query_head(shift.view(config.kv_heads, -1)))

    def keys(self, layer: int) -> None:
        """Rotated pairs of the keys against those of the queries that meet them; the gains where queries and keys have norms."""
        config, prefix = self.config, f"model.layers.{layer}.self_attn."
        scale = math.log2(LOG2_E * config.query_scale)
        frequencies = self.tensors[frequencies_name(config, layer)]
        turns = frequencies != 0

        def pairs(levels: Tensor) -> Tensor:
            """Logarithms [.., head_dim]; both elements of a rotated pair have that of their root mean square."""
            power = (2.0 * levels).exp2().view(*levels.shape[:-1], 2, -1)
            return (torch.where(turns, power.mean(-2, keepdim=True), power).log2() / 2).flatten(-2)

        if config.query_key_norm:
            key, query = (pairs(_log(self.tensors[f"{prefix}{name}_norm.weight"])) for name in "kq")
            shift = pair_shifts(key, query + scale, NORMAL_KEYS)
            if shift.any():
                self._scale(prefix + "k_norm.weight", shift)
                self._scale(prefix + "q_norm.weight", -shift)
            return
        key = self._rows(layer, "self_attn.k_proj").view(config.kv_heads, -1)
        by_head = self._rows(layer, "self_attn.q_proj").view(config.kv_heads, -1, config.head_dim)
        query = (2.0 * by_head).exp2().mean(1).log2() / 2
        shift = pair_shifts(pairs(key), pairs(query) + scale, NORMAL_KEYS)
        shift = shift - self._turning_biases(layer, pairs(key) + shift, shift, frequencies)
        if shift.any():
            self._scale_rows(prefix + "k_proj", shift.flatten())
            self._scale_rows(prefix + "q_proj", -self._by_query_head(shift))

    def _turning_biases(self, layer: int, keys: Tensor, shift: Tensor, frequencies: Tensor) -> Tensor:
        """Exponents [kv_heads, head_dim] by which pairs should shrink whose bias, turning with the position, outgrows all keys.

        keys: logarithms of the rows [kv_heads, head_dim], after `shift`. What does not turn is left to offsets of keys.
        """
        bias = self.tensors.get(f"model.layers.{layer}.self_attn.k_proj.bias")
        if bias is None:
            return torch.zeros_like(shift)
        by_pair = bias.double().view(self.config.kv_heads, 2, -1).square().sum(1).sqrt()
        turning = torch.from_numpy(turning_share(self.config, frequencies.numpy()))
        largest = _log(by_pair * turning / KEY_SPREAD).repeat(1, 2) + shift
        middle = torch.tensor([[_median(levels)] for levels in keys], dtype=torch.float64)
        excess = largest - middle
        return torch.where(excess > BIAS_EXCESS, (excess / 2).ceil(), torch.zeros_like(excess))

    def hidden(self, layer: int) -> None:
        """Channels between the feed-forward projections, where what lies between them is linear, or a ReLU."""
        config, prefix = self.config, f"model.layers.{layer}.mlp."
        if not config.gated and config.activation != "relu":
            return
        rows = "up_proj" if config.gated else "gate_proj"
        columns = _log(self.tensors[prefix + "down_proj.weight"].square().sum(0, dtype=torch.float64).sqrt())
        shift = pair_shifts(self._rows(layer, f"mlp.{rows}"), columns, NORMAL_HIDDEN)
        if shift.any():
            self._scale_rows(prefix + rows, shift)
            self._scale(prefix + "down_proj.weight", -shift)
        if config.gated and config.activation == "relu":
            shift = pair_shifts(self._rows(layer, "mlp.gate_proj"), self._rows(layer, "mlp.up_proj"), 0.0)
            if shift.any():
                self._scale_rows(prefix + "gate_proj", shift)
                self._scale_rows(prefix + "up_proj", -shift)

    def _rows(self, layer: int, linear: str) -> Tensor:
        """Logarithm of what a row of a projection gives for inputs of the norm in front of it of size one, [outputs]."""
        name = f"model.layers.{layer}.{linear}"
        norm = "input_layernorm" if linear.startswith("self_attn") else "post_attention_layernorm"
        gained = self.tensors[name + ".weight"] * self.tensors[f"model.layers.{layer}.{norm}.weight"]
        size = gained.square().sum(1, dtype=torch.float64).sqrt()
        bias = self.tensors.get(name + ".bias")
        return _log(size if bias is None else torch.maximum(size, bias.double().abs() * _BIAS_SHARE))

    def _by_query_head(self, shift: Tensor) -> Tensor:
        """[kv_heads, head_dim] repeated for the query heads of each, [heads * head_dim]."""
        return shift.repeat_interleave(self.config.heads // self.config.kv_heads, 0).flatten()

    def _scale_rows(self, name: str, shift: Tensor) -> None:
        """Rows of a projection and their biases times 2^shift [outputs]."""
        self._scale(name + ".weight", shift[:, None])
        self._scale(name + ".bias", shift)

    def _scale(self, name: str, shift: Tensor | int) -> None:
        """A tensor, if it is there, times 2^shift."""
        if name in self.tensors:
            factor = torch.exp2(torch.as_tensor(shift, dtype=torch.float64))
            self.tensors[name] = (self.tensors[name].double() * factor).float()
            self.changed = True
