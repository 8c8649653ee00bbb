"""Flits of a run with their bits: what the log of the timing simulation leaves out (docs/reference/rtl/index.md, Flits)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.topology import HOST_TILE
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.reference.decoder import Record
from neuromorphic_llm.reference.gate import gated_product
from neuromorphic_llm.rtl.recorded import Run
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog

Flits = tuple[NDArray[np.int32], NDArray[np.int64]]
"""Words [flits, 4] of the flits of a route in order, {route, flag, tag} and the halves of the payload, and the token of each."""


def flit_channels(run: Run) -> Iterator[tuple[int, str, NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]]:
    """(tile, signal, tokens, words, cycles) of what every tile injects and of what arrives there, and of the host's tokens."""
    program, log, contents = run.program, run.flits, _contents(run)
    words, rows = np.zeros((len(log), 4), np.int32), np.zeros(len(log), np.int64)
    for arrival in (0, 1):
        for route in np.unique(log[:, 2] >> 1):
            here = (log[:, 3] == arrival) & (log[:, 2] >> 1 == route)
            for tile in np.unique(log[here, 1]):
                places = np.flatnonzero(here & (log[:, 1] == tile))
                flits, of_token = contents[int(route)]
                if not len(flits):  # a credit, as many as there are
                    words[places, 0], rows[places] = int(route) << 17, np.arange(len(places))
                elif len(flits) != len(places):
                    raise SimulationError(f"route {route}: {len(places)} flits by the timing simulation, {len(flits)} by the values")
                else:
                    words[places], rows[places] = flits, of_token
    for tile in range(program.spec.topology.tiles):
        for arrival, signal in enumerate(("inject", "arrive")):
            places = np.flatnonzero((log[:, 1] == tile) & (log[:, 3] == arrival))
            yield tile, signal, rows[places], words[places], log[places, 0]
    places = np.flatnonzero((log[:, 3] == 1) & (log[:, 2] >> 1 == program.routes.token))
    token = np.zeros((len(places), 4), np.int32)
    token[:, 0], token[:, 1] = run.chosen, run.sequence[run.logits_wanted]
    yield HOST_TILE, "token", rows[places], token, log[places, 0]


def _flits(
    route: int, flag: NDArray[np.integer], tag: NDArray[np.integer], low: NDArray[np.integer], high: NDArray[np.integer]
) -> NDArray[np.int32]:
    words = np.zeros((len(tag), 4), np.int64)
    words[:, 0], words[:, 1], words[:, 2] = route << 17 | flag << 16 | tag, low, high
    return words.astype(np.int32)


def _contents(run: Run) -> dict[int, Flits]:
    """Route -> flits; none for credits, of which the log has the number."""
    program, record = run.program, run.record
    weights, config, routes = program.weights, program.weights.config, program.routes
    every, with_logits = np.arange(len(run.tokens)), np.flatnonzero(run.logits_wanted)
    contents: dict[int, Flits] = {int(route): (np.zeros((0, 4), np.int32), np.zeros(0, np.int64)) for route in routes.credit}
    for stage in program.stages:
        for site, regions in zip(stage.sites, stage.regions, strict=True):
            head = site == config.head.index
            rows = with_logits if head else every
            spikes = _stamped if program.spec.stamped else _spikes
            contents[int(routes.spike[site])] = spikes(program, record, site, rows)
            values = record.sites[site].output
            assert values is not None
            if config.sites[site].epilogue == "gate":
                values = gated_product(values, weights.formats.gate, weights.layers[config.sites[site].stage].hidden_fraction)
            for number, (region, route) in enumerate(zip(regions, routes.value[site], strict=True)):
                part = values[rows, region.first_output : region.first_output + region.outputs]
                if head:
                    best = part.argmax(axis=1)
                    tag = np.full(len(rows), number)
                    words = _flits(int(route), 0 * tag, tag, part[np.arange(len(rows)), best], region.first_output + best)
                    contents[int(route)] = words, rows
                else:
                    contents[int(route)] = _vectors(int(route), part, rows, np.full(len(rows), region.first_output), 2)
    embedding = weights.embedding[np.asarray(run.tokens)].astype(np.int64) << weights.formats.embedding_shift
    for number, stream in enumerate((embedding, *record.hidden)):
        rows = with_logits if number == config.layers else every
        tag = run.logits_wanted[rows].astype(np.int64) << 15 | run.sequence[rows]
        contents[int(routes.residual[number])] = _vectors(int(routes.residual[number]), stream[rows], rows, tag, 0)
    none = np.zeros(len(with_logits), np.int64)
    contents[routes.token] = _flits(routes.token, none, run.sequence[with_logits], np.asarray(run.chosen), none), with_logits
    return contents


