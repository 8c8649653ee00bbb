"""Cycle timing of an activity trace on a program, exactly as docs/reference/timing.md defines it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.simulation import noc
from neuromorphic_llm.simulation import timing_kernels as kernels
from neuromorphic_llm.simulation.timing_kernels import FlitLog, Plan, Units, begin, run
from neuromorphic_llm.simulation.trace import ActivityTrace

SLICE_CYCLES = 1 << 20
"""Cycles simulated by one call of compiled code, a fraction of a second."""


@dataclass(frozen=True)
class TimingResult:
    """Cycles of a run. A row is a token of the trace; stages are the decoder layers and the head; regions in order of site."""

    prompt_tokens: int
    token_end_cycle: NDArray[np.int64]  # [rows], arrival of its token at the host, or end of the last layer, plus one
    flits: int  # injected
    flit_hops: int  # links crossed between routers
    vector_busy_cycles: NDArray[np.int64]  # [stages], instructions other than waits
    synapse_read_cycles: NDArray[np.int64]  # [regions], phases in work
    residual_wait_cycles: NDArray[np.int64]  # [stages], for the previous stage
    value_wait_cycles: NDArray[np.int64]  # [stages], for the results of synapse tiles
    credit_wait_cycles: NDArray[np.int64]  # [1 + stages], host first: no free residual slot downstream
    injection_stall_cycles: int  # a unit had a flit and its router no room
    link_stall_cycles: int  # a router had a flit and the next one no room

    @property
    def cycles_total(self) -> int:
        """Cycles from the start to the end of the last token."""
        return int(self.token_end_cycle.max())

    @property
    def prefill_cycles(self) -> int:
        """Cycles until the last prompt token's end: its own token, if its logits were wanted."""
        return int(self.token_end_cycle[self.prompt_tokens - 1])

    @property
    def decode_cycles(self) -> NDArray[np.int64]:
        """Cycles of every decoded token, [rows - prompt_tokens]."""
        return np.diff(self.token_end_cycle[self.prompt_tokens - 1 :])


