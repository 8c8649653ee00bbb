"""Expected activity of the chip's units in a run, by the simulators (docs/reference/rtl/verification.md, Lockstep)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.reference.decoder import Record
from neuromorphic_llm.rtl.expected_attention import attention_channels
from neuromorphic_llm.rtl.expected_flits import flit_channels
from neuromorphic_llm.rtl.recorded import Run

Unit = tuple[int, int]
"""Tile and attention engine, -1 for the tile itself."""


@dataclass(frozen=True)
class Channel:
    """Events of one signal of one unit, in order."""

    words: NDArray[np.int32]  # [events, 4]
    rows: NDArray[np.int64]  # [events], token of the run
    cycles: NDArray[np.int64] | None = None  # [events]; None: any, in this order


Channels = dict[tuple[Unit, str], Channel]


def expected_channels(run: Run) -> Channels:
    """Every event of every observed signal."""
    program, tokens = run.program, run.tokens
    channels: Channels = {}
    for tile, signal, rows, words, cycles in flit_channels(run):
        channels[(tile, -1), signal] = Channel(words, rows, cycles)
    for number, tile, rows, cycles in _ends(run):
        channels[(tile, -1), "instructions_done"] = Channel(np.zeros((len(rows), 4), np.int32), rows, cycles)
        if number < program.weights.config.layers:
            channels[(tile, -1), "residual"] = _residual(program, tokens, run.record, number)
            for engine, signal, head_rows, words in attention_channels(run, number):
                channels[(tile, engine), signal] = Channel(words, head_rows)
    for region in (region for stage in program.stages for regions in stage.regions for region in regions):
        rows = np.flatnonzero(run.logits_wanted) if region.site == program.weights.config.head.index else np.arange(len(tokens))
        accumulators = run.record.sites[region.site].accumulators
        assert accumulators is not None
        values = accumulators[rows][:, region_columns(program, region.site, region.first_output, region.outputs)]
        channels[(region.tile, -1), "accumulator"] = elements(values, rows)
    return channels


def region_columns(program: Program, site: int, first: int, outputs: int) -> NDArray[np.int64]:
    """Outputs of a site in the order of a region's columns: gate and up of each output in turn."""
    described, chosen = program.weights.config.sites[site], np.arange(first, first + outputs)
    if described.epilogue != "gate":
        return chosen
    return np.stack([chosen, described.outputs // 2 + chosen], axis=1).reshape(-1)


def elements(values: NDArray[np.integer], rows: NDArray[np.int64]) -> Channel:
    """Words (element, value) of values [rows, elements]."""
    count, size = values.shape
    words = np.zeros((count * size, 4), np.int32)
    words[:, 0] = np.tile(np.arange(size), count)
    words[:, 1] = values.reshape(-1)
    return Channel(words, np.repeat(rows, size))


def _residual(program: Program, tokens: Sequence[int], record: Record, layer: int) -> Channel:
    """The stream after the attention's and after the feed-forward addition of every token."""
    weights, ids = program.weights, np.asarray(tokens)
    before = record.hidden[layer - 1] if layer else weights.embedding[ids].astype(np.int64) << weights.formats.embedding_shift
    output = record.sites[weights.config.site(f"layers.{layer}.output").index].output
    assert output is not None
    attended = np.clip(before + output, -(2**31), 2**31 - 1)
    both = np.stack([attended, record.hidden[layer]], axis=1)
    return elements(both.reshape(-1, both.shape[2]), np.repeat(np.arange(len(tokens)), 2))


def _ends(run: Run) -> list[tuple[int, int, NDArray[np.int64], NDArray[np.int64]]]:
    """(stage, tile, rows, cycles) of the end of a token's instructions: with its last push, or in the cycle in which `send` is left out."""
    routes, layers = run.program.routes, run.program.weights.config.layers
    found = []
    for number, stage in enumerate(run.program.stages):
        route = routes.token if number == layers else int(routes.residual[number + 1])
        cycles = run.flits[(run.flits[:, 3] == 0) & (run.flits[:, 2] == 2 * route + 1), 0]
        rows = np.arange(len(run.logits_wanted))
        if number == layers:
            rows = np.flatnonzero(run.logits_wanted)
        elif number == layers - 1:
            pushes, cycles = cycles, run.token_end_cycle.copy()
            cycles[run.logits_wanted] = pushes
        found.append((number, stage.vector_tile, rows, cycles))
    return found
