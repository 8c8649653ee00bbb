"""Cycle timing of an activity trace on a program, exactly as docs/reference/timing.md defines it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.instruction import Cycles
from neuromorphic_llm.chip.instructions import Encode
from neuromorphic_llm.chip.program import Program, Region
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.simulation import noc
from neuromorphic_llm.simulation import timing_tables as tables
from neuromorphic_llm.simulation.timing_kernels import begin, run
from neuromorphic_llm.simulation.timing_tables import FlitLog, Plan, Units
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
    value_wait: NDArray[np.int64]  # [rows, stages], cycles waiting for the results of synapse tiles
    credit_wait: NDArray[np.int64]  # [rows, 1 + stages], host first: cycles without a free residual slot downstream
    injection_stall_cycles: int  # a unit had a flit and its router no room
    link_stall_cycles: int  # a router had a flit and the next one no room
    step_begin_cycle: NDArray[np.int64]  # [rows], of the host's step
    stage_end_cycle: NDArray[np.int64]  # [rows, stages], of a vector tile's work; 0 of a row that the head does not see
    site_begin_cycle: NDArray[np.int64]  # [rows, sites], of the work in front of a site's encoder
    site_end_cycle: NDArray[np.int64]  # [rows, sites], arrival of a site's last value
    stored_phases: NDArray[np.int64]  # [rows, regions], phases that wait in the axon memory of a tile

    @property
    def credit_wait_cycles(self) -> NDArray[np.int64]:
        """Cycles waiting for a credit, [1 + stages], host first."""
        waits: NDArray[np.int64] = self.credit_wait.sum(axis=0)
        return waits

    @property
    def value_wait_cycles(self) -> NDArray[np.int64]:
        """Cycles waiting for the results of synapse tiles, [stages]."""
        waits: NDArray[np.int64] = self.value_wait.sum(axis=0)
        return waits

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


def host_step_cycles(program: Program) -> int:
    """Cycles of the host's step for a token, until its first flit: the vector tile that it goes to wakes meanwhile."""
    spec = program.spec
    fetch = spec.host.latency + spec.host.dram_latency + -(-2 * program.weights.config.hidden_size // spec.host.dram_bytes_per_cycle)
    return max(fetch, spec.wake_wait)


def _delays(program: Program, trace: ActivityTrace) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(Plan.delay, Plan.finish, cycles [sites] of one phase's scan): sums over the instructions between two receives."""
    sites = len(program.weights.config.sites)
    delay, finish = np.zeros((trace.tokens, sites), np.int64), np.zeros((trace.tokens, len(program.stages)), np.int64)
    scan = np.zeros(sites, np.int64)
    for number, stage in enumerate(program.stages):
        since: Cycles = 0
        for instruction in stage.program:
            since = since + instruction.cycles(program.spec, trace)
            if isinstance(instruction, Encode):
                site = instruction.site.index
                scan[site] = instruction.scan(program.spec)
                delay[:, site] = np.maximum(since, program.spec.wake_wait - scan[site])
                since = 0
        finish[:, number] = since
    return delay, finish, scan


def _route_kinds(program: Program) -> NDArray[np.int64]:
    routes = program.routes
    kinds = np.full(len(program.route_sources), -1, np.int64)
    kinds[routes.spike] = tables.SPIKE
    for value in routes.value:
        kinds[value] = tables.VALUE
    kinds[routes.residual] = tables.RESIDUAL
    kinds[routes.credit] = tables.CREDIT
    kinds[routes.token] = tables.TOKEN
    return kinds


def _output_cycles(program: Program, region: Region) -> int:
    """Cycles from the end of a region's last phase to its first result."""
    synapse, epilogue = program.spec.synapse, program.weights.config.sites[region.site].epilogue
    comparison = -(-region.columns // synapse.argmax_lanes) if epilogue == "argmax" else 0
    return comparison + (synapse.gate_latency if epilogue == "gate" else synapse.output_latency)


def _row_table(trace: ActivityTrace) -> NDArray[np.int64]:
    """Plan.rows."""
    rows = np.zeros((trace.tokens + 1, 4), np.int64)
    wanted_rows, following = np.flatnonzero(trace.logits_wanted), tables.NO_ROW
    rows[trace.tokens, tables.NEXT_WANTED] = following
    for row in range(trace.tokens - 1, -1, -1):
        following = row if trace.logits_wanted[row] else following
        rows[row, tables.NEXT_WANTED] = following
    rows[:-1, tables.WANTED] = trace.logits_wanted
    decoded = slice(trace.prompt_tokens, trace.tokens)
    rows[decoded, tables.TOKENS_NEEDED] = np.cumsum(trace.logits_wanted)[trace.previous[decoded]]
    rows[: len(wanted_rows), tables.WANTED_ROW] = wanted_rows
    return rows


def _as_sent(spec: ChipSpec, events: NDArray[np.int64], phases: NDArray[np.int64]) -> NDArray[np.int64]:
    """Events [rows, sites, phases, row_blocks] in the order in which the phases [rows, sites] of every train are sent."""
    if not spec.least_significant_first:
        return events
    order = (phases[..., None] - 1 - np.arange(events.shape[2])) % events.shape[2]  # phases that a train does not have stay behind it
    return np.take_along_axis(events, order[..., None], axis=2)


def _reading_cycles(spec: ChipSpec, events: NDArray[np.int64], phases: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cycles of every phase in a synapse tile, [rows, sites, phases], from events as sent."""
    readout, circuit = spec.readout, spec.readout_circuit
    in_order = circuit.least_significant_first == spec.least_significant_first
    return circuit.phase_cycles(events, phases, readout.read_latency, readout.mux_cycles, in_order=in_order)


def _phase_work(spec: ChipSpec, trace: ActivityTrace) -> NDArray[np.int64]:
    """Plan.work."""
    readout, events, phases = spec.readout, trace.events.astype(np.int64), trace.phases.astype(np.int64)
    if spec.stamped:
        sent = events.sum(axis=(2, 3))[..., None]
        reading = spec.readout_circuit.train_cycles(events, readout.read_latency, readout.mux_cycles)[..., None]
    else:
        events = _as_sent(spec, events, phases)
        sent = events.sum(axis=3)
        reading = _reading_cycles(spec, events, phases)
    return np.stack([np.maximum(_ceil(sent, spec.flit_events), 1), reading], axis=3)


def _plan(program: Program, trace: ActivityTrace) -> Plan:
    spec, config, stages = program.spec, program.weights.config, len(program.stages)
    delay, finish, scan = _delays(program, trace)
    units = _unit_table(program)
    regions = units[stages + 1 :]
    tile_unit = np.full(spec.topology.tiles, -1, np.int64)
    tile_unit[units[:, tables.TILE]] = np.arange(len(units))
    sites = np.zeros((len(config.sites), 4), np.int64)
    sites[:, tables.SCAN] = scan
    np.add.at(sites[:, tables.VALUE_FLITS], regions[:, tables.FIRST_SITE], regions[:, tables.BURST_FLITS])
    sites[:, tables.SPIKE_ROUTE] = program.routes.spike
    sites[list(program.stages[-1].sites), tables.OF_HEAD] = 1
    row_flits = spec.noc.value_flits(config.hidden_size)
    return Plan(
        numbers=np.array([host_step_cycles(program), row_flits, stages], np.int64),
        rows=_row_table(trace),
        sites=sites,
        units=units,
        delay=delay,
        finish=finish,
        phases=trace.phases.astype(np.int64),
        work=_phase_work(spec, trace),
        halves=trace.halves * (spec.readout.read_latency + spec.readout.mux_cycles),
        tile_unit=tile_unit,
        route_kind=_route_kinds(program),
    )


def _unit_table(program: Program) -> NDArray[np.int64]:
    """Plan.units: host, vector tiles, regions."""
    routes, stages = program.routes, len(program.stages)
    regions = [region for stage in program.stages for site in stage.regions for region in site]
    units = np.zeros((1 + stages + len(regions), 7), np.int64)
    units[:stages, tables.OUT_ROUTE] = routes.residual
    units[:stages, tables.BURST_FLITS] = program.spec.noc.value_flits(program.weights.config.hidden_size)
    vector = units[1 : stages + 1]
    vector[:, tables.TILE] = [stage.vector_tile for stage in program.stages]
    vector[:, tables.FIRST_SITE] = [stage.sites[0] for stage in program.stages]
    vector[:, tables.LAST_SITE] = [stage.sites[-1] for stage in program.stages]
    vector[:, tables.CREDIT_ROUTE] = routes.credit
    vector[-1, tables.OUT_ROUTE], vector[-1, tables.BURST_FLITS] = routes.token, 1
    region = units[stages + 1 :]
    region[:, tables.TILE] = [each.tile for each in regions]
    region[:, [tables.FIRST_SITE, tables.LAST_SITE]] = [[each.site, each.site] for each in regions]
    region[:, tables.BURST_FLITS] = [program.result_flits(each) for each in regions]
    region[:, tables.LATENCY] = [_output_cycles(program, each) for each in regions]
    region[:, tables.OUT_ROUTE] = np.concatenate(routes.value)
    return units


def _units(plan: Plan, stages: int) -> Units:
    """Units at the start: the first row ahead, two credits for every sender of a residual."""
    count = len(plan.units)
    unit = np.zeros((count, tables.UNIT_COLUMNS), np.int64)
    of_head = plan.sites[plan.units[1:, tables.FIRST_SITE], tables.OF_HEAD] == 1
    unit[1:][of_head, tables.ROW] = plan.rows[0, tables.NEXT_WANTED]
    unit[:stages, tables.CREDITS] = 2
    rows, sites = plan.delay.shape
    work, credit_wait = (np.zeros((rows, 1 + stages), np.int64) for _ in range(2))
    lists, numbers, token_end = np.zeros((3, count), np.int64), np.zeros(5, np.int64), np.zeros(rows, np.int64)
    stored = np.zeros((rows, count - stages - 1), np.int64)
    return Units(unit, lists, numbers, token_end, work, credit_wait, np.zeros((rows, sites, 3), np.int64), stored)


def _check(program: Program, trace: ActivityTrace) -> None:
    """SimulationError unless the trace belongs to the program and can run on it."""
    config = program.weights.config
    rows, sites = trace.phases.shape
    if sites != len(config.sites) or trace.query_spikes.shape != (rows, config.layers, config.heads):
        raise SimulationError(f"the trace has {sites} sites and shape {trace.query_spikes.shape[1:]} of heads; it is of another network")
    for number, stage in enumerate(program.stages):
        if tuple(each.site.index for each in stage.program if isinstance(each, Encode)) != stage.sites:
            raise SimulationError(f"the instructions of stage {number} do not encode each of its sites in turn; compile the network again")
    tiles = [stage.vector_tile for stage in program.stages]
    tiles += [region.tile for stage in program.stages for site in stage.regions for region in site]
    for tile in set(tiles):
        if tile == 0 or tiles.count(tile) > 1:
            raise SimulationError(f"tile {tile} of the program holds more than one unit; compile the network again")
    previous = trace.previous[trace.prompt_tokens :]
    if (previous < 0).any() or not trace.logits_wanted[previous].all():
        raise SimulationError("a decoded token follows one whose logits were not wanted; the trace is not of a generation")
    ran = np.ones((rows, sites), bool)
    ran[:, list(program.stages[-1].sites)] = trace.logits_wanted[:, None]
    if not np.array_equal(trace.phases > 0, ran):
        raise SimulationError("the trace lacks the phases of a site that ran")


def simulate_timing(program: Program, trace: ActivityTrace, flits: list[NDArray[np.int64]] | None = None) -> TimingResult:
    """Cycle timing of a trace: prompt tokens stream through the stages, decoded ones wait until their sequence's last token is back.

    `flits` is given every injection and arrival in order of cycles, as rows of FlitLog.
    SimulationError if the trace is not of this program, or the mesh locks up (its routes are not XY trees).
    """
    _check(program, trace)
    stages = len(program.stages)
    plan, mesh = _plan(program, trace), noc.new_mesh(program)
    units = _units(plan, stages)
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
    if units.numbers[tables.ENDED] < trace.tokens:
        raise SimulationError(f"the mesh is locked up at cycle {cycle}; compile the network again")
    stage, region = units.unit[1 : stages + 1], units.unit[stages + 1 :]
    sites = units.site_work[..., tables.DONE] - units.site_work[..., tables.SENT]
    value_wait = np.stack([sites[:, list(each.sites)].sum(axis=1) for each in program.stages], axis=1)
    waits = stage[:, tables.WAIT_RESIDUAL] + value_wait.sum(axis=0) + units.credit_wait.sum(axis=0)[1:]
    return TimingResult(
        prompt_tokens=trace.prompt_tokens,
        token_end_cycle=units.token_end,
        flits=int(mesh.numbers[noc.FLITS]),
        flit_hops=int(mesh.numbers[noc.HOPS]),
        vector_busy_cycles=stage[:, tables.LAST_END] - waits,
        synapse_read_cycles=region[:, tables.READ],
        residual_wait_cycles=stage[:, tables.WAIT_RESIDUAL],
        value_wait=value_wait,
        credit_wait=units.credit_wait,
        injection_stall_cycles=int(units.unit[:, tables.WAIT_ROUTER].sum()),
        link_stall_cycles=int(mesh.numbers[noc.LINK_STALLS]),
        step_begin_cycle=units.work[:, 0],
        stage_end_cycle=units.work[:, 1:],
        site_begin_cycle=units.site_work[..., tables.BEGUN],
        site_end_cycle=units.site_work[..., tables.DONE],
        stored_phases=units.stored,
    )
