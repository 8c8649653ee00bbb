"""Networks as inexactly programmed cells hold them (docs/reference/devices.md, Programming noise)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from neuromorphic_llm.conversion.integers import check_accumulator
from neuromorphic_llm.devices.noise import PROGRAMMING_NOISES
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.weights import LinearWeights


def program_cells(network: SpikingNetwork, noise: str = "pcm", *, scale: float = 1.0, seed: int = 0) -> SpikingNetwork:
    """The network with the weights that its cells hold after programming; its provenance says how they were drawn.

    noise: name in PROGRAMMING_NOISES; scale multiplies its deviation. Sites draw independently of one another.
    UsageError for another name or a scale that is negative or not finite, ConversionError if an accumulator could then overflow.
    """
    model, cell = PROGRAMMING_NOISES[noise], network.weights.readout.cell
    if not 0.0 <= scale < math.inf:
        raise UsageError(f"the scale of programming noise must be a finite number from 0 on, not {scale}")
    largest = network.weights.code.spike_code().largest_value

    def programmed(site: Site, weights: LinearWeights) -> LinearWeights:
        held = model.programmed(weights.weight, cell, np.random.default_rng((seed, site.index)), scale)
        if np.array_equal(held, weights.weight):
            return weights
        check_accumulator(held, largest, site.name, "use less noise, or fewer phases")
        return replace(weights, weight=held, group_multiplier=None)

    provenance = {**network.provenance, "programming_noise": {"name": noise, "scale": scale, "seed": seed}}
    return replace(network, weights=network.weights.with_sites(programmed), provenance=provenance, stored_hash="")
