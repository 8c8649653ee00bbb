"""Operation counts of a run, from its activity trace and timing (docs/reference/timing.md, Counters)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program, Region
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.simulate.timing import TimingResult
from neuromorphic_llm.simulate.trace import ActivityTrace

WORD_BITS = 32
"""A value in the memories of a vector tile."""

STORED_BITS = 8
"""An element of a key or value, and the exponent of each."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Counters:
    """Counts over some tokens of a run; every field is defined in docs/reference/timing.md."""

    prompt_tokens: int
    decoded_tokens: int
    spikes: int
    synaptic_operations: int
    crossbar_reads: int
    cell_reads: int
    conversions: int
    accumulations: int
    output_values: int
    gate_operations: int
    norm_elements: int
    encode_elements: int
    add_elements: int
    rope_elements: int
    query_spikes: int
    score_operations: int
    softmax_elements: int
    probability_spikes: int
    value_operations: int
    kv_bits_read: int
    kv_bits_written: int
    sram_bits_read: int
    sram_bits_written: int
    flits: int
    flit_hops: int
    dram_bits_read: int
    cycles: int
    site_spikes: tuple[int, ...]  # per crossbar site
    site_synaptic_operations: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens counted."""
        return self.prompt_tokens + self.decoded_tokens

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def count(program: Program, trace: ActivityTrace, timing: TimingResult, rows: slice | None = None) -> Counters:
    """Counts of the tokens `rows` (default: all). SimulationError if that is none.

    Cycles are from the end of the token before the first one to the end of the last one.
    """
    chosen = range(trace.tokens)[rows or slice(None)]
    if not len(chosen) or chosen.step != 1:
        raise SimulationError(f"cannot count the tokens {rows}; choose one or more consecutive ones of {trace.tokens}")
    part = trace.select(slice(chosen.start, chosen.stop))
    prompt = max(min(chosen.stop, trace.prompt_tokens) - chosen.start, 0)
    events = part.events.sum(axis=(2, 3), dtype=np.int64)
    outputs = np.array([program.weights.config.site_shape(site)[1] for site in range(events.shape[1])], np.int64)
    site_spikes = events.sum(axis=0)
    start = timing.token_end_cycle[chosen.start - 1] if chosen.start else 0
    return Counters(
        prompt_tokens=prompt,
        decoded_tokens=len(chosen) - prompt,
        spikes=int(site_spikes.sum()),
        synaptic_operations=int(site_spikes @ outputs),
        **_crossbar_counts(program, part, int(site_spikes @ outputs)),
        **_soma_counts(program, part, outputs),
        **_attention_counts(program, part),
        **_memory_counts(program, part, events),
        **_network_counts(program, part),
        cycles=int(timing.token_end_cycle[chosen.stop - 1] - start),
        site_spikes=tuple(site_spikes.tolist()),
        site_synaptic_operations=tuple((site_spikes * outputs).tolist()),
    )


def _regions(program: Program) -> list[Region]:
    return [region for stage in program.stages for site in stage.regions for region in site]


def _crossbar_counts(program: Program, trace: ActivityTrace, synaptic_operations: int) -> dict[str, int]:
    """Reads of macros and what follows each."""
    spec = program.spec
    groups = (-(-trace.events.astype(np.int64) // spec.active_rows)).sum(axis=(0, 2, 3))  # [sites], reads of one macro column
    reads = sum(int(groups[region.site]) * -(-region.columns // spec.columns) for region in _regions(program)) * spec.slices
    conversions = sum(int(groups[region.site]) * region.columns for region in _regions(program)) * spec.slices
    return {
        "crossbar_reads": reads,
        "cell_reads": synaptic_operations * spec.slices,
        "conversions": conversions,
        "accumulations": conversions,
    }


def _soma_counts(program: Program, trace: ActivityTrace, outputs: Counts) -> dict[str, int]:
    """Elements that vector tiles and output stages work on."""
    config = program.weights.config
    rows, heads = trace.tokens, int(trace.logits_wanted.sum())
    inputs = np.array([config.site_shape(site)[0] for site in range(len(outputs))], np.int64)
    ran = (trace.phases > 0).sum(axis=0)
    encoded = int(trace.phases.sum(axis=0, dtype=np.int64) @ inputs) + config.head_dim * int(trace.query_phases.sum())
    return {
        "output_values": int(ran @ outputs),
        "gate_operations": rows * config.layers * config.intermediate_size,
        "norm_elements": (2 * config.layers * rows + heads) * config.hidden_size,
        "encode_elements": encoded,
        "add_elements": 2 * config.layers * rows * config.hidden_size,
        "rope_elements": config.layers * rows * (config.heads + config.kv_heads) * config.head_dim,
    }


def _attention_counts(program: Program, trace: ActivityTrace) -> dict[str, int]:
    """Spikes of queries and probabilities, and the key/value memory."""
    config = program.weights.config
    context = trace.context.astype(np.int64)
    query_spikes = trace.query_spikes.sum(axis=(1, 2), dtype=np.int64)
    probability_spikes = int(trace.probability_spikes.sum())
    scores = int(query_spikes @ context)
    pairs = config.layers * config.heads * int(context.sum())
    # A group of query heads reads an element of the keys once for all their spikes on it.
    columns = int(trace.key_columns.sum(axis=(1, 2), dtype=np.int64) @ context)
    keys = config.layers * config.kv_heads * int(context.sum())
    vector_bits = STORED_BITS * (config.head_dim + 1)  # with its exponent
    return {
        "query_spikes": int(query_spikes.sum()),
        "score_operations": scores,
        "softmax_elements": pairs,
        "probability_spikes": probability_spikes,
        "value_operations": probability_spikes * config.head_dim,
        "kv_bits_read": STORED_BITS * (columns + keys) + vector_bits * int(trace.probability_keys.sum()),
        "kv_bits_written": 2 * vector_bits * config.layers * config.kv_heads * trace.tokens,
    }


def _memory_counts(program: Program, trace: ActivityTrace, events: Counts) -> dict[str, int]:
    """Event memories and the vector tiles' working memory; DRAM."""
    spec, config = program.spec, program.weights.config
    rows, heads, hidden = trace.tokens, int(trace.logits_wanted.sum()), config.hidden_size
    layers = config.layers * rows
    copies = 1 + np.bincount([region.site for region in _regions(program)], minlength=events.shape[1])  # event bank and axon memories
    event_bits = spec.flit_bits // spec.events_per_flit * int(events.sum(axis=0) @ copies)
    inputs = np.array([config.site_shape(site)[0] for site in range(events.shape[1])], np.int64)
    scanned = int(trace.phases.sum(axis=0, dtype=np.int64) @ inputs) + config.head_dim * int(trace.query_phases.sum())
    maximum = int((trace.phases > 0).sum(axis=0) @ inputs)
    query, key_value = config.heads * config.head_dim, config.kv_heads * config.head_dim
    rotated, stored = query + key_value, 2 * key_value
    head_values = 2 * len(program.stages[-1].regions[0])
    results = query + stored + 2 * hidden + config.intermediate_size  # values received from the four sites
    # per layer: norm 3 of 2, add 2 of 2, rope, kv-write, send | residual, norm and add 1 of 2 each, results, rope, attention output
    read = layers * (6 * hidden + 4 * hidden + rotated + stored + hidden) + heads * (3 * hidden + head_values) + maximum + scanned
    written = layers * (hidden + 4 * hidden + results + rotated + query) + heads * (2 * hidden + head_values) + scanned
    return {
        "sram_bits_read": WORD_BITS * read + event_bits,
        "sram_bits_written": WORD_BITS * written + event_bits,
        "dram_bits_read": 16 * hidden * rows,
    }


def _network_counts(program: Program, trace: ActivityTrace) -> dict[str, int]:
    """Flits by route, times the links of its tree: what the timing simulation counts one by one."""
    spec, config, routes = program.spec, program.weights.config, program.routes
    rows, heads, last = trace.tokens, int(trace.logits_wanted.sum()), config.sites - 1
    flits = np.zeros(len(program.route_sources), np.int64)
    per_phase = trace.events.sum(axis=3, dtype=np.int64)  # [rows, sites, phases]
    ran = np.arange(per_phase.shape[2]) < trace.phases[:, :, None]
    flits[routes.spike] = (np.maximum(-(-per_phase // spec.events_per_flit), 1) * ran).sum(axis=(0, 2))
    for region, route in zip(_regions(program), np.concatenate(routes.value), strict=True):
        flits[route] = heads if region.site == last else rows * -(-region.outputs // 2)
    passes = np.array([rows] * config.layers + [heads], np.int64)
    flits[routes.residual] = passes * -(-config.hidden_size // 2)
    flits[routes.credit] = passes
    flits[routes.token] = heads
    links = np.bitwise_count(program.route_masks & 0b1111).sum(axis=1, dtype=np.int64)
    return {"flits": int(flits.sum()), "flit_hops": int(flits @ links)}
