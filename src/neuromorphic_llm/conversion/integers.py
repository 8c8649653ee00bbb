"""Canonical decoder to integers: 8-bit weights, multipliers, gains, tables and fractions (numerics.md, families.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.float_decoder import FLOAT_BLOCKS
from neuromorphic_llm.conversion.group_weights import quantise_groups
from neuromorphic_llm.conversion.key_offsets import key_offset
from neuromorphic_llm.devices.exact import Exact
from neuromorphic_llm.devices.readout import BlockReadout, get_readout
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.canonical import frequencies_name
from neuromorphic_llm.network.format import spiking_parts
from neuromorphic_llm.reference.config import CodeConfig, DecoderConfig, Formats
from neuromorphic_llm.reference.linear import fold_scale
from neuromorphic_llm.reference.rotary import Table, tables_of
from neuromorphic_llm.reference.weights import DecoderWeights, LayerWeights, LinearWeights
from neuromorphic_llm.spikes.code import SpikeCode

_HEADROOM_BITS = 2  # a factor of four between calibration maxima and saturation


def fraction_for(largest: float, preferred: int) -> int:
    """Largest fraction up to `preferred` that keeps `largest` a factor of four below 2^31."""
    return min(preferred, 31 - _HEADROOM_BITS - int(np.ceil(np.log2(max(largest, 1e-9)))))


def formats_for(calibration: Calibration, embedding_max: float) -> Formats:
    """Fractions that keep every calibrated range a factor of four from saturation; `embedding_max` bounds embedding and positions.

    Raises ConversionError naming the activations that leave too few fractional bits.
    """
    default = Formats()
    ranges = {
        # Projections in front of output norms have the fraction of the residual stream, too.
        "residual": (max(calibration.residual_max, calibration.projection_max, embedding_max), default.residual, 4),
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


def check_accumulator(integers: NDArray[np.int8], largest: int, name: str, advice: str = "use fewer phases") -> None:
    """ConversionError with `advice` if weights [outputs, inputs] of site `name`, times |a| up to `largest`, could exceed 32 bits."""
    bound = int(np.abs(integers.astype(np.int64)).sum(1).max()) * largest
    if bound >= 2**31:
        raise ConversionError(f"{name}: an accumulator could reach {bound:.3g}, beyond 32 bits; {advice}")


def linear_weights(
    weight: torch.Tensor,
    row_scale: float | NDArray[np.float64],
    f_in: int,
    f_out: int,
    *,
    largest: int,
    name: str,
    spiking: bool,
    bias: torch.Tensor | None = None,
    groups: bool = False,
) -> LinearWeights:
    """One crossbar site from float weights [outputs, inputs] and bias [outputs]; `row_scale` multiplies the outputs, `largest` bounds |a|.

    With `groups` the weights are 4-bit ones times a multiplier per group.
    Raises ConversionError if an accumulator or a bias could exceed 32 bits.
    """
    group_multiplier = None
    if groups:
        integers, group_multiplier, scale = quantise_groups(weight)
    else:
        integers, scale = quantise_rows(weight)
    multiplier, shift = fold_scale(scale * row_scale, f_in, f_out)
    check_accumulator(integers, largest if spiking else 1 << 13, name)
    stop = np.zeros(integers.shape[1], np.int32)
    added = None
    if bias is not None:
        scaled = bias.double().numpy() * row_scale
        added = _int32(scaled * 2.0**f_out, f"{name}: a bias of {np.abs(scaled).max():.3g}")
    return LinearWeights(integers, multiplier, shift, stop, added, spiking, group_multiplier)


def _int32(scaled: NDArray[np.float64], what: str) -> NDArray[np.int32]:
    """Rounded to integers; ConversionError naming `what` beyond 32 bits."""
    if np.abs(scaled).max() >= 2**31 - 0.5:
        raise ConversionError(f"{what} does not fit 32 bits; use a model without such outliers")
    return np.round(scaled).astype(np.int32)


def _table(rows: torch.Tensor, formats: Formats) -> NDArray[np.int16]:
    """Rows that enter the residual stream, in 16 bits."""
    scaled = np.round(rows.double().numpy() * 2.0 ** (formats.residual - formats.embedding_shift))
    return np.clip(scaled, -(2**15), 2**15 - 1).astype(np.int16)


@dataclass(frozen=True)
class Converter:
    """Converter of float tensors to the integers of every layer; `largest` bounds the coded inputs, `groups`: 4-bit weights in groups."""

    config: DecoderConfig
    tensors: Mapping[str, torch.Tensor]
    calibration: Calibration
    formats: Formats
    spiking: Mapping[str, bool]
    largest: int
    groups: bool

    @property
    def rotary_scale(self) -> float:
        """Scale of cosines and sines."""
        return float(self.tensors["rotary.scale"]) if "rotary.scale" in self.tensors else 1.0

    def key_offset(self, number: int) -> NDArray[np.int32] | None:
        """Offsets of the rotated keys of a layer, if they pay."""
        frequencies = self.tensors[frequencies_name(self.config, number)].double().numpy()
        offset = key_offset(self.config, self.calibration.keys, number, frequencies, self.rotary_scale)
        return None if offset is None else _int32(offset * 2.0**self.formats.qkv, f"layers.{number}: an offset of keys")

    def gain(self, name: str, factor: float = 1.0) -> NDArray[np.int32]:
        """Integer gains of an RMSNorm, times `factor`."""
        gain: NDArray[np.float64] = self.tensors[name].double().numpy() * factor
        scaled: NDArray[np.float64] = gain * np.sqrt(len(gain)) * 2.0**self.formats.gain_fraction
        return _int32(scaled, f"{name}: a gain of {np.abs(gain).max():.3g}")

    def site(
        self,
        name: str,
        layer: str,
        projections: Sequence[str],
        scale: float | NDArray[np.float64] = 1.0,
        f_in: int | None = None,
        f_out: int | None = None,
    ) -> LinearWeights:
        """A crossbar site that stacks projections, with a bias if one of them has one.

        scale: factor of its outputs; fractions that are left out are the fields of Formats that the site names.
        """
        described = self.config.site(name)
        names = [f"{layer}{projection}" for projection in projections]
        weights = [self.tensors[f"{each}.weight"] for each in names]
        bias = None
        if any(f"{each}.bias" in self.tensors for each in names):
            none = [weight.new_zeros(len(weight)) for weight in weights]
            bias = torch.cat([self.tensors.get(f"{each}.bias", zeros) for each, zeros in zip(names, none, strict=True)])
        return linear_weights(
            torch.cat(weights),
            scale,
            getattr(self.formats, described.input_fraction) if f_in is None else f_in,
            getattr(self.formats, described.output_fraction) if f_out is None else f_out,
            largest=self.largest,
            name=name,
            spiking=self.spiking[described.part],
            bias=bias,
            groups=self.groups,
        )

    def hidden_fraction(self, number: int) -> int:
        """Fraction of the inputs of a layer's down projection."""
        limit = float(self.calibration.hidden_max[number])
        hidden = fraction_for(limit, 16)
        if hidden < 4:
            raise ConversionError(f"layers.{number}: inputs of the down projection of up to {limit:.3g} leave too few fractional bits")
        return hidden

    def layer(self, number: int) -> LayerWeights:
        """Integer weights of one layer, stop tables zero."""
        parameters: dict[str, Any] = {}
        for block in self.config.layer_blocks(number):
            parameters |= FLOAT_BLOCKS[block.kind].integers(self, block)
        return LayerWeights(**parameters)

    def rope(self, name: str) -> tuple[Table, Table]:
        """Rotary tables of the frequencies `name`."""
        try:
            return tables_of(self.tensors[name].double().numpy(), self.config.max_positions, self.rotary_scale)
        except ValueError as error:
            raise ConversionError(f"{error}; use a model with another rotary scaling") from error


