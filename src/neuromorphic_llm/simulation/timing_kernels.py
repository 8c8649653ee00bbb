"""Host, vector tiles and synapse tiles of the timing simulation, compiled (docs/reference/timing.md).

Each unit waits for a flit, for a timer or for room in its router; between events only routers that hold flits are stepped.
"""

from __future__ import annotations

from neuromorphic_llm.simulation.noc import ACTIVE, ARRIVED, LOCAL, POPPED, PORTS, PUSHED, Mesh, arbitrate, commit, compiled, inject
from neuromorphic_llm.simulation.timing_tables import (
    AWAIT_CREDIT,
    AWAIT_RESIDUAL,
    AWAIT_VALUES,
    BEGUN,
    BURST_FLITS,
    BUSY_UNTIL,
    CREDIT,
    CREDIT_DUE,
    CREDIT_ROUTE,
    CREDITS,
    DONE,
    ENDED,
    FETCH,
    FINISH,
    FINISHED,
    FIRST_SITE,
    FLITS_OF_PHASE,
    HEAD,
    HOST_CYCLES,
    IDLE,
    INJECT,
    LAST_END,
    LAST_SITE,
    LATENCY,
    NEXT_WANTED,
    NO_ROW,
    OF_HEAD,
    OUT_ROUTE,
    PHASE,
    PUSHING,
    READ,
    READING,
    REMAINING,
    RESIDUAL_ARRIVED,
    RESIDUAL_FLITS,
    ROUTE,
    ROW,
    SCAN,
    SENDING,
    SENT,
    SINCE,
    SITE,
    SPIKE,
    SPIKE_ROUTE,
    STATE,
    TILE,
    TIMERS,
    TOKEN,
    TOKENS,
    TOKENS_NEEDED,
    UNIT_BITS,
    VALUE,
    VALUE_FLITS,
    VALUES_ARRIVED,
    WAIT_RESIDUAL,
    WAIT_ROUTER,
    WANTED,
    WANTED_ROW,
    FlitLog,
    Plan,
    Units,
)


@compiled
def _set_timer(units: Units, unit: int, cycle: int) -> None:
    """Wake a unit at the start of a cycle; binary heap, a unit has one timer at most."""
    heap = units.lists[TIMERS]
    place = units.numbers[TIMERS]
    units.numbers[TIMERS] += 1
    key = cycle << UNIT_BITS | unit
    while place > 0 and heap[(place - 1) >> 1] > key:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    heap[place] = key


@compiled
def _take_timer(units: Units) -> int:
    """Remove the earliest timer and return its unit."""
    heap = units.lists[TIMERS]
    earliest = heap[0]
    units.numbers[TIMERS] -= 1
    size = units.numbers[TIMERS]
    key = heap[size]
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key
    return int(earliest & (1 << UNIT_BITS) - 1)


@compiled
def _start_pushing(units: Units, unit: int) -> None:
    units.lists[PUSHING, units.numbers[PUSHING]] = unit
    units.numbers[PUSHING] += 1


@compiled
def _push_flits(units: Units, unit: int, route: int, flits: int) -> None:
    """Let a unit push flits from this cycle on."""
    units.unit[unit, ROUTE] = route
    units.unit[unit, REMAINING] = flits
    if units.unit[unit, CREDIT_DUE] == 0:
        _start_pushing(units, unit)


@compiled
def _receive_residual(plan: Plan, units: Units, unit: int, cycle: int) -> None:
    """Begin `receive residual` at a cycle."""
    units.unit[unit, SINCE] = cycle
    units.unit[unit, STATE] = AWAIT_RESIDUAL
    if units.unit[unit, RESIDUAL_ARRIVED] >= plan.numbers[RESIDUAL_FLITS]:
        _residual_received(plan, units, unit, cycle)


@compiled
def _residual_received(plan: Plan, units: Units, unit: int, cycle: int) -> None:
    """End `receive residual` at a cycle: the slot is free again; begin the first site."""
    units.unit[unit, WAIT_RESIDUAL] += cycle - units.unit[unit, SINCE]
    units.unit[unit, RESIDUAL_ARRIVED] -= plan.numbers[RESIDUAL_FLITS]
    if units.unit[unit, CREDIT_DUE] == 0 and units.unit[unit, REMAINING] == 0:
        _start_pushing(units, unit)
    units.unit[unit, CREDIT_DUE] += 1
    units.unit[unit, SITE] = plan.units[unit, FIRST_SITE]
    _begin_site(plan, units, unit, cycle)


