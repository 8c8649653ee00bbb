"""Time of a decoded token on a weight-stationary array, and shares of it in which tiles and memories work (docs/reference/energy.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.memories import SYNAPSE_TILE, VECTOR_TILE, tile_weights
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.simulation.counters import Counters


@dataclass(frozen=True)
class TokenCycles:
    """Cycles of a decoded token: of each site, from its first input to its last result, and of attention in each stage."""

    sites: tuple[int, ...]
    attention: tuple[int, ...]  # [stages], layers and head
    sequences: int = 1  # in flight, each with a token in another stage

    @property
    def total(self) -> int:
        """Cycles of the token from the first stage to the last; its sites and layers run one after another."""
        return sum(self.sites) + sum(self.attention)

    def stages(self, config: DecoderConfig) -> list[int]:
        """Cycles of the token in each stage."""
        cycles = list(self.attention)
        for site, own in zip(config.sites, self.sites, strict=True):
            cycles[site.stage] += own
        return cycles

    def interval(self, config: DecoderConfig) -> float:
        """Cycles from token to token: each sequence's follows its last one, and a stage has one at a time."""
        return max(self.total / self.sequences, *self.stages(config))

    def working(self, config: DecoderConfig, spec: ChipSpec) -> dict[str, float]:
        """Share of the time in which a tile's logic and router, a memory of its kind and the weights work, for leakage.leakage_power.

        The host always does, a vector tile while a token is in its stage, and the synapse tiles of a site while the site runs; each tile
        wakes before, its router with it, and none works for more than the interval.
        """
        interval, on = self.interval(config), self._on(config, spec)
        sites = list(zip(config.sites, on.sites, strict=True))
        tiles = sum(tiles_of_site(site, spec) * cycles for site, cycles in sites)
        weights = sum(site.inputs * site.outputs * cycles for site, cycles in sites)
        vector = sum(on.stages)
        shares = {
            **dict.fromkeys(("logic", "routers"), (interval + vector + tiles) / (spec.topology.tiles * interval)),
            **dict.fromkeys(VECTOR_TILE, vector / (len(spec.topology.vector_tiles()) * interval)),
            **dict.fromkeys(SYNAPSE_TILE, tiles / (len(spec.topology.synapse_tiles()) * interval)),
            "weights": weights / (sum(site.inputs * site.outputs for site in config.sites) * interval),
        }
        return {name: min(share, 1.0) for name, share in shares.items()}

    def with_wakes(self, counters: Counters, config: DecoderConfig, spec: ChipSpec) -> Counters:
        """Counters of a token in which all tiles of stages and sites wake once, with their routers, but those that stay on."""
        on, interval = self._on(config, spec), self.interval(config)
        stages = sum(cycles < interval for cycles in on.stages)
        tiles = sum(tiles_of_site(site, spec) for site, cycles in zip(config.sites, on.sites, strict=True) if cycles < interval)
        return replace(counters, vector_tile_wakes=stages, synapse_tile_wakes=tiles, router_wakes=stages + tiles)

    def _on(self, config: DecoderConfig, spec: ChipSpec) -> _CyclesOn:
        """Cycles for a token, that of waking included, in which tiles are on."""
        interval, wake = self.interval(config), spec.power.wake_cycles
        return _CyclesOn(*([min(cycles + wake, interval) for cycles in part] for part in (self.sites, self.stages(config))))


class _CyclesOn(NamedTuple):
    sites: list[float]  # synapse tiles of each site
    stages: list[float]  # vector tile of each stage


def tiles_of_site(site: Site, spec: ChipSpec) -> int:
    """Tiles that hold the weights of a site."""
    return -(-site.inputs * site.outputs // tile_weights(spec))


def sent_bits(config: DecoderConfig, activation_bits: int) -> list[int]:
    """Bits from each site to its vector tile: 32 per value, a gated product in its input width, of the head one value and its index."""
    sent = []
    for site in config.sites[:-1]:
        sent.append(activation_bits * (site.outputs // 2) if site.epilogue == "gate" else 32 * site.outputs)
    return [*sent, 64]


def token_cycles(config: DecoderConfig, context: int, spec: ChipSpec, activation_bits: int, sequences: int = 1) -> TokenCycles:
    """Inputs and outputs of every site stream over one link; attention takes as many heads and keys at once as the chip's lanes."""
    flit_bits, sent = spec.noc.flit_bits, sent_bits(config, activation_bits)
    sites = (
        math.ceil(site.inputs * activation_bits / flit_bits) + math.ceil(bits / flit_bits)
        for site, bits in zip(config.sites, sent, strict=True)
    )
    attention = [0] * (config.layers + 1)
    for block in config.attention_blocks:
        heads_per_engine = math.ceil(block.heads / (spec.vector.attention_engines * spec.vector.head_lanes))
        attention[block.layer] += heads_per_engine * 2 * block.head_dim * math.ceil(context / spec.vector.key_lanes)
    return TokenCycles(tuple(sites), tuple(attention), sequences)