def integer_decoder(
    config: DecoderConfig, tensors: Mapping[str, torch.Tensor], calibration: Calibration, options: ConvertConfig, code: SpikeCode
) -> DecoderWeights:
    """Integer weights of a canonical decoder's tensors (models.canonical), stop tables zero.

    Raises ConversionError naming what does not fit its integers.
    """
    if calibration.keys is None and any(name.endswith("k_proj.bias") for name in tensors):
        raise ConversionError(
            "the calibration is of an earlier version, which did not look at keys, and this model has key biases; calibrate again"
        )
    embedding, positions = tensors["model.embed_tokens.weight"], tensors.get("model.embed_positions.weight")
    largest_row = max(float(table.abs().max()) for table in (embedding, positions) if table is not None)
    formats = formats_for(calibration, largest_row)
    groups, readout = options.weights == "4-bit-groups", get_readout(options.readout, **dict(options.readout_parameters))
    converter = Converter(config, tensors, calibration, formats, spiking_parts(options.parts), code.largest_value, groups)
    cos, sin = converter.rope("rotary.frequencies")
    local = converter.rope("rotary.local_frequencies") if config.local_rotary else (None, None)
    return DecoderWeights(
        config=config,
        formats=formats,
        code=CodeConfig(options.code, code.phases, options.query_phases, options.probability_bits, code.parameters),
        embedding=_table(embedding, formats),
        layers=tuple(converter.layer(number) for number in range(config.layers)),
        final_gain=converter.gain("model.norm.weight"),
        head=converter.site("head", "", ["lm_head"]),
        rope_cos=cos,
        rope_sin=sin,
        positions=None if positions is None else _table(positions, formats),
        local_rope_cos=local[0],
        local_rope_sin=local[1],
        readout=Exact() if isinstance(readout, BlockReadout) else readout,  # whose ranges are calibrated last (ranges.py)
    )
