"""Operation counts of a run, from its activity trace and timing (docs/reference/timing.md, Counters)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program, Region
from neuromorphic_llm.chip.routes import entry_bits, wire_hops
from neuromorphic_llm.chip.widths import TABLE_BITS, WORD_BITS
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.simulation.gating import gating_counts
from neuromorphic_llm.simulation.trace import CELLS, READS, ROWS, ActivityTrace
from neuromorphic_llm.spikes.registry import get_code

if TYPE_CHECKING:
    from neuromorphic_llm.simulation.timing import TimingResult

MEMORY_COUNTERS: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "vector_memory": ("vector_bits_read", "vector_bits_written"),
        "event_banks": ("event_bank_bits_read", "event_bank_bits_written"),
        "key_value": ("kv_bits_read", "kv_bits_written"),
        "attention_scores": ("score_bits_read", "score_bits_written"),
        "rotary_tables": ("rotary_bits_read", None),
        "axon": ("axon_bits_read", "axon_bits_written"),
        "accumulators": ("accumulator_bits_read", "accumulator_bits_written"),
        "output_parameters": ("output_parameter_bits_read", None),
        "routing_tables": ("routing_bits_read", None),
    }
)
"""Every memory of the compiler's report -> its counters of bits read and written; None: written only when a program is loaded."""

