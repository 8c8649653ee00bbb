"""Work of a column: levels that spiking rows of 256 connect to it in each phase, and how often cells hold each level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import neuromorphic_llm as nl
from membrane.design import PHASES, Floats
from neuromorphic_llm.devices.cells import Cell
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.weights import DecoderWeights

ROWS = 256
"""Rows of a row block."""

SPIKES = 1.5 / PHASES
"""Share of rows that spike in a phase, of random digits."""

TOKENS = 32
"""Length of the text that the spikes are of."""


@dataclass(frozen=True)
class ColumnSums:
    """Levels summed over the spiking rows of a block, least significant phase first, float [columns, phases]."""

    up: Floats  # cells whose spike and level have the same sign
    down: Floats  # the others

    @property
    def total(self) -> Floats:
        """Sum that the membrane holds at the end, in levels of the last phase, [columns]."""
        return (self.up - self.down) @ 2.0 ** np.arange(1 - PHASES, 1)


def nano() -> DecoderWeights:
    """Network of the model that comes with the package, at 1.5 spikes per activation."""
    return nl.convert("nano", spikes=1.5).weights


def level_shares(weights: DecoderWeights) -> Floats:
    """Share of the pairs of each slice that hold each magnitude, [slices, levels]."""
    cell = Cell()
    levels = [np.abs(cell.levels(weights.site(site.name).weight)) for site in weights.config.sites]
    counts = sum(np.stack([np.bincount(part.ravel(), minlength=cell.largest_level + 1) for part in site]) for site in levels)
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def network_sums(weights: DecoderWeights, columns: int, seed: int, part: int = 1) -> ColumnSums:
    """Sums of a slice for random columns and tokens of the network; two blocks of its 128 rows make one of 256."""
    rng = np.random.default_rng(seed)
    decoder = IntegerDecoder(weights)
    ids = rng.integers(5, weights.config.vocab_size, TOKENS).tolist()
    records = decoder.step(ids, decoder.new_cache(), full=True).record.sites
    found = []
    for _ in range(columns):
        digits, levels = [], []
        for _ in range(ROWS // 128):
            site = int(rng.integers(len(records)))
            train = records[site].train
            assert train is not None
            token = int(rng.integers(TOKENS))
            trimmed = train.digits[len(train.digits) - int(train.phases[token]) :, token]
            digits.append(np.pad(trimmed, ((PHASES - len(trimmed), 0), (0, 0))))
            weight = weights.site(weights.config.sites[site].name).weight
            levels.append(Cell().levels(weight[rng.integers(len(weight))])[part])
        found.append(_sides(np.concatenate(digits, axis=1), np.concatenate(levels)))
    return ColumnSums(*(np.array(side) for side in zip(*found, strict=True)))


def random_sums(weights: DecoderWeights, columns: int, seed: int, part: int = 1) -> ColumnSums:
    """Sums of random digits, 1.5 spikes per activation anywhere in the phases, and random weights of the network."""
    rng = np.random.default_rng(seed)
    flat = np.concatenate([weights.site(site.name).weight.ravel() for site in weights.config.sites])
    found = []
    for _ in range(columns):
        digits = rng.choice(np.array([-1, 0, 1]), size=(PHASES, ROWS), p=(SPIKES / 2, 1 - SPIKES, SPIKES / 2))
        found.append(_sides(digits, Cell().levels(rng.choice(flat, ROWS))[part]))
    return ColumnSums(*(np.array(side) for side in zip(*found, strict=True)))


def _sides(digits: NDArray[np.integer], levels: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Levels that pull a column up and down in each phase, least significant first; digits [phases, rows] most significant first."""
    products = digits[::-1].astype(np.int64) * levels.astype(np.int64)
    return np.maximum(products, 0).sum(axis=1).astype(float), np.maximum(-products, 0).sum(axis=1).astype(float)
