"""Checkpoint to integers: 8-bit weights, multipliers, gains, tables and fractions (docs/reference/numerics.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.convert.calibrate import Calibration
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.network.format import spiking_flags
from neuromorphic_llm.reference.linear import fold_scale
from neuromorphic_llm.reference.rotary import rotary_tables
from neuromorphic_llm.reference.weights import SITES, CodeConfig, DecoderConfig, DecoderWeights, Formats, LayerWeights, LinearWeights
from neuromorphic_llm.spikes.code import SpikeCode

LOG2_E = 1.4426950408889634
_HEADROOM_BITS = 2  # a factor of four between calibration maxima and saturation


def fraction_for(largest: float, preferred: int) -> int:
    """Largest fraction up to `preferred` that keeps `largest` a factor of four below 2^31."""
    return min(preferred, 31 - _HEADROOM_BITS - int(np.ceil(np.log2(max(largest, 1e-9)))))


def formats_for(calibration: Calibration, embedding_max: float) -> Formats:
    """Fractions that keep every calibrated range a factor of four from saturation.

    Raises ConversionError naming the activations that leave too few fractional bits.
    """
    default = Formats()
    ranges = {
        "residual": (max(calibration.residual_max, embedding_max), default.residual, 4),
        "qkv": (calibration.qkv_max, default.qkv, 4),
        "attention": (calibration.attention_max, default.attention, 4),
        "gate": (calibration.gate_max, default.gate, 12),
        "logit": (calibration.logit_max, default.logit, 4),
    }
    fractions = {}
    for name, (largest, preferred, least) in ranges.items():
        fractions[name] = fraction_for(largest, preferred)
        if fractions[name] < least:
            raise ConversionError(
                f"{name} activations of up to {largest:.3g} leave too few fractional bits; use a model without such outliers"
            )
    shift = max(int(np.ceil(np.log2(max(embedding_max, 1e-9)))) + fractions["residual"] - 15, 0)
    return Formats(**fractions, gain_fraction=14, embedding_shift=shift)


def quantise_rows(weight: torch.Tensor) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """8-bit weights per output channel, round to nearest: (int8 [outputs, inputs], scale [outputs])."""
    wide = weight.double()
    scale = wide.abs().amax(1) / 127.0
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (wide / scale.unsqueeze(1)).round().to(torch.int8).numpy(), scale.numpy()


def linear_weights(
    weight: torch.Tensor, row_scale: float | NDArray[np.float64], f_in: int, f_out: int, *, largest: int, name: str, spiking: bool
) -> LinearWeights:
    """One crossbar site from float weights [outputs, inputs]; `row_scale` multiplies the outputs, `largest` bounds |a|.

    Raises ConversionError if an accumulator could exceed 32 bits.
    """
    integers, scale = quantise_rows(weight)
    multiplier, shift = fold_scale(scale * row_scale, f_in, f_out)
    bound = int(np.abs(integers.astype(np.int64)).sum(1).max()) * (largest if spiking else 1 << 13)
    if bound >= 2**31:
        raise ConversionError(f"{name}: an accumulator could reach {bound:.3g}, beyond 32 bits; use fewer phases")
    stop = np.zeros(integers.shape[1], np.int32)
    return LinearWeights(integers, multiplier, shift, stop, None, spiking)


def _gain(tensors: Mapping[str, torch.Tensor], name: str, formats: Formats) -> NDArray[np.int32]:
    """Integer gains of an RMSNorm; ConversionError beyond 32 bits."""
    gain: NDArray[np.float64] = tensors[name].double().numpy()
    scaled: NDArray[np.float64] = np.round(gain * np.sqrt(len(gain)) * 2.0**formats.gain_fraction)
    if np.abs(scaled).max() >= 2**31:
        raise ConversionError(f"{name}: a gain of {np.abs(gain).max():.3g} does not fit 32 bits; use a model without such outliers")
    return scaled.astype(np.int32)


def _layer(
    number: int,
    config: DecoderConfig,
    tensors: Mapping[str, torch.Tensor],
    calibration: Calibration,
    formats: Formats,
    flags: Mapping[str, bool],
    largest: int,
) -> LayerWeights:
    """Integer weights of one layer; `largest` bounds the coded inputs."""
    prefix = f"model.layers.{number}"
    query_rows = config.heads * config.head_dim
    qkv_scale = np.ones(config.site_shape(0)[1])
    qkv_scale[:query_rows] = LOG2_E / np.sqrt(config.head_dim)
    attention = [tensors[f"{prefix}.self_attn.{part}_proj.weight"] for part in "qkv"]
    feed_forward = [tensors[f"{prefix}.mlp.{part}_proj.weight"] for part in ("gate", "up")]
    hidden = fraction_for(float(calibration.hidden_max[number]), 16)
    if hidden < 4:
        limit = calibration.hidden_max[number]
        raise ConversionError(f"layers.{number}: inputs of the down projection of up to {limit:.3g} leave too few fractional bits")
    plan: dict[str, tuple[torch.Tensor, Any, int, int]] = {
        "qkv": (torch.cat(attention), qkv_scale, formats.norm, formats.qkv),
        "output": (tensors[f"{prefix}.self_attn.o_proj.weight"], 1.0, formats.attention, formats.residual),
        "gate_up": (torch.cat(feed_forward), 1.0, formats.norm, formats.gate),
        "down": (tensors[f"{prefix}.mlp.down_proj.weight"], 1.0, hidden, formats.residual),
    }
    sites = {key: linear_weights(*plan[key], largest=largest, name=f"layers.{number}.{key}", spiking=flags[key]) for key in SITES}
    value_bits = np.ceil(np.log2(np.maximum(calibration.value_max[number], 1e-9) * 2.0**formats.qkv)).astype(int)
    return LayerWeights(
        attention_gain=_gain(tensors, f"{prefix}.input_layernorm.weight", formats),
        query_stop=np.zeros((config.heads, config.head_dim), np.int32),
        value_base=np.maximum(value_bits - 9, 0).astype(np.int32),
        feed_forward_gain=_gain(tensors, f"{prefix}.post_attention_layernorm.weight", formats),
        hidden_fraction=hidden,
        attention_spiking=flags["attention_products"],
        **sites,
    )


def integer_decoder(
    config: DecoderConfig, tensors: Mapping[str, torch.Tensor], calibration: Calibration, options: ConvertConfig, code: SpikeCode
) -> DecoderWeights:
    """Integer weights of a Llama checkpoint (Hugging Face tensor names), stop tables zero.

    Raises ConversionError naming what does not fit its integers.
    """
    embedding = tensors["model.embed_tokens.weight"].double().numpy()
    formats = formats_for(calibration, float(np.abs(embedding).max()))
    flags, largest = spiking_flags(options.parts), code.largest_value
    layers = [_layer(number, config, tensors, calibration, formats, flags, largest) for number in range(config.layers)]
    head = tensors["lm_head.weight"], 1.0, formats.norm, formats.logit
    cos, sin = rotary_tables(config.max_positions, config.head_dim, config.rope_theta)
    table = np.round(embedding * 2.0 ** (formats.residual - formats.embedding_shift))
    return DecoderWeights(
        config=config,
        formats=formats,
        code=CodeConfig(options.code, code.phases, options.query_phases, options.probability_bits, code.parameters),
        embedding=np.clip(table, -(2**15), 2**15 - 1).astype(np.int16),
        layers=tuple(layers),
        final_gain=_gain(tensors, "model.norm.weight", formats),
        head=linear_weights(*head, largest=largest, name="head", spiking=flags["head"]),
        rope_cos=cos,
        rope_sin=sin,
    )
