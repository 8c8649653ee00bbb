"""Time of a decoded token on a weight-stationary array, and shares of it in which tiles and memories work (docs/reference/energy.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.memories import SYNAPSE_TILE, VECTOR_TILE, tile_weights
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.simulation.counters import Counters


@dataclass(frozen=True)
class TokenCycles:
    """Cycles of a decoded token: of each site, from its first input to its last result, and of attention in all layers."""

    sites: tuple[int, ...]
    attention: int

    @property
    def total(self) -> int:
        """Cycles of the token; its sites and layers run one after another."""
        return sum(self.sites) + self.attention

    def working(self, config: DecoderConfig, spec: ChipSpec) -> dict[str, float]:
        """Share of the token in which a tile's logic and router, a memory of its kind and the weights work, for leakage.leakage_power.

        The host and one vector tile always do, and the synapse tiles of a site while the site runs; each tile wakes before, its router
        with it.
        """
        wake = spec.power.wake_cycles
        runs = [(site, cycles + wake) for site, cycles in zip(config.sites, self.sites, strict=True)]
        tiles = sum(tiles_of_site(site, spec) * cycles for site, cycles in runs)
        weights = sum(site.inputs * site.outputs * cycles for site, cycles in runs)
        vector = self.total + (config.layers + 1) * wake
        shares = {
            **dict.fromkeys(("logic", "routers"), (self.total + vector + tiles) / (spec.topology.tiles * self.total)),
            **dict.fromkeys(VECTOR_TILE, vector / (len(spec.topology.vector_tiles()) * self.total)),
            **dict.fromkeys(SYNAPSE_TILE, tiles / (len(spec.topology.synapse_tiles()) * self.total)),
            "weights": weights / (sum(site.inputs * site.outputs for site in config.sites) * self.total),
        }
        return {name: min(share, 1.0) for name, share in shares.items()}


def tiles_of_site(site: Site, spec: ChipSpec) -> int:
    """Tiles that hold the weights of a site."""
    return -(-site.inputs * site.outputs // tile_weights(spec))


def sent_bits(config: DecoderConfig, activation_bits: int) -> list[int]:
    """Bits from each site to its vector tile: 32 per value, a gated product in its input width, of the head one value and its index."""
    sent = []
    for site in config.sites[:-1]:
        sent.append(activation_bits * (site.outputs // 2) if site.epilogue == "gate" else 32 * site.outputs)
    return [*sent, 64]


def token_cycles(config: DecoderConfig, context: int, spec: ChipSpec, activation_bits: int) -> TokenCycles:
    """Inputs and outputs of every site stream over one link; attention takes as many keys at once as the chip's lanes."""
    flit_bits, sent = spec.noc.flit_bits, sent_bits(config, activation_bits)
    sites = (
        math.ceil(site.inputs * activation_bits / flit_bits) + math.ceil(bits / flit_bits)
        for site, bits in zip(config.sites, sent, strict=True)
    )
    attention = 0
    for block in config.attention_blocks:
        heads_per_engine = math.ceil(block.heads / spec.vector.attention_engines)
        attention += heads_per_engine * 2 * block.head_dim * math.ceil(context / spec.vector.key_lanes)
    return TokenCycles(tuple(sites), attention)


def with_wakes(counters: Counters, config: DecoderConfig, spec: ChipSpec) -> Counters:
    """Counters of a token in which every stage's vector tile and all tiles of every site wake once, with their routers."""
    stages, tiles = config.layers + 1, sum(tiles_of_site(site, spec) for site in config.sites)
    return replace(counters, vector_tile_wakes=stages, synapse_tile_wakes=tiles, router_wakes=stages + tiles)
