"""Tables of the timing simulation: its plan, and the state of its units.

Units are numbered: 0 the host, 1 + s the vector tile of stage s, then the regions. The tables are few and have named columns, because
compiled functions pass every array of a tuple by value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SPIKE, VALUE, RESIDUAL, CREDIT, TOKEN = range(5)
"""Kinds of traffic on a route."""

IDLE, FETCH, AWAIT_RESIDUAL, AWAIT_VALUES, INJECT, FINISH, AWAIT_CREDIT, SENDING = range(8)
"""States of a unit; FETCH, INJECT (between injections) and FINISH (what comes before `send`) have a timer."""

NO_ROW = -1

HOST_CYCLES, RESIDUAL_FLITS, HEAD = range(3)
"""Entries of Plan.numbers: cycles of a step up to the first flit of the embedding row, flits of a vector, unit of the last stage."""

WANTED, NEXT_WANTED, TOKENS_NEEDED, WANTED_ROW = range(4)
"""Columns of Plan.rows: logits wanted, first row from here on with logits wanted (or NO_ROW), tokens that have come back to the host when
it begins the row's step, n-th wanted row."""

SCAN, VALUE_FLITS, SPIKE_ROUTE, OF_HEAD = range(4)
"""Columns of Plan.sites: cycles of one phase's scan, flits of the results of all regions, route, 1 in the last stage."""

TILE, FIRST_SITE, LAST_SITE, BURST_FLITS, LATENCY, OUT_ROUTE, CREDIT_ROUTE = range(7)
"""Columns of Plan.units: sites of the unit; flits of a result or residual vector, cycles before them, their route; route of credits."""

FLITS_OF_PHASE, READING = range(2)
"""Last axis of Plan.work: flits of a phase, cycles of a phase in a synapse tile."""


class Plan(NamedTuple):
    """Plan of the simulation: the program and the trace as cycles and flits."""

    numbers: NDArray[np.int64]
    rows: NDArray[np.int64]  # [rows + 1, 4]
    sites: NDArray[np.int64]  # [sites, 4]
    units: NDArray[np.int64]  # [units, 7]
    delay: NDArray[np.int64]  # [rows, sites], from the receive before a site to its first scan, maximum pass included
    finish: NDArray[np.int64]  # [rows, stages], from the last receive of a stage to its send
    phases: NDArray[np.int64]  # [rows, sites]
    work: NDArray[np.int64]  # [rows, sites, phases, 2]
    halves: NDArray[np.int64]  # [rows, regions, phases], cycles of a phase beyond READING; no regions unless reads have halves
    tile_unit: NDArray[np.int64]  # [tiles], -1 where there is none
    route_kind: NDArray[np.int64]  # [routes]


STATE, ROW, SITE, PHASE, REMAINING, ROUTE, CREDITS, CREDIT_DUE = range(8)
RESIDUAL_ARRIVED, VALUES_ARRIVED, BUSY_UNTIL, SINCE, LAST_END, READ = range(8, 14)
"""Columns of Units.unit: trace row, site and phase in work; flits still to push and their route; credits of the next stage's slots,
credit flits still to push; flits arrived; end of the latest scan (or phase, in a synapse tile); begin of the present wait for residual
or credit; end of the latest row; cycles in which a synapse tile reads. WAIT + n: cycles waiting for residual, room in the router."""

WAIT = READ + 1
WAIT_RESIDUAL, WAIT_ROUTER = range(WAIT, WAIT + 2)
UNIT_COLUMNS = WAIT + 2

UNIT_BITS = 20

TIMERS, PUSHING, FINISHED, TOKENS, ENDED = range(5)
"""Entries of Units.numbers: lengths of the lists (timers as `cycle << UNIT_BITS | unit`, units that want to push, units whose last
flit of a burst was pushed in this cycle), tokens arrived at the host, rows ended."""


class FlitLog(NamedTuple):
    """Flits as they are injected and arrive."""

    rows: NDArray[np.int64]  # [capacity, 4]: cycle, tile, flit, 1 of an arrival
    size: NDArray[np.int64]  # [1]


BEGUN, SENT, DONE = range(3)
"""Last axis of Units.site_work."""


class Units(NamedTuple):
    """State of the units, the end of every row, and when units worked on it."""

    unit: NDArray[np.int64]  # [units, UNIT_COLUMNS]
    lists: NDArray[np.int64]  # [3, units]
    numbers: NDArray[np.int64]
    token_end: NDArray[np.int64]  # [rows]
    work: NDArray[np.int64]  # [rows, 1 + stages]: begin of the host's step, end of each vector tile's work
    credit_wait: NDArray[np.int64]  # [rows, 1 + stages], host first: cycles in which the row waits for a free slot downstream
    site_work: NDArray[np.int64]  # [rows, sites, 3]: begin of the work in front of a site's encoder, last injection, last value
    stored: NDArray[np.int64]  # [rows, regions], phases that wait in the axon memory until the tile is idle
