"""Operation counts of a run, from its activity trace and timing (docs/reference/timing.md, Counters)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program, Region
from neuromorphic_llm.chip.routes import entry_bits, wire_hops
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.simulation.trace import ActivityTrace

if TYPE_CHECKING:
    from neuromorphic_llm.simulation.timing import TimingResult

WORD_BITS = 32
"""A value in the memories of a vector tile; a gain, a stop price, a bias."""

STORED_BITS = 8
"""An element of a key or value, and the exponent of each."""

SCORE_BITS, WEIGHT_BITS = 24, 16
"""A scaled score (z) and an unnormalised probability (u) in the memory of an attention engine."""

TABLE_BITS = 16
"""A cosine, a sine, a multiplier of an output stage."""

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
    return Counters(
        prompt_tokens=prompt,
        decoded_tokens=len(chosen) - prompt,
        spikes=int(work.events.sum()),
        synaptic_operations=int(site_operations.sum()),
        **_crossbar_counts(program, part, work),
        **_soma_counts(program, part, work),
        **_attention_counts(program, part),
        **_vector_counts(program, part, work),
        **_network_counts(program, part),
        dram_bits_read=16 * program.weights.config.hidden_size * part.tokens,
        cycles=int(timing.token_end_cycle[chosen.stop - 1] - start),
        site_spikes=tuple(work.events.tolist()),
        site_synaptic_operations=tuple(site_operations.tolist()),
    )


@dataclass(frozen=True)
class _SiteWork:
    """What the counted tokens did at each crossbar site, [sites]."""

    inputs: Counts
    outputs: Counts
    events: Counts  # spikes
    runs: Counts  # tokens that ran the site
    phases: Counts  # over all of them

    @classmethod
    def of(cls, program: Program, trace: ActivityTrace) -> _SiteWork:
        shapes = np.array([program.weights.config.sites[site].shape for site in range(len(program.weights.config.sites))], np.int64)
        return cls(
            inputs=shapes[:, 0],
            outputs=shapes[:, 1],
            events=trace.events.sum(axis=(0, 2, 3), dtype=np.int64),
            runs=(trace.phases > 0).sum(axis=0, dtype=np.int64),
            phases=trace.phases.sum(axis=0, dtype=np.int64),
        )

    @property
    def encoded(self) -> int:
        """Values that the encoders of the sites took."""
        return int(self.runs @ self.inputs)

    @property
    def scanned(self) -> int:
        """These times the phases of each."""
        return int(self.phases @ self.inputs)


def _regions(program: Program) -> list[Region]:
    return [region for stage in program.stages for site in stage.regions for region in site]


def _macros(region: Region, columns: int) -> int:
    """Macros of `columns` columns side by side that a region takes; gate and up column of a pair share one."""
    columns_per_output = region.columns // region.outputs
    return -(-region.outputs // max(columns // columns_per_output, 1))


def _crossbar_counts(program: Program, trace: ActivityTrace, work: _SiteWork) -> dict[str, int]:
    """Synapse tiles: axon memories, reads of macros and what follows each, output stages."""
    spec = program.spec
    events = trace.events.astype(np.int64)
    groups = spec.readout_circuit.reads(events).sum(axis=(0, 2, 3))  # [sites], reads of one macro column
    per_column = spec.readout_circuit.conversions(events)  # [sites]
    regions = [(region, _macros(region, spec.synapse.columns)) for region in _regions(program)]
    axon_bits = 2 * sum(int(work.phases[region.site] * work.inputs[region.site]) for region, _ in regions)
    conversions = sum(int(per_column[region.site]) * region.columns for region, _ in regions)
    output_values = int(work.runs @ work.outputs)
    biased = [program.weights.site(site).bias is not None for site in range(len(work.runs))]
    return {
        "axon_bits_read": axon_bits,
        "axon_bits_written": axon_bits,
        "crossbar_reads": sum(int(groups[region.site]) * macros for region, macros in regions) * spec.synapse.slices,
        "row_drives": sum(int(work.events[region.site]) * macros for region, macros in regions) * spec.synapse.slices,
        "cell_reads": int(work.events @ work.outputs) * spec.synapse.slices,
        "conversions": conversions,
        "accumulations": conversions,
        "accumulator_bits_read": spec.synapse.accumulator_bits * (conversions + output_values),
        "accumulator_bits_written": spec.synapse.accumulator_bits * conversions,
        "output_values": output_values,
        "output_parameter_bits_read": TABLE_BITS * output_values + WORD_BITS * int(work.runs[biased] @ work.outputs[biased]),
    }


def _soma_counts(program: Program, trace: ActivityTrace, work: _SiteWork) -> dict[str, int]:
    """Elements that vector tiles and output stages work on."""
    config = program.weights.config
    rows, heads = trace.tokens, int(trace.logits_wanted.sum())
    layers, norms = config.layers * rows, 2 * config.layers * rows + heads
    query, key_value = config.heads * config.head_dim, config.kv_heads * config.head_dim
    head_choice = config.vocab_size + len(program.stages[-1].regions[0])
    pairs = config.layers * config.heads * int(trace.context.sum(dtype=np.int64))
    return {
        "gate_operations": layers * config.intermediate_size,
        "norm_elements": norms * config.hidden_size,
        "square_roots": norms,
        "divisions": norms + layers * config.heads,
        "maximum_elements": norms * config.hidden_size + work.encoded + layers * (query + 2 * key_value) + pairs + heads * head_choice,
        "encode_elements": work.scanned + config.head_dim * int(trace.query_phases.sum(dtype=np.int64)),
        "add_elements": 2 * layers * config.hidden_size + _offset_elements(program) * rows,
        "rope_elements": layers * (query + key_value),
        "rotary_bits_read": TABLE_BITS * layers * (query + key_value),
        "attention_values": layers * query,
    }


def _offset_elements(program: Program) -> int:
    """Key elements of a token that have an offset taken off."""
    return sum(layer.key_offset.size for layer in program.weights.layers if layer.get("key_offset") is not None)


def _attention_counts(program: Program, trace: ActivityTrace) -> dict[str, int]:
    """Spikes of queries and probabilities, and the memories of the attention engines."""
    config = program.weights.config
    context = trace.context.astype(np.int64)
    query_spikes = trace.query_spikes.sum(axis=(1, 2), dtype=np.int64)
    probability_spikes = int(trace.probability_spikes.sum(dtype=np.int64))
    pairs = config.layers * config.heads * int(context.sum())
    # A group of query heads reads an element of the keys once for all their spikes on it.
    columns = int(trace.key_columns.sum(axis=(1, 2), dtype=np.int64) @ context)
    keys = config.layers * config.kv_heads * int(context.sum())
    vector_bits = STORED_BITS * (config.head_dim + 1)  # with its exponent
    return {
        "query_spikes": int(query_spikes.sum()),
        "score_operations": int(query_spikes @ context),
        "softmax_elements": pairs,
        "probability_spikes": probability_spikes,
        "value_operations": probability_spikes * config.head_dim,
        "kv_bits_read": STORED_BITS * (columns + keys) + vector_bits * int(trace.probability_keys.sum(dtype=np.int64)),
        "kv_bits_written": 2 * vector_bits * config.layers * config.kv_heads * trace.tokens,
        "score_bits_read": (2 * SCORE_BITS + WEIGHT_BITS) * pairs,
        "score_bits_written": (SCORE_BITS + WEIGHT_BITS) * pairs,
    }


def _vector_counts(program: Program, trace: ActivityTrace, work: _SiteWork) -> dict[str, int]:
    """The vector tiles' working memory and event banks."""
    config = program.weights.config
    hidden, layers, heads = config.hidden_size, config.layers * trace.tokens, int(trace.logits_wanted.sum())
    sends = (config.layers - 1) * trace.tokens + heads  # the last layer sends only what the head wants
    norms, receives = 2 * layers + heads, layers + heads
    query, key_value = config.heads * config.head_dim, config.kv_heads * config.head_dim
    rotated, choice = query + key_value, 2 * len(program.stages[-1].regions[0])
    results = query + 2 * key_value + 2 * hidden + config.intermediate_size  # values received from the four sites of a layer
    query_scans = config.head_dim * int(trace.query_phases.sum(dtype=np.int64))
    # The signed-digit rule needs the price of a spike in every phase; the dead zone of the other codes once a value.
    stops = query_scans + (work.scanned if program.weights.code.name == "signed-digit" else work.encoded)
    scans = work.scanned + query_scans
    # norm: three passes and the gains; what is received is copied nowhere
    read = hidden * (4 * norms + 4 * layers + sends) + layers * (rotated + 2 * key_value) + heads * choice
    read += _offset_elements(program) * trace.tokens
    written = hidden * (norms + receives + 2 * layers) + layers * (results + rotated + query) + heads * choice
    return {
        "vector_bits_read": WORD_BITS * (read + work.encoded + scans + stops),
        "vector_bits_written": WORD_BITS * (written + scans),
        "event_bank_bits_read": 2 * work.scanned,
        "event_bank_bits_written": 2 * work.scanned,
    }


