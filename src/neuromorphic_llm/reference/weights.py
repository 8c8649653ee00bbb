"""Weights of an integer decoder by their names (docs/reference/numerics.md, formats.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.devices.decay import MembraneDecay
from neuromorphic_llm.devices.exact import Exact
from neuromorphic_llm.devices.readout import Readout
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.config import CodeConfig, DecoderConfig, Formats
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog

GROUP, LARGEST_GROUP_WEIGHT, LARGEST_GROUP_MULTIPLIER = 32, 7, 15
"""Group-scaled weights: inputs of a group, largest magnitude of a 4-bit weight, largest multiplier of a group."""


@dataclass(frozen=True)
class LinearWeights:
    """One crossbar site: y = sat32(rsh((weight @ a) * multiplier, shift - k_min) + bias)."""

    weight: NDArray[np.int8]  # [outputs, inputs], in -127..127
    multiplier: NDArray[np.int32]  # [outputs], in 0..65535
    shift: int
    stop: NDArray[np.int32]  # [inputs], spike price R, in 0..2^31-1
    bias: NDArray[np.int32] | None = None  # [outputs]
    spiking: bool = True
    group_multiplier: NDArray[np.uint8] | None = None  # [outputs, groups of GROUP inputs]; weight is a 4-bit one times this
    ranges: NDArray[np.int8] | None = None  # [row_blocks, outputs], of a readout that is calibrated (devices.md)


class LayerWeights:
    """Parameters of the blocks of one layer by name: LinearWeights of its sites, arrays and integers.

    `layer.qkv` and the like are what Block.sites and Block.parameters name; an optional parameter that is absent has no name.
    """

    def __init__(self, **parameters: Any) -> None:
        self.parameters: Mapping[str, Any] = MappingProxyType({name: value for name, value in parameters.items() if value is not None})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "parameters" or name not in self.parameters:
            raise AttributeError(f"the layer has no parameter {name!r}")
        return self.parameters[name]

    def get(self, name: str) -> Any:
        """A parameter, None if the layer has none of that name."""
        return self.parameters.get(name)

    def replaced(self, **parameters: Any) -> LayerWeights:
        """Return the layer with other values of some parameters; None takes one away."""
        return LayerWeights(**{**self.parameters, **parameters})

    def __repr__(self) -> str:
        return f"LayerWeights({', '.join(self.parameters)})"


@dataclass(frozen=True)
class DecoderWeights:
    """A complete integer decoder: everything a token's way from its id to the logits needs."""

    config: DecoderConfig
    formats: Formats
    code: CodeConfig
    embedding: NDArray[np.int16]  # [vocab, hidden]
    layers: tuple[LayerWeights, ...]
    final_gain: NDArray[np.int32]  # [hidden]
    head: LinearWeights
    rope_cos: NDArray[np.int16]  # [positions, head_dim / 2]
    rope_sin: NDArray[np.int16]  # [positions, head_dim / 2]
    positions: NDArray[np.int16] | None = None  # [positions, hidden], learned_positions
    local_rope_cos: NDArray[np.int16] | None = None  # as rope_cos, of layers with a window, local_rotary
    local_rope_sin: NDArray[np.int16] | None = None
    readout: Readout = field(default_factory=Exact)  # that the spikes are read out with

    def rope(self, table: str = "rope") -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """Cosines and sines of the rotary tables `rope` or `local_rope`."""
        return getattr(self, f"{table}_cos"), getattr(self, f"{table}_sin")

    def parameter(self, name: str) -> Any:
        """Parameter by its full name, `layers.3.query_stop`, `head` or `final_gain`; KeyError if there is none."""
        prefix, layer, own = [*name.split(".", 2), "", ""][:3]
        found = self.layers[int(layer)].get(own) if prefix == "layers" else getattr(self, name, None)
        if found is None:
            raise KeyError(name)
        return found

    def site(self, site: str | int) -> LinearWeights:
        """Weights of a crossbar site, by name or index in `config.sites`."""
        found: LinearWeights = self.parameter(site if isinstance(site, str) else self.config.sites[site].name)
        return found

    def input_fraction(self, site: str | int) -> int:
        """Fraction of the integers that enter a crossbar site."""
        return self._fraction(site, "input_fraction")

    def output_fraction(self, site: str | int) -> int:
        """Fraction of the integers that leave a crossbar site."""
        return self._fraction(site, "output_fraction")

    def _fraction(self, site: str | int, side: str) -> int:
        described = self.config.site(site) if isinstance(site, str) else self.config.sites[site]
        name = getattr(described, side)
        return int(getattr(self.formats, name) if hasattr(self.formats, name) else self.layers[described.stage].get(name))

    def with_sites(self, change: Callable[[Site, LinearWeights], LinearWeights]) -> DecoderWeights:
        """Return the weights with every crossbar site as `change` makes it."""
        changed = {site.name: change(site, self.site(site.name)) for site in self.config.sites}
        layers = [
            layer.replaced(**{site.role: changed[site.name] for site in self.config.layer_sites(number)})
            for number, layer in enumerate(self.layers)
        ]
        return replace(self, layers=tuple(layers), head=changed[self.config.head.name])

    def with_query_stops(self, change: Callable[[int, NDArray[np.int32]], NDArray[np.int32]]) -> DecoderWeights:
        """Return the weights with the query prices that `change` makes of a layer's number and present prices [heads, head_dim]."""
        layers = [
            layer if (stop := layer.get("query_stop")) is None else layer.replaced(query_stop=change(number, stop))
            for number, layer in enumerate(self.layers)
        ]
        return replace(self, layers=tuple(layers))

    @property
    def parameters(self) -> int:
        """Number of synaptic weights over all crossbar sites."""
        return sum(self.site(site.name).weight.size for site in self.config.sites)


def unfit_code(code: SpikeCode, readout: Readout) -> str | None:
    """Reason why a readout cannot take the trains of a code; None if it can."""
    if not isinstance(readout, MembraneDecay):
        return None
    if isinstance(code, FirstSpikeLog) and code == FirstSpikeLog(code.phases, steps=code.steps) and code.steps == readout.steps:
        return None
    given = ", ".join(f"{name}={value}" for name, value in code.parameters.items())
    return (
        f"the readout {readout.name} with steps {readout.steps} takes the code first-spike-log with steps={readout.steps} and no other "
        f"parameter, not {code.name} ({given}); convert with --code first-spike-log --code-option steps={readout.steps}"
    )
