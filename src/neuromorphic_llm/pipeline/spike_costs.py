"""Energy of a spike on a chip, by its own account: for conversions whose budget is in joules (docs/reference/conversion.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.legalise import refuse_missing_units
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.allocation.prices import SpikeCosts, operation_costs
from neuromorphic_llm.conversion.calibrate import Calibration, Progress
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.energy import account, chip_memories
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.reference.build import build_graph, outline
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.simulation.counters import count
from neuromorphic_llm.simulation.run import simulate

PROMPT_TOKENS, DECODED_TOKENS = 128, 16
_BASE_SPIKES = 1.5


def spike_costs(weights: DecoderWeights, spec: ChipSpec, prompt: Sequence[int]) -> SpikeCosts:
    """Costs of a spike at each site, and what a token costs without any: nominal joules of a decoded token after `prompt`.

    The cost of a site's spikes is what the account falls by when its trace has none of them: row drives, cells, conversions, accumulations,
    accesses and flits. Leakage is that of the time that the network itself takes. CompileError if the chip cannot hold it.
    """
    program = compile_network(weights, spec)
    tokens = min(len(prompt), program.max_context - DECODED_TOKENS, PROMPT_TOKENS)
    result = simulate(program, list(prompt[:tokens]), DECODED_TOKENS + 1, stop=())
    rows, memories = slice(tokens, None), chip_memories(program)

    def joules(trace: Any) -> float:
        counters = count(program, trace, result.timing, rows)
        return account(counters, spec, memories, counters.cycles / spec.clock_hz, tokens=counters.tokens).chip_energy_j_per_token.nominal

    whole, trace = joules(result.trace), result.trace
    spikes = trace.events[rows].sum(axis=(0, 2, 3), dtype=np.int64) / DECODED_TOKENS
    saved = np.zeros(len(spikes))
    for site in range(len(spikes)):
        events = trace.events.copy()
        events[:, site] = 0
        saved[site] = whole - joules(replace(trace, events=events))
    operations = operation_costs(weights.config)
    # A site that was silent costs what its synaptic operations cost elsewhere.
    usual = float(saved.sum()) / max(float(spikes @ operations), 1.0)
    return SpikeCosts(np.where(spikes > 0, saved / np.maximum(spikes, 1e-9), usual * operations), whole - float(saved.sum()))


def costs_of_checkpoint(
    checkpoint: Checkpoint,
    options: ConvertConfig,
    windows: Sequence[Sequence[int]],
    calibration: Calibration,
    spec: ChipSpec,
    device: str,
    progress: Progress | None = None,
) -> SpikeCosts:
    """spike_costs of the checkpoint as it is with 1.5 spikes per activation and no compensation. CompileError as there."""
    refuse_missing_units(build_graph(outline(checkpoint.config)))  # before the conversion, which takes minutes
    base = replace(options, spikes=_BASE_SPIKES, energy_j=None, price=None, allocation="fisher", compensation=())
    network = convert(checkpoint, base, windows, calibration=calibration, device=device, progress=progress)
    return spike_costs(network.weights, spec, windows[0])
