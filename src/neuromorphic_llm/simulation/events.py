"""Event-driven execution of a program, token by token: what the chip computes, bit for bit (docs/reference/numerics.md).

Every linear layer, the attention products and the head work on spikes: the work is proportional to their number.
"""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.devices.membrane import converts_as_membrane
from neuromorphic_llm.devices.readout import BlockReadout, Drive, Reading, horner_sum
from neuromorphic_llm.devices.reread import Reread
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.graph.plan import run_steps, stage_plans
from neuromorphic_llm.reference.build import engine_graph
from neuromorphic_llm.reference.fixed_point import check_int32
from neuromorphic_llm.simulation import crossbar_kernels, encoder_kernels
from neuromorphic_llm.simulation.attention_kernels import COUNTS
from neuromorphic_llm.simulation.event_operations import EVENT_OPERATIONS
from neuromorphic_llm.simulation.rereads import Rereads
from neuromorphic_llm.simulation.stamped import StampedTrains
from neuromorphic_llm.simulation.trace import ActivityTrace


@dataclass(frozen=True)
class SiteEvents:
    """One crossbar site's work on one token."""

    digits: NDArray[np.int8]  # [phases, inputs]
    exponent: int  # k_min
    accumulators: NDArray[np.int32]  # [outputs]


@dataclass
class TokenRecord:
    """Everything that parity tests compare, of one token."""

    sites: list[SiteEvents] = field(default_factory=list)
    hidden: list[NDArray[np.int32]] = field(default_factory=list)  # residual stream after each layer


@dataclass
class _TraceRow:
    context: int
    logits_wanted: bool
    phases: NDArray[np.int32]  # [sites]
    events: NDArray[np.int32]  # [sites, max_phases, max_row_blocks]
    repeats: NDArray[np.int64]  # [sites]
    rereads: NDArray[np.int64]  # [sites, 3]
    halves: NDArray[np.int64]  # [sites, max_phases]
    attention: NDArray[np.int32]  # [len(COUNTS), layers, heads]


def _reading(readout: BlockReadout, sums: NDArray[np.int32], drive: Drive) -> Reading:
    """Reading of the sums of the blocks of a site, [blocks, 1, outputs]."""
    if not converts_as_membrane(readout):
        return readout.read(sums.astype(np.int64), drive, np)
    exponents = np.broadcast_to(readout.exponents(drive, np)[:, 0], len(sums))
    total = np.zeros(sums.shape[2], np.int64)
    repeats = crossbar_kernels.read_membranes(sums[:, 0], exponents, drive.ranges, readout.converter_bits, readout.repeats, total)
    return Reading(total[None], np.array([repeats]))