def _vectors(route: int, values: NDArray[np.integer], rows: NDArray[np.int64], first_tag: NDArray[np.int64], step: int) -> Flits:
    """Two values per flit of values [rows, elements], tags by `step` from the first one on; the last of an odd number is flagged."""
    count, size = values.shape
    pairs = np.zeros((count, (size + 1) // 2 * 2), np.int64)
    pairs[:, :size] = values
    pairs = pairs.reshape(count, -1, 2)
    flag = np.zeros(pairs.shape[:2], np.int64)
    flag[:, -1] = size % 2
    tag = first_tag[:, None] + step * np.arange(pairs.shape[1])
    low, high = pairs[:, :, 0].reshape(-1), pairs[:, :, 1].reshape(-1)
    return _flits(route, flag.reshape(-1), tag.reshape(-1), low, high), np.repeat(rows, pairs.shape[1])


def _stamped(program: Program, record: Record, site: int, rows: NDArray[np.int64]) -> Flits:
    """Flits of the stamped trains of a site."""
    held, route = program.spec.flit_events, int(program.routes.spike[site])
    train, code = record.sites[site].train, program.weights.code.spike_code()
    assert train is not None and isinstance(code, FirstSpikeLog)
    parts, owners = [], []
    for row in rows:
        pulses = code.slot_pulses(train.digits[:, row])
        place = np.flatnonzero(pulses.any(axis=0))
        slots = np.abs(pulses[:, place]).argmax(axis=0)
        events = np.zeros((max(-(-len(place) // held), 1), held), np.int64)
        events.reshape(-1)[: len(place)] = (pulses[slots, place] < 0).astype(np.int64) << 20 | slots << 14 | place
        payload = (events << 21 * np.arange(held)).sum(axis=1)
        flag = (np.arange(len(events)) == len(events) - 1).astype(np.int64)
        count = np.minimum(len(place) - held * np.arange(len(events)), held)
        tag = int(train.exponent[row]) | 1 << 5 | count << 6
        parts.append(_flits(route, flag, tag, payload & 0xFFFFFFFF, payload >> 32))
        owners.append(np.full(len(events), row))
    return np.concatenate(parts), np.concatenate(owners)


def _spikes(program: Program, record: Record, site: int, rows: NDArray[np.int64]) -> Flits:
    """Flits of every phase of a site, in the order in which phases are sent, `events_per_flit` events each and at least one."""
    each, route = program.spec.noc.events_per_flit, int(program.routes.spike[site])
    train = record.sites[site].train
    assert train is not None
    parts, owners = [], []
    for row in rows:
        phases = int(train.phases[row])
        digits = train.digits[-phases:, row][:: -1 if program.spec.least_significant_first else 1]
        phase, place = np.nonzero(digits)
        counts = np.bincount(phase, minlength=phases)
        flits = np.maximum(-(-counts // each), 1)
        first = np.cumsum(flits) - flits
        number = np.arange(len(phase)) - (np.cumsum(counts) - counts)[phase]  # of the event in its phase
        events = np.zeros((int(flits.sum()), 4), np.int64)
        events[first[phase] + number // each, number % each] = 0x8000 | (digits[phase, place] < 0) << 14 | place
        flag, tag = np.zeros(len(events), np.int64), np.full(len(events), int(train.exponent[row]))
        flag[first + flits - 1] = 1
        tag[first[-1] :] |= 1 << 5
        parts.append(_flits(route, flag, tag, events[:, 0] | events[:, 1] << 16, events[:, 2] | events[:, 3] << 16))
        owners.append(np.full(len(events), row))
    return np.concatenate(parts), np.concatenate(owners)