def _ceil(value: NDArray[np.int64], by: int) -> NDArray[np.int64]:
    return -(-value // by)


def attention_cycles(spec: ChipSpec, trace: ActivityTrace, kv_heads: int, head_dim: int) -> NDArray[np.int64]:
    """Cycles of `attend`, [rows, layers]: the longest engine, which runs its heads one after another."""
    context = trace.context.astype(np.int64)[:, None, None]
    cycles = (
        -(-head_dim // spec.vector.lanes) * trace.query_phases.astype(np.int64)
        + trace.query_spikes * _ceil(context, spec.vector.key_lanes)
        + 3 * _ceil(context, spec.vector.softmax_lanes)
        + trace.probability_spikes
        + spec.vector.attend_latency
    )
    heads = cycles.shape[2]
    engine = (np.arange(heads) // (heads // kv_heads)) % spec.vector.attention_engines
    busy = np.stack([cycles[:, :, engine == e].sum(axis=2) for e in range(spec.vector.attention_engines)])
    longest: NDArray[np.int64] = busy.max(axis=0)
    return longest


def vector_instruction_cycles(program: Program, *, head: bool = False) -> int:
    """Cycles a token spends in `norm`, `add`, `rope` and `kv-write` of one decoder layer's vector tile, or of the head's."""
    spec, config = program.spec, program.weights.config

    def passes(elements: int) -> int:
        return -(-elements // spec.vector.lanes)

    norm = 3 * passes(config.hidden_size) + spec.vector.norm_latency
    if head:
        return norm
    query, key_value = config.heads * config.head_dim, config.kv_heads * config.head_dim
    moves = passes(config.hidden_size) * 2 + passes(query + key_value) + passes(2 * key_value)
    return 2 * norm + moves + 4 * spec.vector.latency


def host_step_cycles(program: Program) -> int:
    """Cycles of the host's step for a token, until its first flit."""
    spec = program.spec
    return spec.host.latency + spec.host.dram_latency + -(-2 * program.weights.config.hidden_size // spec.host.dram_bytes_per_cycle)


def _delays(program: Program, trace: ActivityTrace) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """(delay [rows, sites] from the end of the receive before a site to its first scan, scan [sites], cycles of `add`)."""
    spec, config = program.spec, program.weights.config

    def passes(elements: int) -> int:
        return -(-elements // spec.vector.lanes)

    hidden = passes(config.hidden_size)
    norm, add = 3 * hidden + spec.vector.norm_latency, hidden + spec.vector.latency
    query, key_value = config.heads * config.head_dim, config.kv_heads * config.head_dim
    rope_and_store = passes(query + key_value) + passes(2 * key_value) + 2 * spec.vector.latency
    scan = np.array([passes(config.sites[site].shape[0]) for site in range(len(config.sites))], np.int64)
    delay = np.tile(scan + spec.vector.latency, (trace.tokens, 1))
    delay[:, 0::4] += norm
    delay[:, 1::4] += rope_and_store + attention_cycles(spec, trace, config.kv_heads, config.head_dim)
    delay[:, 2::4] += add + norm
    return delay, scan, add


def _route_kinds(program: Program) -> NDArray[np.int64]:
    routes = program.routes
    kinds = np.full(len(program.route_sources), -1, np.int64)
    kinds[routes.spike] = kernels.SPIKE
    for value in routes.value:
        kinds[value] = kernels.VALUE
    kinds[routes.residual] = kernels.RESIDUAL
    kinds[routes.credit] = kernels.CREDIT
    kinds[routes.token] = kernels.TOKEN
    return kinds


def _plan(program: Program, trace: ActivityTrace) -> Plan:
    spec, config = program.spec, program.weights.config
    regions = [region for stage in program.stages for site in stage.regions for region in site]
    head = config.head.index
    events = trace.events.astype(np.int64)
    per_phase = events.sum(axis=3)
    delay, scan, add = _delays(program, trace)
    wanted_rows = np.flatnonzero(trace.logits_wanted)
    next_wanted = np.full(trace.tokens + 1, kernels.NO_ROW, np.int64)
    for row in range(trace.tokens - 1, -1, -1):
        next_wanted[row] = row if trace.logits_wanted[row] else next_wanted[row + 1]
    flits = [program.result_flits(region) for region in regions]
    latency = [
        -(-region.columns // spec.synapse.argmax_lanes) + spec.synapse.output_latency
        if region.site == head
        else spec.synapse.gate_latency
        if region.site % 4 == 2
        else spec.synapse.output_latency
        for region in regions
    ]
    sites = np.array([region.site for region in regions], np.int64)
    rows = np.zeros((trace.tokens + 1, 4), np.int64)
    rows[:-1, kernels.WANTED] = trace.logits_wanted
    rows[:, kernels.NEXT_WANTED] = next_wanted
    rows[1:, kernels.TOKENS_BEFORE] = np.cumsum(trace.logits_wanted)
    rows[: len(wanted_rows), kernels.WANTED_ROW] = wanted_rows
    row_cycles = host_step_cycles(program)
    row_flits = spec.noc.value_flits(config.hidden_size)
    units = _unit_table(program, sites, flits, latency)
    tile_unit = np.full(spec.topology.tiles, -1, np.int64)
    tile_unit[units[:, kernels.TILE]] = np.arange(len(units))
    value_flits = np.bincount(sites, weights=flits, minlength=len(config.sites)).astype(np.int64)
    phase_flits = np.maximum(_ceil(per_phase, spec.noc.events_per_flit), 1)
    reading = spec.readout_circuit.phase_cycles(events, spec.readout.read_latency, spec.readout.column_mux)
    return Plan(
        numbers=np.array([row_cycles, row_flits, trace.prompt_tokens, add, program.routes.token, config.layers], np.int64),
        rows=rows,
        sites=np.stack([scan, value_flits, program.routes.spike.astype(np.int64)], axis=1),
        units=units,
        delay=delay,
        phases=trace.phases.astype(np.int64),
        work=np.stack([phase_flits, reading], axis=3),
        tile_unit=tile_unit,
        route_kind=_route_kinds(program),
    )


def _unit_table(program: Program, region_site: NDArray[np.int64], flits: list[int], latency: list[int]) -> NDArray[np.int64]:
    """Plan.units: host, vector tiles, regions."""
    routes, stages = program.routes, len(program.stages)
    units = np.zeros((1 + stages + len(region_site), 6), np.int64)
    units[1 : stages + 1, kernels.TILE] = [stage.vector_tile for stage in program.stages]
    units[1 : stages + 1, kernels.CREDIT_ROUTE] = routes.credit
    units[:stages, kernels.OUT_ROUTE] = routes.residual
    units[:stages, kernels.BURST_FLITS] = program.spec.noc.value_flits(program.weights.config.hidden_size)
    region = units[stages + 1 :]
    region[:, kernels.TILE] = [region.tile for stage in program.stages for site in stage.regions for region in site]
    region[:, kernels.REGION_SITE] = region_site
    region[:, kernels.BURST_FLITS] = flits
    region[:, kernels.LATENCY] = latency
    region[:, kernels.OUT_ROUTE] = np.concatenate(routes.value)
    return units


def _units(plan: Plan, layers: int) -> Units:
    """All units at the start: the first row ahead, two credits for every sender of a residual."""
    count, stages = len(plan.units), layers + 1
    unit = np.zeros((count, kernels.UNIT_COLUMNS), np.int64)
    head_regions = stages + 1 + np.flatnonzero(plan.units[stages + 1 :, kernels.REGION_SITE] == 4 * layers)
    unit[[stages, *head_regions], kernels.ROW] = plan.rows[0, kernels.NEXT_WANTED]
    unit[:stages, kernels.CREDITS] = 2
    return Units(unit, np.zeros((3, count), np.int64), np.zeros(5, np.int64), np.zeros(len(plan.delay), np.int64))


def _check(program: Program, trace: ActivityTrace) -> None:
    """SimulationError unless the trace belongs to the program and can run on it."""
    config = program.weights.config
    rows, sites = trace.phases.shape
    if sites != len(config.sites) or trace.query_spikes.shape != (rows, config.layers, config.heads):
        raise SimulationError(f"the trace has {sites} sites and shape {trace.query_spikes.shape[1:]} of heads; it is of another network")
    tiles = [stage.vector_tile for stage in program.stages]
    tiles += [region.tile for stage in program.stages for site in stage.regions for region in site]
    for tile in set(tiles):
        if tile == 0 or tiles.count(tile) > 1:
            raise SimulationError(f"tile {tile} of the program holds more than one unit; compile the network again")
    if trace.prompt_tokens < rows and not trace.logits_wanted[trace.prompt_tokens - 1 : -1].all():
        raise SimulationError("a decoded token follows one whose logits were not wanted; the trace is not of a generation")
    ran = np.ones((rows, sites), bool)
    ran[:, -1] = trace.logits_wanted
    if not np.array_equal(trace.phases > 0, ran):
        raise SimulationError("the trace lacks the phases of a site that ran")


def simulate_timing(program: Program, trace: ActivityTrace, flits: list[NDArray[np.int64]] | None = None) -> TimingResult:
    """Cycle timing of a trace: prompt tokens stream through the stages, decoded ones wait for their predecessor's token.

    `flits` is given every injection and arrival in order of cycles, as rows of FlitLog.
    SimulationError if the trace is not of this program, or the mesh locks up (its routes are not XY trees).
    """
    _check(program, trace)
    layers = program.weights.config.layers
    plan, mesh = _plan(program, trace), noc.new_mesh(program)
    units = _units(plan, layers)
    cycle, limit, step, log = 0, 0, SLICE_CYCLES, None
    if flits is not None:
        step = max(SLICE_CYCLES // program.spec.topology.tiles, 1)
        log = FlitLog(np.zeros((2 * step * program.spec.topology.tiles, 4), np.int64), np.zeros(1, np.int64))
    begin(plan, units)
    while cycle == limit:  # in slices, so that an interruption is noticed
        limit += step
        cycle = run(plan, units, mesh, cycle, limit, log)
        if flits is not None and log is not None:
            flits.append(log.rows[: log.size[0]].copy())
            log.size[0] = 0
    if units.numbers[kernels.ENDED] < trace.tokens:
        raise SimulationError(f"the mesh is locked up at cycle {cycle}; compile the network again")
    stage, region = units.unit[1 : layers + 2], units.unit[layers + 2 :]
    waits = stage[:, [kernels.WAIT_RESIDUAL, kernels.WAIT_VALUES, kernels.WAIT_CREDIT]]
    return TimingResult(
        prompt_tokens=trace.prompt_tokens,
        token_end_cycle=units.token_end,
        flits=int(mesh.numbers[noc.FLITS]),
        flit_hops=int(mesh.numbers[noc.HOPS]),
        vector_busy_cycles=stage[:, kernels.LAST_END] - waits.sum(axis=1),
        synapse_read_cycles=region[:, kernels.READ],
        residual_wait_cycles=waits[:, 0],
        value_wait_cycles=waits[:, 1],
        credit_wait_cycles=units.unit[: layers + 2, kernels.WAIT_CREDIT],
        injection_stall_cycles=int(units.unit[:, kernels.WAIT_ROUTER].sum()),
        link_stall_cycles=int(mesh.numbers[noc.LINK_STALLS]),
    )