SRAM = ("vector_memory", "event_banks", "rotary_tables", "axon", "output_parameters")
"""The memories whose accesses sram_bits_read and sram_bits_written add up."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Counters:
    """Counts over some tokens of a run; every field is defined in docs/reference/timing.md."""

    prompt_tokens: int = 0
    decoded_tokens: int = 0
    spikes: int = 0
    synaptic_operations: int = 0
    crossbar_reads: int = 0
    row_drives: int = 0
    cell_reads: int = 0
    conversions: int = 0
    repeated_conversions: int = 0
    squared_elements: int = 0
    integrations: int = 0
    halvings: int = 0
    decays: int = 0
    slot_matches: int = 0
    accumulations: int = 0
    output_values: int = 0
    gate_operations: int = 0
    norm_elements: int = 0
    square_roots: int = 0
    divisions: int = 0
    maximum_elements: int = 0
    encode_elements: int = 0
    add_elements: int = 0
    rope_elements: int = 0
    query_spikes: int = 0
    score_operations: int = 0
    softmax_elements: int = 0
    probability_spikes: int = 0
    value_operations: int = 0
    attention_values: int = 0
    kv_bits_read: int = 0
    kv_bits_written: int = 0
    score_bits_read: int = 0
    score_bits_written: int = 0
    vector_bits_read: int = 0
    vector_bits_written: int = 0
    event_bank_bits_read: int = 0
    event_bank_bits_written: int = 0
    axon_bits_read: int = 0
    axon_bits_written: int = 0
    accumulator_bits_read: int = 0
    accumulator_bits_written: int = 0
    rotary_bits_read: int = 0
    output_parameter_bits_read: int = 0
    routing_bits_read: int = 0
    flits: int = 0
    flit_hops: int = 0
    dram_bits_read: int = 0
    vector_tile_cycles_on: int = 0
    synapse_tile_cycles_on: int = 0
    router_cycles_on: int = 0
    vector_tile_wakes: int = 0
    synapse_tile_wakes: int = 0
    router_wakes: int = 0
    cycles: int = 0
    site_spikes: tuple[int, ...] = ()  # per crossbar site
    site_synaptic_operations: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens counted."""
        return self.prompt_tokens + self.decoded_tokens

    @property
    def sram_bits_read(self) -> int:
        """Bits read from the memories of SRAM together."""
        return sum(self.memory_bits(name)[0] for name in SRAM)

    @property
    def sram_bits_written(self) -> int:
        """Bits written to the memories of SRAM together."""
        return sum(self.memory_bits(name)[1] for name in SRAM)

    def memory_bits(self, memory: str) -> tuple[int, int]:
        """Bits read from and written to a memory of MEMORY_COUNTERS."""
        read, written = MEMORY_COUNTERS[memory]
        return int(getattr(self, read)), 0 if written is None else int(getattr(self, written))

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields and the two sums."""
        counts = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return counts | {"sram_bits_read": self.sram_bits_read, "sram_bits_written": self.sram_bits_written}


def count(program: Program, trace: ActivityTrace, timing: TimingResult, rows: slice | None = None) -> Counters:
    """Counts of the tokens `rows` (default: all). SimulationError if that is none.

    Cycles are from the end of the token before the first one to the end of the last one.
    """
    chosen = range(trace.tokens)[rows or slice(None)]
    if not len(chosen) or chosen.step != 1:
        raise SimulationError(f"cannot count the tokens {rows}; choose one or more consecutive ones of {trace.tokens}")
    part = trace.select(slice(chosen.start, chosen.stop))
    prompt = max(min(chosen.stop, trace.prompt_tokens) - chosen.start, 0)
    work = _SiteWork.of(program, part)
    site_operations = work.events * work.outputs
    start = timing.token_end_cycle[chosen.start - 1] if chosen.start else 0
    counted = Counter(_crossbar_counts(program, part, work, timing.stored_phases[chosen.start : chosen.stop].sum(axis=0)))
    for number, stage in enumerate(program.stages):
        last = number == len(program.stages) - 1
        if last and not part.logits_wanted.any():
            continue
        activity = part.select(part.logits_wanted) if last else part
        for instruction in stage.program:
            counted.update(instruction.counts(program.spec, activity))
    return Counters(
        prompt_tokens=prompt,
        decoded_tokens=len(chosen) - prompt,
        spikes=int(work.events.sum()),
        synaptic_operations=int(site_operations.sum()),
        **counted,
        **_network_counts(program, part, work),
        dram_bits_read=16 * program.weights.config.hidden_size * part.tokens,
        **gating_counts(program, trace, timing, slice(chosen.start, chosen.stop)),
        cycles=int(timing.token_end_cycle[chosen.stop - 1] - start),
        site_spikes=tuple(work.events.tolist()),
        site_synaptic_operations=tuple(site_operations.tolist()),
    )


@dataclass(frozen=True)
class _SiteWork:
    """Work of the counted tokens at each crossbar site, [sites]."""

    inputs: Counts
    outputs: Counts
    events: Counts  # spikes
    runs: Counts  # tokens that ran the site
    phases: Counts  # over all of them

    @classmethod
    def of(cls, program: Program, trace: ActivityTrace) -> _SiteWork:
        shapes = np.array([site.shape for site in program.weights.config.sites], np.int64)
        return cls(
            inputs=shapes[:, 0],
            outputs=shapes[:, 1],
            events=trace.events.sum(axis=(0, 2, 3), dtype=np.int64),
            runs=(trace.phases > 0).sum(axis=0, dtype=np.int64),
            phases=trace.phases.sum(axis=0, dtype=np.int64),
        )


def _regions(program: Program) -> list[Region]:
    return [region for stage in program.stages for site in stage.regions for region in site]


def _halvings(program: Program, trace: ActivityTrace) -> Counts:
    """Halvings between the phases of every train, [tokens, sites]; none where a token did not run a site."""
    code = program.weights.code
    between: Counts = np.maximum(trace.phases.astype(np.int64) - 1, 0)
    return get_code(code.name, code.phases).horner_shift * between


def _over_columns(per_column: Counts, regions: list[tuple[Region, int]]) -> int:
    """Sum over the columns of all regions of counts [sites] per column."""
    return sum(int(per_column[region.site]) * region.columns for region, _ in regions)


def _crossbar_counts(program: Program, trace: ActivityTrace, work: _SiteWork, stored: Counts) -> dict[str, int]:
    """Synapse tiles: axon memories, reads of macros and what follows each, output stages; stored [regions]: phases that waited."""
    spec = program.spec
    events = trace.events.astype(np.int64)
    groups = spec.readout_circuit.reads(events).sum(axis=(0, 2, 3))  # [sites], reads of one macro column
    per_column = spec.readout_circuit.conversions(events)  # [sites]
    integrations = spec.readout_circuit.integrations(events)
    halvings = spec.readout_circuit.halvings(events, _halvings(program, trace))
    repeated = int(trace.repeats.sum(dtype=np.int64))
    rereads = trace.rereads.sum(axis=(0, 1))
    side_by_side = spec.synapse.column_blocks
    regions = [(region, side_by_side(region.columns, region.columns // region.outputs)) for region in _regions(program)]
    slots = (events.sum(axis=3) > 0).sum(axis=(0, 2)) if spec.stamped else np.zeros_like(groups)  # [sites], with an event
    kept = stored if spec.passes_axons else [work.phases[region.site] for region, _ in regions]
    axon_bits = spec.spike_bits * sum(int(phases * work.inputs[region.site]) for phases, (region, _) in zip(kept, regions, strict=True))
    conversions = _over_columns(per_column, regions)
    accumulations = spec.readout_circuit.accumulations(conversions, repeated)
    sites, each = program.weights.config.sites, work.runs * work.outputs
    output_values = int(each.sum())
    biased = [program.weights.site(site.name).bias is not None for site in sites]
    gated, compared = ([site.epilogue == epilogue for site in sites] for epilogue in ("gate", "argmax"))
    return {
        "axon_bits_read": axon_bits,
        "axon_bits_written": axon_bits,
        "crossbar_reads": sum(int(groups[region.site]) * macros for region, macros in regions) * spec.synapse.slices + int(rereads[READS]),
        "row_drives": sum(int(work.events[region.site]) * macros for region, macros in regions) * spec.synapse.slices + int(rereads[ROWS]),
        "cell_reads": int(work.events @ work.outputs) * spec.synapse.slices + int(rereads[CELLS]),
        "conversions": conversions + repeated,
        "repeated_conversions": repeated,
        "squared_elements": int(work.runs @ work.inputs) if spec.readout_circuit.squares else 0,
        "integrations": _over_columns(integrations, regions),
        "halvings": _over_columns(halvings, regions),
        "decays": _over_columns(spec.readout_circuit.decays(events), regions),
        "slot_matches": sum(int(slots[region.site] * work.inputs[region.site]) for region, _ in regions),
        "accumulations": accumulations,
        "accumulator_bits_read": spec.synapse.accumulator_bits * (accumulations + output_values),
        "accumulator_bits_written": spec.synapse.accumulator_bits * accumulations,
        "output_values": output_values,
        "output_parameter_bits_read": TABLE_BITS * output_values + WORD_BITS * int(each[biased].sum()),
        "gate_operations": int(each[gated].sum()) // 2,
        "maximum_elements": int(each[compared].sum()),
    }


def _network_counts(program: Program, trace: ActivityTrace, work: _SiteWork) -> dict[str, int]:
    """Flits by route, times the links of its tree: what the timing simulation counts one by one."""
    spec, config, routes = program.spec, program.weights.config, program.routes
    heads = int(trace.logits_wanted.sum())
    flits = np.zeros(len(program.route_sources), np.int64)
    per_phase = trace.events.sum(axis=3, dtype=np.int64)  # [rows, sites, phases]
    if spec.stamped:
        per_phase = per_phase.sum(axis=2, keepdims=True)
    ran = np.arange(per_phase.shape[2]) < trace.phases[:, :, None]
    flits[routes.spike] = (np.maximum(-(-per_phase // spec.flit_events), 1) * ran).sum(axis=(0, 2))
    for region, route in zip(_regions(program), np.concatenate(routes.value), strict=True):
        flits[route] = work.runs[region.site] * program.result_flits(region)
    passes = np.array([trace.tokens] * (len(program.stages) - 1) + [heads], np.int64)
    flits[routes.residual] = passes * spec.noc.value_flits(config.hidden_size)
    flits[routes.credit] = passes
    flits[routes.token] = heads
    injected, hops = int(flits.sum()), int(flits @ wire_hops(program.route_masks))
    return {"flits": injected, "flit_hops": hops, "routing_bits_read": entry_bits(len(flits)) * (injected + hops)}