@compiled
def _begin_site(plan: Plan, units: Units, unit: int, cycle: int) -> None:
    """Compute up to the encoder's maximum, scan the first phase, and wake at its end."""
    row, site = units.unit[unit, ROW], units.unit[unit, SITE]
    units.site_work[row, site, BEGUN] = cycle
    units.unit[unit, PHASE] = 0
    units.unit[unit, BUSY_UNTIL] = cycle + plan.delay[row, site] + plan.sites[site, SCAN]
    units.unit[unit, STATE] = INJECT
    _set_timer(units, unit, units.unit[unit, BUSY_UNTIL])


@compiled
def _inject_phase(plan: Plan, units: Units, unit: int) -> None:
    """Begin the injection of a phase; if both banks were free the scan of the next one has begun at the end of its own."""
    row, site, phase = units.unit[unit, ROW], units.unit[unit, SITE], units.unit[unit, PHASE]
    if phase == 0:
        units.unit[unit, BUSY_UNTIL] += plan.sites[site, SCAN]
    _push_flits(units, unit, plan.sites[site, SPIKE_ROUTE], plan.work[row, site, phase, FLITS_OF_PHASE])


@compiled
def _phase_injected(plan: Plan, units: Units, unit: int, cycle: int) -> None:
    """End the injection of a phase at a cycle. `scan_end` is that of the next phase; its bank's successor may be scanned now."""
    row, site = units.unit[unit, ROW], units.unit[unit, SITE]
    units.unit[unit, PHASE] += 1
    if units.unit[unit, PHASE] < plan.phases[row, site]:
        start = max(units.unit[unit, BUSY_UNTIL], cycle)
        units.unit[unit, BUSY_UNTIL] = start + plan.sites[site, SCAN]
        _set_timer(units, unit, start)
        return
    units.unit[unit, STATE] = AWAIT_VALUES
    units.site_work[row, site, SENT] = cycle
    if units.unit[unit, VALUES_ARRIVED] >= plan.sites[site, VALUE_FLITS]:
        _values_received(plan, units, unit, cycle)


@compiled
def _values_received(plan: Plan, units: Units, unit: int, cycle: int) -> None:
    """End the `receive` of a site's results at a cycle and begin what follows."""
    site = units.unit[unit, SITE]
    units.site_work[units.unit[unit, ROW], site, DONE] = cycle
    units.unit[unit, VALUES_ARRIVED] -= plan.sites[site, VALUE_FLITS]
    if site < plan.units[unit, LAST_SITE]:
        units.unit[unit, SITE] += 1
        _begin_site(plan, units, unit, cycle)
    else:
        units.unit[unit, STATE] = FINISH
        _set_timer(units, unit, cycle + plan.finish[units.unit[unit, ROW], unit - 1])


@compiled
def _send(plan: Plan, units: Units, unit: int, cycle: int) -> None:
    """Begin `send-token`, or `send` of the residual (or of the embedding row, by the host), if there is a credit."""
    if unit != plan.numbers[HEAD]:
        if units.unit[unit, CREDITS] == 0:
            units.unit[unit, STATE] = AWAIT_CREDIT
            units.unit[unit, SINCE] = cycle
            return
        units.unit[unit, CREDITS] -= 1
    units.unit[unit, STATE] = SENDING
    _push_flits(units, unit, plan.units[unit, OUT_ROUTE], plan.units[unit, BURST_FLITS])


@compiled
def _begin_step(plan: Plan, units: Units, cycle: int) -> None:
    """Begin the host's step for its row at a cycle."""
    units.work[units.unit[0, ROW], 0] = cycle
    units.unit[0, STATE] = FETCH
    _set_timer(units, 0, cycle + plan.numbers[HOST_CYCLES])


