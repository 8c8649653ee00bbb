"""Content of network folders: metadata and tensors of an integer decoder (docs/reference/formats.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.artefact import Arrays
from neuromorphic_llm.devices.readout import LARGEST_RANGE, READOUTS, BlockReadout, Readout, get_readout
from neuromorphic_llm.errors import ArtefactError, UsageError
from neuromorphic_llm.network.parts import PARTS
from neuromorphic_llm.reference.blocks import Block, Parameter, Site
from neuromorphic_llm.reference.config import CodeConfig, DecoderConfig, Formats
from neuromorphic_llm.reference.norm import epsilon_term, head_epsilon_term
from neuromorphic_llm.reference.soft_cap import score_cap, soft_cap
from neuromorphic_llm.reference.weights import (
    GROUP,
    LARGEST_GROUP_MULTIPLIER,
    LARGEST_GROUP_WEIGHT,
    DecoderWeights,
    LayerWeights,
    LinearWeights,
)
from neuromorphic_llm.spikes.registry import SPIKE_CODES

FORMAT = "neuromorphic-llm-network"
VERSION = 4
"""1: Llama decoders, which are still written as such; 2: decoders of other families (families.md); 3: with offsets of keys; 4: with blocks
of other kinds than attention and feed-forward in every layer, or a readout that is not exact."""

DECODER_VARIANTS = ("positions", "local_rope_cos", "local_rope_sin")
"""Tensors of a decoder that only some families have."""

_SHIFT = (-1024, 1024)
"""Range of the shifts of output stages: exponents of float64, which they come from."""


def spiking_parts(parts: str) -> dict[str, bool]:
    """Flag of each part of a network (Site.part): does it spike in the hybrid `parts`?"""
    return {"attention": parts in ("all", "attention"), "feed-forward": parts in ("all", "feed-forward"), "head": parts == "all"}


def weight_arrays(weights: DecoderWeights) -> Arrays:
    """Tensors of a network by their names in the file."""
    arrays: Arrays = {
        "embedding": weights.embedding,
        "final_gain": weights.final_gain,
        "rope_cos": weights.rope_cos,
        "rope_sin": weights.rope_sin,
    }
    for name in (site.name for site in weights.config.sites):
        site = weights.site(name)
        arrays |= {f"{name}.weight": site.weight, f"{name}.multiplier": site.multiplier, f"{name}.stop": site.stop}
        for field in ("bias", "group_multiplier", "ranges"):
            if getattr(site, field) is not None:
                arrays[f"{name}.{field}"] = getattr(site, field)
    for block in weights.config.blocks:
        layer = weights.layers[block.layer]
        names = [each.name for each in block.parameters(weights.config) if each.shape and layer.get(each.name) is not None]
        arrays |= {f"{block.prefix}.{name}": layer.get(name) for name in names}
    return arrays | {name: getattr(weights, name) for name in DECODER_VARIANTS if getattr(weights, name) is not None}


def network_version(weights: DecoderWeights) -> int:
    """Version that a network is written as: the oldest one that knows all its parts."""
    if weights.config.stack or not weights.readout.exact:
        return 4
    if any(layer.get("key_offset") is not None for layer in weights.layers):
        return 3
    return 2 if weights.config.has_variants else 1


def scalar_metadata(weights: DecoderWeights, parts: str) -> dict[str, Any]:
    """The JSON fields of a network that describe its weights."""
    return {
        "config": weights.config.to_json(),
        "formats": weights.formats.to_json(),
        "code": weights.code.to_json(),
        "parts": parts,
        "layers": [_layer_scalars(weights, number) for number in range(weights.config.layers)],
        "head_shift": weights.head.shift,
        **({} if weights.readout.exact else {"readout": weights.readout.to_json()}),
    }


def _layer_scalars(weights: DecoderWeights, number: int) -> dict[str, int]:
    """Integers of a layer: shifts of its sites, and parameters that are single integers."""
    config, layer = weights.config, weights.layers[number]
    shifts = {f"{site.role}_shift": layer.get(site.role).shift for site in config.layer_sites(number)}
    integers = [each.name for block in config.layer_blocks(number) for each in block.parameters(config) if not each.shape]
    return shifts | {name: layer.get(name) for name in integers}


@dataclass(frozen=True)
class _Contents:
    """Tensors of a network, each checked as it is taken."""

    config: DecoderConfig
    arrays: Mapping[str, NDArray[Any]]
    readout: Readout
    source: str

    def tensor(self, name: str, kind: type[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        array = self.arrays.get(name)
        if array is None:
            raise ArtefactError(f"{self.source}: tensor {name} is missing; write the artefact again")
        if array.dtype != kind or array.shape != shape:
            found, expected = f"{array.dtype} {array.shape}", f"{np.dtype(kind)} {shape}"
            raise ArtefactError(f"{self.source}: tensor {name} is {found}, expected {expected}; write the artefact again")
        return array

    def optional(self, name: str, kind: type[Any], shape: tuple[int, ...], present: bool) -> NDArray[Any] | None:
        """A tensor that this configuration has, or must not have."""
        if not present and name in self.arrays:
            raise ArtefactError(f"{self.source}: tensor {name} is no part of this configuration; write the artefact again")
        return self.tensor(name, kind, shape) if present else None

    def bounded(self, name: str, kind: type[Any], shape: tuple[int, ...], least: int, most: int) -> NDArray[Any]:
        """A tensor whose elements lie in least .. most."""
        array = self.tensor(name, kind, shape)
        if array.min() < least or array.max() > most:
            found = f"{array.min()}..{array.max()}"
            raise ArtefactError(f"{self.source}: tensor {name} holds {found}, expected {least}..{most}; write the artefact again")
        return array

    def site(self, site: Site, scalars: Mapping[str, Any], where: str, spiking: bool) -> LinearWeights:
        name, (inputs, outputs) = site.name, site.shape
        weight = self.bounded(f"{name}.weight", np.int8, (outputs, inputs), -127, 127)
        return LinearWeights(
            weight=weight,
            multiplier=self.bounded(f"{name}.multiplier", np.int32, (outputs,), 0, 65535),
            shift=_integer(scalars, f"{site.role}_shift", where, _SHIFT),
            stop=self.bounded(f"{name}.stop", np.int32, (inputs,), 0, 2**31 - 1),
            bias=self.tensor(f"{name}.bias", np.int32, (outputs,)) if f"{name}.bias" in self.arrays else None,
            spiking=spiking,
            group_multiplier=self.group_multiplier(name, weight),
            ranges=self.ranges(name, inputs, outputs) if spiking else None,
        )

    def ranges(self, name: str, inputs: int, outputs: int) -> NDArray[Any] | None:
        """Ranges of a site's columns, of a readout that has some."""
        if not isinstance(self.readout, BlockReadout):
            return None
        shape = (self.readout.blocks(inputs), outputs)
        ranges = self.bounded(f"{name}.ranges", np.int8, shape, -LARGEST_RANGE, LARGEST_RANGE)
        most = self.readout.largest_range
        if int(ranges.max()) - int(ranges.min()) > most:
            raise ArtefactError(
                f"{self.source}: tensor {name}.ranges differs by more than {most} within the site; write the artefact again"
            )
        return ranges

    def group_multiplier(self, name: str, weight: NDArray[Any]) -> NDArray[Any] | None:
        """Multipliers of a site with group-scaled weights, which are 4-bit ones times these."""
        if f"{name}.group_multiplier" not in self.arrays:
            return None
        shape = (len(weight), -(-weight.shape[1] // GROUP))
        multiplier = self.bounded(f"{name}.group_multiplier", np.uint8, shape, 1, LARGEST_GROUP_MULTIPLIER)
        expanded = multiplier.astype(np.int8).repeat(GROUP, axis=1)[:, : weight.shape[1]]
        quotient = weight // expanded
        if (quotient * expanded != weight).any() or np.abs(quotient).max() > LARGEST_GROUP_WEIGHT:
            raise ArtefactError(
                f"{self.source}: tensor {name}.weight is not made of 4-bit weights and group_multiplier; write the artefact again"
            )
        return multiplier

    def parameter(self, block: Block, parameter: Parameter, scalars: Mapping[str, Any], where: str) -> Any:
        name = f"{block.prefix}.{parameter.name}"
        if not parameter.shape:
            return _integer(scalars, parameter.name, where, (parameter.least, parameter.most))
        if parameter.optional and name not in self.arrays:
            return None
        return self.bounded(name, parameter.kind, parameter.shape, parameter.least, parameter.most)

    def layer(self, number: int, scalars: Mapping[str, Any], spiking: Mapping[str, bool]) -> LayerWeights:
        where = f"{self.source}, layer {number}"
        found: dict[str, Any] = {}
        for block in self.config.layer_blocks(number):
            found |= {own.name: self.parameter(block, own, scalars, where) for own in block.parameters(self.config)}
        self.refuse_others(f"layers.{number}.", {*found, *(site.role for site in self.config.layer_sites(number))})
        sites = {site.role: self.site(site, scalars, where, spiking[site.part]) for site in self.config.layer_sites(number)}
        return LayerWeights(**sites, **found, attention_spiking=spiking["attention"])

    def refuse_others(self, prefix: str, known: Collection[str]) -> None:
        """ArtefactError for a tensor of a layer that none of its blocks has."""
        for name in self.arrays:
            if name.startswith(prefix) and name.removeprefix(prefix).split(".")[0] not in known:
                raise ArtefactError(f"{self.source}: tensor {name} is no part of this configuration; write the artefact again")


def stored_readout(metadata: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Name and parameters of the readout that a network is for; ArtefactError if it is not known here."""
    stored = dict(metadata.get("readout", {"name": "exact"}))
    READOUTS.check_stored(stored.get("name"), source)
    return stored


def decoder_weights(metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], *, source: str) -> DecoderWeights:
    """Build the integer decoder from checked metadata and tensors.

    Raises ArtefactError naming `source` and the tensor or field that is missing or has the wrong type or shape.
    """
    try:
        return _decoder_weights(metadata, arrays, source)
    except (TypeError, ValueError, AttributeError, UsageError) as error:
        raise ArtefactError(f"{source}: its fields are not those of a network ({error}); write the artefact again") from error


def _decoder_weights(metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], source: str) -> DecoderWeights:
    config = DecoderConfig.from_json(_field(metadata, "config", source), source)
    formats = Formats.from_json(_field(metadata, "formats", source), source)
    code = CodeConfig.from_json(_field(metadata, "code", source), source)
    SPIKE_CODES.check_stored(code.name, source)
    code.spike_code()  # refuses what no code knows
    _check_ranges(config, formats, source)
    parts = _field(metadata, "parts", source)
    layers = _field(metadata, "layers", source)
    if parts not in PARTS or len(layers) != config.layers:
        raise ArtefactError(f"{source}: inconsistent metadata (parts {parts!r}, {len(layers)} layers); write the artefact again")
    spiking = spiking_parts(parts)
    readout = get_readout(**stored_readout(metadata, source))
    contents = _Contents(config, arrays, readout, source)
    positions = max(len(arrays["rope_cos"]), 1) if "rope_cos" in arrays else config.max_positions
    rope = (positions, config.head_dim // 2)
    return DecoderWeights(
        config=config,
        formats=formats,
        code=code,
        embedding=contents.tensor("embedding", np.int16, (config.vocab_size, config.hidden_size)),
        layers=tuple(contents.layer(number, scalars, spiking) for number, scalars in enumerate(layers)),
        final_gain=contents.tensor("final_gain", np.int32, (config.hidden_size,)),
        head=contents.site(config.head, metadata, source, spiking["head"]),
        rope_cos=contents.tensor("rope_cos", np.int16, rope),
        rope_sin=contents.tensor("rope_sin", np.int16, rope),
        positions=contents.optional("positions", np.int16, (positions, config.hidden_size), config.learned_positions),
        local_rope_cos=contents.optional("local_rope_cos", np.int16, rope, config.local_rotary),
        local_rope_sin=contents.optional("local_rope_sin", np.int16, rope, config.local_rotary),
        readout=readout,
    )


def _check_ranges(config: DecoderConfig, formats: Formats, source: str) -> None:
    """ArtefactError if a norm or a soft cap leaves the integers that numerics.md proves it to fit."""
    normed = any(block.query_key_norm for block in config.attention_blocks)
    epsilons = {formats.residual: epsilon_term(config, formats)}
    if normed:
        epsilons[formats.qkv] = head_epsilon_term(config, formats)
    for fraction, epsilon in epsilons.items():
        if epsilon >= 1 << 61:
            raise ArtefactError(
                f"{source}: rms_norm_eps {config.rms_norm_eps} is too large at fraction {fraction}; write the artefact again"
            )
    for name, present in (("residual", config.output_norms), ("qkv", normed)):
        fraction = getattr(formats, name)
        if present and 24 + formats.gain_fraction <= fraction:
            below = f"{name} ({fraction}) must stay below 24 + gain_fraction ({formats.gain_fraction})"
            raise ArtefactError(f"{source}: {below}; write the artefact again")
    caps = {"attention_softcap": score_cap(config.attention_softcap), "logit_softcap": soft_cap(config.logit_softcap, formats.logit)}
    for name, cap in caps.items():
        if cap is not None and cap.limit >= 1 << 31:
            raise ArtefactError(f"{source}: {name} {getattr(config, name)} does not fit 32 bits at its fraction; write the artefact again")


def _field(metadata: Mapping[str, Any], name: str, source: str) -> Any:
    if name not in metadata:
        raise ArtefactError(f"{source}: field {name!r} is missing; write the artefact again")
    return metadata[name]


def _integer(metadata: Mapping[str, Any], name: str, source: str, bounds: tuple[int, int]) -> int:
    value = _field(metadata, name, source)
    if type(value) is not int or not bounds[0] <= value <= bounds[1]:
        expected = f"an integer in {bounds[0]}..{bounds[1]}"
        raise ArtefactError(f"{source}: field {name!r} is {value!r}, not {expected}; write the artefact again")
    return value
