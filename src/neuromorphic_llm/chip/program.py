"""The chip program in memory: a network placed on a chip (docs/reference/formats.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.instruction import Instruction
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.display import Displayed
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.weights import DecoderWeights

LARGEST_CONTEXT = 8192
"""Tokens for which the attention accumulators are proved not to overflow (numerics.md)."""


def kv_bytes_per_token(head_dim: int) -> int:
    """Bytes of one token and key/value head: 8-bit keys and values, and one byte for both exponents."""
    return 2 * head_dim + 1


def stored_tokens(spec: ChipSpec, config: DecoderConfig) -> int:
    """Tokens of each of its heads that an attention engine's key/value memory holds."""
    heads_per_engine = -(-config.kv_heads // spec.vector.attention_engines)
    return spec.vector.kv_bytes_per_engine // (heads_per_engine * kv_bytes_per_token(config.head_dim))


def sequence_part(spec: ChipSpec, config: DecoderConfig, sequences: int) -> int:
    """Tokens of each of so many sequences that the key/value memories hold (timing.md, Several sequences); 0 if not a single one."""
    stored, lanes = stored_tokens(spec, config), spec.vector.key_lanes
    return stored if sequences == 1 else stored // (sequences * lanes) * lanes


def longest_context(spec: ChipSpec, config: DecoderConfig, positions: int) -> int:
    """Tokens that a program with rotary tables of `positions` can hold on this chip (compiler.md); 0 if not a single one.

    The chip attends to all tokens, so a context ends where the shortest window would begin to matter.
    """
    windows = [window for window in config.windows if window]
    return min(stored_tokens(spec, config), config.max_positions, positions, LARGEST_CONTEXT, *windows)


@dataclass(frozen=True)
class Region:
    """Columns of one crossbar site held by one synapse tile (all its row blocks)."""

    site: int
    tile: int
    first_output: int  # of the values sent to the vector tile
    outputs: int  # of them
    columns: int  # of weights: outputs, or 2 * outputs where gate and up value make one


@dataclass(frozen=True)
class Stage:
    """One decoder layer, or the head: its vector tile and the regions of each of its sites in order of execution."""

    vector_tile: int
    sites: tuple[int, ...]
    regions: tuple[tuple[Region, ...], ...]
    program: tuple[Instruction, ...] = ()  # of the vector tile (timing.md)


@dataclass(frozen=True)
class Routes:
    """Index ranges into the route tables; see formats.md for the order."""

    spike: NDArray[np.int32]  # [sites]
    value: tuple[NDArray[np.int32], ...]  # per site, per region: to the stage's vector tile
    residual: NDArray[np.int32]  # [stages]: into stage s (0: from the host)
    credit: NDArray[np.int32]  # [stages]: from stage s to its predecessor (0: to the host)
    token: int  # head stage to host
    logits: NDArray[np.int32]  # [head regions]: to the host


def route_ranges(stages: Sequence[Stage]) -> Routes:
    """Places of a program's routes in its route tables, from its stages (order of formats.md)."""
    regions = [regions for stage in stages for regions in stage.regions]
    counts = [len(regions)] + [len(site) for site in regions] + [len(stages), len(stages), 1, len(regions[-1])]
    ends = np.cumsum(counts, dtype=np.int32)
    spike, *value, residual, credit, token, logits = [
        np.arange(end - count, end, dtype=np.int32) for count, end in zip(counts, ends, strict=True)
    ]
    return Routes(spike=spike, value=tuple(value), residual=residual, credit=credit, token=int(token[0]), logits=logits)


@dataclass(frozen=True, repr=False)
class Program(Displayed):
    """Everything a simulator needs; weights are shared with the network's integer decoder."""

    spec: ChipSpec
    weights: DecoderWeights
    weights_t: tuple[NDArray[np.int8], ...]  # per site [inputs, outputs], contiguous
    stages: tuple[Stage, ...]
    routes: Routes
    route_masks: NDArray[np.uint8]  # [routes, tiles]
    route_sources: NDArray[np.int32]  # [routes]
    max_context: int
    network_hash: str
    report: dict[str, Any]
    tokenizer_files: dict[str, bytes]

    def result_flits(self, region: Region) -> int:
        """Flits of a region's results for a token: its values, or of the head the largest one and its index."""
        head = region.site == self.weights.config.head.index
        return self.spec.noc.value_flits(2 if head else region.outputs)

    def sequence_context(self, sequences: int) -> int:
        """Longest context of each of so many sequences; 0 if not a single token."""
        return min(sequence_part(self.spec, self.weights.config, sequences), self.max_context)

    def row_blocks(self, site: int) -> int:
        """Number of blocks of `synapse.rows` inputs of a site."""
        return self.spec.synapse.row_blocks(self.weights.config.sites[site].inputs)

    def save(self, folder: Path | str) -> str:
        """Write the program folder atomically; returns its content hash."""
        from neuromorphic_llm.chip.program_io import save_program  # which loads programs, too

        return save_program(self, folder)

    @property
    def title(self) -> str:
        """Kind and chip."""
        return f"Program for chip {self.spec.name}"

    def figures(self) -> dict[str, str]:
        """Tiles and crossbars in use, and the longest context."""
        report = self.report
        kinds = sorted(report.get("tiles_by_kind", {}).items())  # the same fresh and from a folder
        tiles = {f"{kind} tiles": f"{n['used']} of {n['available']}" for kind, n in kinds}
        crossbars = {"crossbars": f"{report['crossbars']:,} of {report['crossbars_available']:,}"} if "crossbars" in report else {}
        return {**tiles, **crossbars, "weights": f"{self.weights.parameters:,}", "longest context": f"{self.max_context:,} tokens"}