class EventDecoder:
    """Runs a Program on one sequence and keeps its activity.

    `threads` is the number of threads for the large sites (default: all of the machine); results do not depend on it.
    With `record` every token's spikes and accumulators are kept in `records`. SimulationError if a site does not spike.
    """

    def __init__(self, program: Program, *, threads: int | None = None, record: bool = False) -> None:
        self.program = program
        weights, config = program.weights, program.weights.config
        available = int(numba.config.NUMBA_NUM_THREADS)
        if threads is not None and not 1 <= threads <= available:
            raise UsageError(f"threads must lie in 1..{available} on this machine, got {threads}")
        self.threads = threads or available
        self.position = 0
        self.records: list[TokenRecord] | None = [] if record else None
        self._rows: list[_TraceRow] = []
        code = weights.code.spike_code()
        self._code = encoder_kernels.CODES.get(code.name, -1)
        self._stamped = StampedTrains(program) if program.spec.stamped else None
        self._slots = self._stamped.slots if self._stamped else weights.code.phases
        self._horner_shift = code.horner_shift
        self._row_blocks = max(program.row_blocks(site) for site in range(len(config.sites)))
        self._rows_per_block = program.spec.synapse.rows
        # Levels of the cells, for readouts whose accumulators are no products of the weights.
        products = weights.readout.exact or isinstance(weights.readout, BlockReadout)
        self._levels = [] if products else [weights.readout.cell.levels(weight_t) for weight_t in program.weights_t]
        circuit = program.spec.readout_circuit
        self._rereads = Rereads(program, circuit) if isinstance(circuit, Reread) else None
        self._allocate()
        self._plans = stage_plans(self, engine_graph(weights), EVENT_OPERATIONS, np.copy)
        self._states = [plan.new_states(self) for plan in self._plans]

    def _allocate(self) -> None:
        inputs, phases = {site.inputs for site in self.program.weights.config.sites}, self.program.weights.code.phases
        self._digits = {n: np.zeros((phases, n), np.int8) for n in inputs}
        self._events = np.empty(phases * max(inputs) + 1, np.int32)
        self._bounds = np.empty((phases, 3), np.int64)
        self._block_events = np.empty((phases, 1), np.int32)  # of one row block

    def step(self, token: int, *, logits_wanted: bool = True) -> NDArray[np.int32] | None:
        """Process the next token; logits int32 [vocab] if wanted.

        UsageError if the token is outside the vocabulary, SimulationError if the context is full.
        """
        program = self.program
        weights, config = program.weights, program.weights.config
        if not 0 <= token < config.vocab_size:
            raise UsageError(f"token ids must lie in 0..{config.vocab_size - 1}, got {token}")
        if self.position >= program.max_context:
            raise SimulationError(f"the context of {program.max_context} tokens is full; shorten the prompt or ask for fewer tokens")
        self._row = _TraceRow(
            self.position + 1,
            logits_wanted,
            np.zeros(len(config.sites), np.int32),
            np.zeros((len(config.sites), self._slots, self._row_blocks), np.int32),
            np.zeros(len(config.sites), np.int64),
            np.zeros((len(config.sites), 3), np.int64),
            np.zeros((0 if self._rereads is None else self._rereads.regions, weights.code.phases), np.int64),
            np.zeros((len(COUNTS), config.layers, config.heads), np.int32),
        )
        if self.records is not None:
            self.records.append(TokenRecord())
        value: Any = token
        host, *layers, head = zip(self._plans, self._states, strict=True)
        for number, (plan, states) in enumerate((host, *layers)):
            value = run_steps(plan.steps, self, plan.parameters, states, value)
            if self.records is not None and number:
                self.records[-1].hidden.append(value.copy())
        logits = None
        if logits_wanted:
            plan, states = head
            logits = run_steps(plan.steps, self, plan.parameters, states, value)
        self._rows.append(self._row)
        self.position += 1
        return logits

    def accumulate(
        self, site: int, stop: NDArray[np.int32], weights_t: NDArray[np.int8], values: NDArray[np.int32]
    ) -> tuple[int, NDArray[np.int32]]:
        """Exponent k_min and accumulators [outputs] of the site with this index for its input `values`; its spikes are counted.

        stop: prices [inputs]; weights_t: weights [inputs, outputs].
        """
        if self._stamped is not None:
            return self._accumulate_stamped(self._stamped, site, stop, values)
        digits, row = self._digits[len(values)], self._row
        phases, exponent, spikes = encoder_kernels.encode_events(
            values, stop, self._code, self._rows_per_block, digits, self._events, self._bounds, row.events[site]
        )
        row.phases[site] = phases
        if self.program.weights.readout.exact:
            total = np.empty(weights_t.shape[1], np.int32)
            run = crossbar_kernels.accumulate
            if self.threads > 1 and spikes * len(total) >= crossbar_kernels.PARALLEL_GRAIN:
                numba.set_num_threads(self.threads)
                run = crossbar_kernels.accumulate_parallel
            run(weights_t, self._events, self._bounds, phases, self._horner_shift, total)
            if self._rereads is not None:
                own = self._rereads.of_site[site]
                row.halves[own, :phases], row.rereads[site], row.repeats[site] = self._rereads.count(site, digits[:phases])
        else:
            total = self._read_out(site, digits[:phases])
        if self.records is not None:
            self.records[-1].sites.append(SiteEvents(digits[:phases].copy(), exponent, total))
        return exponent, total

    def _accumulate_stamped(
        self, trains: StampedTrains, site: int, stop: NDArray[np.int32], values: NDArray[np.int32]
    ) -> tuple[int, NDArray[np.int32]]:
        """See accumulate; a stamped train is one phase."""
        readout, row = self.program.weights.readout, self._row
        assert isinstance(readout, BlockReadout)
        exponent, levels = trains.encode(values, stop, row.events[site])
        row.phases[site] = 1
        drive = Drive(np.array([trains.code.phases]), self._horner_shift, self.program.weights.site(site).ranges)
        read = _reading(readout, trains.block_sums(levels, self.program.weights_t[site], readout.block_rows), drive)
        total = self._checked(site, read)
        if self.records is not None:
            self.records[-1].sites.append(SiteEvents(trains.digits(levels), exponent, total))
        return exponent, total

    def _checked(self, site: int, read: Reading) -> NDArray[np.int32]:
        """Accumulators of a reading of a site, whose repeated conversions are counted."""
        self._row.repeats[site] = read.repeats[0]
        return check_int32(read.accumulators[0], self.program.weights.config.sites[site].name).astype(np.int32)

    def _read_out(self, site: int, digits: NDArray[np.int8]) -> NDArray[np.int32]:
        """Accumulators of a site whose readout is not exact, of digits [phases, inputs]."""
        weights = self.program.weights
        drive = Drive(np.array([len(digits)]), self._horner_shift, weights.site(site).ranges)
        if isinstance(weights.readout, BlockReadout):
            if weights.readout.squares:
                values = horner_sum(digits.astype(np.int64), self._horner_shift)[None]
                drive = replace(drive, energies=weights.readout.energies(values, np))
            read = _reading(weights.readout, self._block_sums(site, digits, weights.readout.block_rows), drive)
        else:
            read = weights.readout.accumulate_events(digits, self._levels[site], drive)
        return self._checked(site, read)

    def _block_sums(self, site: int, digits: NDArray[np.int8], rows: int) -> NDArray[np.int32]:
        """Integer products of the blocks of `rows` inputs of a site, [blocks, 1, outputs]."""
        weights_t = self.program.weights_t[site]
        sums = np.zeros((-(-len(weights_t) // rows), 1, weights_t.shape[1]), np.int32)
        for block, total in enumerate(sums[:, 0]):
            part = slice(block * rows, (block + 1) * rows)
            own = np.ascontiguousarray(digits[:, part])
            if encoder_kernels.collect_events(own, len(own), rows, self._events, self._bounds, self._block_events):
                crossbar_kernels.accumulate(weights_t[part], self._events, self._bounds, len(own), self._horner_shift, total)
        return sums

    def attention_counts(self, layer: int) -> NDArray[np.int32]:
        """Counts of a layer's attention for the token in work, int32 [len(COUNTS), heads], to be filled (trace)."""
        return self._row.attention[:, layer]

    def copy(self) -> EventDecoder:
        """Decoder of the same program that goes on from this one's state by itself."""
        other = copy(self)
        other._states, other._rows = deepcopy(self._states), list(self._rows)
        other.records = None if self.records is None else list(self.records)
        return other

    def trace(self, prompt_tokens: int) -> ActivityTrace:
        """The activity of all tokens processed so far, the first `prompt_tokens` of them as prefill."""
        rows = self._rows
        attention = np.stack([row.attention for row in rows])
        return ActivityTrace(
            prompt_tokens=prompt_tokens,
            sequence=np.zeros(len(rows), np.int32),
            context=np.array([row.context for row in rows], np.int32),
            logits_wanted=np.array([row.logits_wanted for row in rows]),
            phases=np.stack([row.phases for row in rows]),
            events=np.stack([row.events for row in rows]),
            repeats=np.stack([row.repeats for row in rows]),
            rereads=np.stack([row.rereads for row in rows]),
            halves=np.stack([row.halves for row in rows]),
            **{name: attention[:, number] for number, name in enumerate(COUNTS)},
        )