@compiled
def _row_done(plan: Plan, units: Units, unit: int, cycle: int) -> None:
    """The unit's work on its row ends at a cycle; go on with the next one."""
    rows = len(plan.delay)
    row = units.unit[unit, ROW]
    units.unit[unit, LAST_END] = cycle
    if unit > 0:
        units.work[row, unit] = cycle
    if unit == plan.numbers[HEAD] - 1 and not plan.rows[row, WANTED]:
        units.token_end[row] = cycle
        units.numbers[ENDED] += 1
    units.unit[unit, ROW] = plan.rows[row + 1, NEXT_WANTED] if unit == plan.numbers[HEAD] else row + 1
    if units.unit[unit, ROW] == NO_ROW or units.unit[unit, ROW] == rows:
        units.unit[unit, STATE] = IDLE
    elif unit > 0:
        _receive_residual(plan, units, unit, cycle)
    elif units.numbers[TOKENS] >= plan.rows[units.unit[0, ROW], TOKENS_NEEDED]:
        _begin_step(plan, units, cycle)
    else:
        units.unit[0, STATE] = IDLE


@compiled
def _wake(plan: Plan, units: Units, unit: int, cycle: int) -> None:
    """A unit's timer is due at the start of this cycle."""
    state = units.unit[unit, STATE]
    if unit > plan.numbers[HEAD]:
        _push_flits(units, unit, plan.units[unit, OUT_ROUTE], plan.units[unit, BURST_FLITS])
    elif state == INJECT:
        _inject_phase(plan, units, unit)
    elif state == FINISH and unit == plan.numbers[HEAD] - 1 and not plan.rows[units.unit[unit, ROW], WANTED]:
        _row_done(plan, units, unit, cycle)
    else:
        _send(plan, units, unit, cycle)


@compiled
def _phase_arrived(plan: Plan, units: Units, unit: int, cycle: int) -> None:
    """The last flit of a phase is in a synapse tile's axon memory at the start of this cycle."""
    row, phase, site = units.unit[unit, ROW], units.unit[unit, PHASE], plan.units[unit, FIRST_SITE]
    reading = plan.work[row, site, phase, READING]
    if plan.halves.shape[1] > 0:
        reading += plan.halves[row, unit - (len(plan.units) - plan.halves.shape[1]), phase]
    if units.unit[unit, BUSY_UNTIL] > cycle:
        units.stored[row, unit - (len(plan.units) - units.stored.shape[1])] += 1
    units.unit[unit, BUSY_UNTIL] = max(cycle, units.unit[unit, BUSY_UNTIL]) + reading
    units.unit[unit, READ] += reading
    units.unit[unit, PHASE] += 1
    if units.unit[unit, PHASE] == plan.phases[row, site]:
        units.unit[unit, PHASE] = 0
        units.unit[unit, ROW] = plan.rows[row + 1, NEXT_WANTED] if plan.sites[site, OF_HEAD] else row + 1
        _set_timer(units, unit, units.unit[unit, BUSY_UNTIL] + plan.units[unit, LATENCY])


@compiled
def _token_arrived(plan: Plan, units: Units, cycle: int) -> None:
    """The host has a token, for whose step it may have waited."""
    units.token_end[plan.rows[units.numbers[TOKENS], WANTED_ROW]] = cycle
    units.numbers[TOKENS] += 1
    units.numbers[ENDED] += 1
    row = units.unit[0, ROW]
    if units.unit[0, STATE] == IDLE and row < len(plan.delay) and units.numbers[TOKENS] >= plan.rows[row, TOKENS_NEEDED]:
        _begin_step(plan, units, cycle)


@compiled
def _arrive(plan: Plan, units: Units, tile: int, flit: int, cycle: int) -> None:
    """A flit left a router through its local port in the cycle before this one."""
    route = flit >> 1
    kind = plan.route_kind[route]
    if kind == SPIKE:
        if flit & 1:
            _phase_arrived(plan, units, plan.tile_unit[tile], cycle)
        return
    if kind == TOKEN:
        _token_arrived(plan, units, cycle)
        return
    unit = plan.tile_unit[tile]
    if kind == CREDIT:
        units.unit[unit, CREDITS] += 1
        if units.unit[unit, STATE] == AWAIT_CREDIT:
            units.credit_wait[units.unit[unit, ROW], unit] = cycle - units.unit[unit, SINCE]
            _send(plan, units, unit, cycle)
    elif kind == VALUE:
        units.unit[unit, VALUES_ARRIVED] += 1
        if units.unit[unit, STATE] == AWAIT_VALUES and units.unit[unit, VALUES_ARRIVED] == plan.sites[units.unit[unit, SITE], VALUE_FLITS]:
            _values_received(plan, units, unit, cycle)
    else:
        units.unit[unit, RESIDUAL_ARRIVED] += 1
        if units.unit[unit, STATE] == AWAIT_RESIDUAL and units.unit[unit, RESIDUAL_ARRIVED] == plan.numbers[RESIDUAL_FLITS]:
            _residual_received(plan, units, unit, cycle)