def _network_counts(program: Program, trace: ActivityTrace) -> dict[str, int]:
    """Flits by route, times the links of its tree: what the timing simulation counts one by one."""
    spec, config, routes = program.spec, program.weights.config, program.routes
    rows, heads, last = trace.tokens, int(trace.logits_wanted.sum()), config.head.index
    flits = np.zeros(len(program.route_sources), np.int64)
    per_phase = trace.events.sum(axis=3, dtype=np.int64)  # [rows, sites, phases]
    ran = np.arange(per_phase.shape[2]) < trace.phases[:, :, None]
    flits[routes.spike] = (np.maximum(-(-per_phase // spec.noc.events_per_flit), 1) * ran).sum(axis=(0, 2))
    for region, route in zip(_regions(program), np.concatenate(routes.value), strict=True):
        flits[route] = (heads if region.site == last else rows) * program.result_flits(region)
    passes = np.array([rows] * config.layers + [heads], np.int64)
    flits[routes.residual] = passes * spec.noc.value_flits(config.hidden_size)
    flits[routes.credit] = passes
    flits[routes.token] = heads
    injected, hops = int(flits.sum()), int(flits @ wire_hops(program.route_masks))
    return {"flits": injected, "flit_hops": hops, "routing_bits_read": entry_bits(len(flits)) * (injected + hops)}