@compiled
def _push_all(plan: Plan, units: Units, mesh: Mesh) -> int:
    """Every unit that wants to pushes one flit, credits first; lists the units whose burst ended and returns their number."""
    kept = 0
    finished = 0
    for entry in range(units.numbers[PUSHING]):
        unit = units.lists[PUSHING, entry]
        credit = units.unit[unit, CREDIT_DUE] > 0
        if credit:
            flit = 2 * plan.units[unit, CREDIT_ROUTE]
        else:
            flit = 2 * units.unit[unit, ROUTE] + (units.unit[unit, REMAINING] == 1)
        if not inject(mesh, plan.units[unit, TILE], flit):
            units.unit[unit, WAIT_ROUTER] += 1
        elif credit:
            units.unit[unit, CREDIT_DUE] -= 1
        else:
            units.unit[unit, REMAINING] -= 1
            if units.unit[unit, REMAINING] == 0:
                units.lists[FINISHED, finished] = unit
                finished += 1
        if units.unit[unit, CREDIT_DUE] > 0 or units.unit[unit, REMAINING] > 0:
            units.lists[PUSHING, kept] = unit
            kept += 1
    units.numbers[PUSHING] = kept
    return finished


@compiled
def _log_moves(mesh: Mesh, log: FlitLog, cycle: int) -> None:
    """Append this cycle's injections and arrivals, before `commit`."""
    size = log.size[0]
    for arrival in range(2):
        kind = ARRIVED if arrival else PUSHED
        for entry in range(mesh.numbers[kind]):
            place, flit = mesh.moves[kind, entry, 0], mesh.moves[kind, entry, 1]
            if not arrival and place % PORTS != LOCAL:
                continue  # on a link
            log.rows[size, 0] = cycle
            log.rows[size, 1] = place if arrival else place // PORTS
            log.rows[size, 2] = flit
            log.rows[size, 3] = arrival
            size += 1
    log.size[0] = size


@compiled
def begin(plan: Plan, units: Units) -> None:
    """Cycle 0: every vector tile waits for its first residual, the host begins its first step."""
    for unit in range(1, plan.numbers[HEAD] + 1):
        if units.unit[unit, ROW] != NO_ROW:
            _receive_residual(plan, units, unit, 0)
    _begin_step(plan, units, 0)


@compiled
def run(plan: Plan, units: Units, mesh: Mesh, cycle: int, limit: int, log: FlitLog | None) -> int:
    """Simulate from a cycle on until nothing is left to happen, or until `limit`; the cycle reached (below `limit` if nothing is left).

    Without a `log` the branch that fills it is not compiled.
    """
    while cycle < limit:
        if mesh.numbers[ACTIVE] == 0 and units.numbers[PUSHING] == 0:
            if units.numbers[TIMERS] == 0:
                return cycle
            cycle = min(max(cycle, units.lists[TIMERS, 0] >> UNIT_BITS), limit)
            if cycle == limit:
                break
        while units.numbers[TIMERS] > 0 and units.lists[TIMERS, 0] >> UNIT_BITS <= cycle:
            _wake(plan, units, _take_timer(units), cycle)
        arbitrate(mesh)
        finished = _push_all(plan, units, mesh)
        moved = mesh.numbers[PUSHED] + mesh.numbers[POPPED] + mesh.numbers[ARRIVED]
        if moved == 0 and units.numbers[TIMERS] == 0:
            return cycle  # flits that no router can move: the caller finds rows that did not end
        if log is not None:
            _log_moves(mesh, log, cycle)
        arrived = mesh.numbers[ARRIVED]
        commit(mesh)
        cycle += 1
        for entry in range(arrived):
            _arrive(plan, units, mesh.moves[ARRIVED, entry, 0], mesh.moves[ARRIVED, entry, 1], cycle)
        for entry in range(finished):
            unit = units.lists[FINISHED, entry]
            if unit > plan.numbers[HEAD]:
                continue
            if units.unit[unit, STATE] == INJECT:
                _phase_injected(plan, units, unit, cycle)
            else:
                _row_done(plan, units, unit, cycle)
    return cycle
