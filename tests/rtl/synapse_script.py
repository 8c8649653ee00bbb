"""Spike trains for a synapse tile, and what the integer reference and timing.md say of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.devices.membrane import Membrane
from neuromorphic_llm.devices.reread import Reread
from neuromorphic_llm.reference.gate import gated_product
from neuromorphic_llm.reference.linear import linear_events, read_out, scale_output
from neuromorphic_llm.reference.weights import LinearWeights
from neuromorphic_llm.rtl.bench import Bench, pack
from neuromorphic_llm.rtl.synapse import Epilogue, RegionLoad, interleave, synapse_writes
from neuromorphic_llm.spikes.code import SpikeCode, SpikeTrain
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog

Integers = NDArray[np.int64]

COUNTERS = (
    "events",
    "crossbar_reads",
    "row_drives",
    "cell_reads",
    "conversions",
    "repeated_conversions",
    "integrations",
    "halvings",
    "output_values",
    "gate_operations",
    "maximum_elements",
    "axon_bits_read",
    "output_parameter_bits_read",
    "slot_matches",
    "read_cycles",
)


TOKENS = 20
"""Tokens of a train coded at once."""


@dataclass(frozen=True)
class Region:
    """A random region; `site` has its weights in the reference's order, gate stacked on up."""

    spec: ChipSpec
    site: LinearWeights
    code: SpikeCode
    epilogue: Epilogue
    route: int
    first: int
    number: int
    gate_fraction: int
    hidden_fraction: int

    @property
    def inputs(self) -> int:
        return int(self.site.weight.shape[1])

    @property
    def columns(self) -> int:
        return int(self.site.weight.shape[0])

    def order(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of outputs in the order of the tile's columns."""
        return interleave(rows) if self.epilogue == Epilogue.GATE else rows

    def load(self) -> RegionLoad:
        site = self.site
        return RegionLoad(
            weight=self.order(site.weight).T,
            multiplier=self.order(site.multiplier),
            bias=None if site.bias is None else self.order(site.bias),
            output_shift=site.shift,
            horner_shift=self.code.horner_shift,
            epilogue=self.epilogue,
            route=self.route,
            first_output=self.first,
            first_token=self.first,
            region=self.number,
            gate_fraction=self.gate_fraction,
            hidden_fraction=self.hidden_fraction,
            ranges=None if site.ranges is None else self.order(site.ranges.T).T,
            least_range=0 if site.ranges is None else int(site.ranges.min()),
            **self.slots(),
        )

    def slots(self) -> dict[str, int]:
        """Last slot of a stamped train, and the octaves that it spans; none of trains of phases."""
        stamped = isinstance(self.code, FirstSpikeLog)
        return {"last_slot": len(self.code.levels) - 1, "octaves": self.code.phases - 1} if stamped else {}

    def readings(self, train: SpikeTrain) -> tuple[Integers, Integers]:
        """Accumulators [tokens, columns], and repeated conversions [tokens]."""
        if isinstance(self.spec.readout_circuit, Membrane):
            return read_out(train, self.site, self.spec.readout_circuit, "a region")
        return linear_events(train, self.site), np.zeros(train.digits.shape[1], np.int64)

    def values(self, accumulators: Integers, exponent: NDArray[np.int32]) -> Integers:
        """Values of the region, [tokens, ..]: scaled columns, gated products, or largest value and index."""
        scaled = scale_output(accumulators, exponent, self.site)
        if self.epilogue == Epilogue.GATE:
            return gated_product(scaled, self.gate_fraction, self.hidden_fraction)
        if self.epilogue == Epilogue.ARGMAX:
            return np.stack([scaled.max(axis=1), scaled.argmax(axis=1) + self.first], axis=1)
        return scaled


def random_region(
    spec: ChipSpec,
    inputs: int,
    columns: int,
    code: SpikeCode,
    epilogue: Epilogue,
    rng: np.random.Generator,
    shift: int = 12,
    bias: bool = True,
) -> Region:
    """Weights over the whole range, some columns extreme; biases large enough to saturate now and then."""
    weight = rng.integers(-127, 128, (columns, inputs), dtype=np.int8)
    weight[0], weight[-1] = 127, rng.choice([-127, 127], inputs)
    ranges = None
    if isinstance(spec.readout_circuit, Membrane):
        ranges = rng.integers(0, 1 << spec.readout_circuit.range_bits, (spec.readout_circuit.blocks(inputs), columns)) + rng.integers(-8, 3)
    biases = np.where(rng.random(columns) < 0.2, rng.integers(-(1 << 31), 1 << 31, columns), rng.integers(-5000, 5000, columns))
    return Region(
        spec=spec,
        site=LinearWeights(
            weight=weight,
            multiplier=np.where(rng.random(columns) < 0.1, rng.choice([0, 65535], columns), rng.integers(0, 1 << 16, columns)).astype(
                np.int32
            ),
            shift=shift,
            stop=np.zeros(inputs, np.int32),
            bias=biases.astype(np.int32) if bias else None,
            ranges=None if ranges is None else ranges.astype(np.int8),
        ),
        code=code,
        epilogue=epilogue,
        route=int(rng.integers(1 << spec.route_bits)),
        first=2 * int(rng.integers(1 << 14)),
        number=int(rng.integers(100)),
        gate_fraction=int(rng.integers(12, 20)),
        hidden_fraction=int(rng.integers(6, 40)),
    )


@dataclass
class Trace:
    """Inputs by cycle and what the tile must show in each."""

    flits: list[tuple[int, int, int, int]] = field(default_factory=list)  # cycle, flag, tag, payload
    accumulators: list[Integers] = field(default_factory=list)
    out: list[tuple[int, int, int, int, int]] = field(default_factory=list)  # first cycle valid, accepted, flag, tag, payload
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    cycle: int = 0  # first cycle in which the next train may begin


def random_values(region: Region, tokens: int, rng: np.random.Generator) -> Integers:
    """Inputs of any magnitude and density; some tokens zero or extreme."""
    scale = 2.0 ** rng.uniform(0, 31, (tokens, 1))
    x = rng.laplace(0, 0.3, (tokens, region.inputs)) * scale
    x[rng.random(x.shape) < rng.random((tokens, 1))] = 0
    x[rng.random(tokens) < 0.05] = 0
    x[rng.random(tokens) < 0.05] = -(1 << 31)
    return np.clip(np.rint(x), -(1 << 31), (1 << 31) - 1).astype(np.int64)


def random_trace(region: Region, cycles: int, ready: NDArray[np.bool_], idle: float, rng: np.random.Generator) -> Trace:
    """Trains of random tokens one after another, until the next would begin after `cycles`; `ready` says when the router takes a flit."""
    trace, spec = Trace(), region.spec
    while trace.cycle < cycles:
        x = random_values(region, TOKENS, rng)
        train = region.code.encode(x, rng.integers(0, 1 << 20, region.inputs))
        accumulators, repeats = region.readings(train)
        values = region.values(accumulators, train.exponent)
        for token in range(TOKENS):
            if trace.cycle >= cycles:
                break
            digits = train.digits[train.digits.shape[0] - int(train.phases[token]) :, token]
            if isinstance(region.code, FirstSpikeLog):
                digits = stamped_pulses(region.code, train.digits[:, token])
            send = _send_stamped if spec.stamped else _send
            finish = send(region, trace, digits, int(train.exponent[token]), idle, rng)
            _count_train(region, trace, digits, int(repeats[token]))
            trace.accumulators.append(region.order(accumulators[token]))
            _receive(region, trace, finish, values[token], ready)
            trace.cycle += int(rng.integers(3))
    return trace


def _send(region: Region, trace: Trace, digits: NDArray[np.int8], exponent: int, idle: float, rng: np.random.Generator) -> int:
    """Flits of a train from trace.cycle on, and phases that wait; returns the cycle in which the last phase has finished."""
    spec, cycle, finish = region.spec, trace.cycle, 0
    sent = digits[::-1] if spec.least_significant_first else digits
    cycles = phase_cycles(region, sent)
    for phase, digit in enumerate(sent):
        neurons = rng.permutation(np.flatnonzero(digit))
        events = [1 << 15 | int(digit[n] < 0) << 14 | int(n) for n in neurons]
        flits = [events[i : i + spec.noc.events_per_flit] for i in range(0, len(events), spec.noc.events_per_flit)] or [[]]
        for flit in flits:
            while rng.random() < idle:
                cycle += 1
            payload = sum(event << 16 * i for i, event in enumerate(flit))
            last = flit is flits[-1]
            trace.flits.append((cycle, int(last), exponent | int(phase == len(digits) - 1) << 5, payload))
            cycle += 1
        if finish > cycle or not spec.least_significant_first:
            trace.counts["axon_bits_read"] += 2 * region.inputs
        finish = max(cycle, finish) + cycles[phase]
    return finish


def stamped_pulses(code: FirstSpikeLog, digits: NDArray[np.int8]) -> NDArray[np.int8]:
    """Pulses of every slot, also of a vector of zeros, which has one phase."""
    whole = np.zeros((code.phases, digits.shape[1]), np.int8)
    whole[code.phases - len(digits) :] = digits
    return code.slot_pulses(whole)


def _send_stamped(region: Region, trace: Trace, pulses: NDArray[np.int8], exponent: int, idle: float, rng: np.random.Generator) -> int:
    """Flits of a stamped train, its events in any order; returns the cycle in which it has finished."""
    cycle, held = trace.cycle, region.spec.flit_events
    inputs = rng.permutation(np.flatnonzero(pulses.any(axis=0)))
    slots = np.abs(pulses[:, inputs]).argmax(axis=0)
    events = [int(pulses[slot, n] < 0) << 20 | int(slot) << 14 | int(n) for slot, n in zip(slots, inputs, strict=True)]
    flits = [events[i : i + held] for i in range(0, len(events), held)] or [[]]
    for flit in flits:
        while rng.random() < idle:
            cycle += 1
        payload = sum(event << 21 * i for i, event in enumerate(flit))
        trace.flits.append((cycle, int(flit is flits[-1]), exponent | 1 << 5 | len(flit) << 6, payload))
        cycle += 1
    return cycle + sum(phase_cycles(region, pulses))


def reads_of(region: Region, digits: NDArray[np.int8]) -> Integers:
    """Reads, or integrations, of each phase and row block, [phases, row_blocks]."""
    rows, active = region.spec.synapse.rows, region.spec.readout.active_rows
    blocks = [np.count_nonzero(digits[:, i : i + rows], axis=1) for i in range(0, region.inputs, rows)]
    return -(-np.stack(blocks, axis=1) // active)


@dataclass
class Halves:
    """Halves that a tile reads again: those it waits for, reads of its macros, their rows and cells, and conversions."""

    steps: int = 0
    reads: int = 0
    rows: int = 0
    cells: int = 0
    conversions: int = 0


def halves_of(region: Region, digits: NDArray[np.int8]) -> Halves:
    """Halves of the reads of one phase, of digits [inputs], whose columns saturate."""
    spec, halves = region.spec, Halves()
    circuit, rows, active = spec.readout_circuit, spec.synapse.rows, spec.readout.active_rows
    if not isinstance(circuit, Reread):
        return halves
    levels = circuit.cell.levels(region.order(region.site.weight).T).astype(np.int64)  # [slices, inputs, columns]
    driven = [np.flatnonzero(digits[i : i + rows]) + i for i in range(0, region.inputs, rows)]
    for first in range(0, max(len(block) for block in driven), active):
        whole = []
        for block in driven:
            read = block[first : first + active]
            for cells, bits in zip(levels, circuit.converter_widths, strict=True):
                sums = np.concatenate([np.zeros((1, region.columns), np.int64), np.cumsum(digits[read, None] * cells[read], axis=0)])
                parts = np.split(sums, range(spec.synapse.columns, region.columns, spec.synapse.columns), axis=1)
                whole += [(part, 1 << bits - 1, 0, len(read), np.ones(part.shape[1], np.bool_)) for part in parts]
        _halve(whole, halves)
    return halves


Half = tuple[Integers, int, int, int, NDArray[np.bool_]]
"""Sums of a macro over the first rows of a read [rows + 1, columns], limit of its converters, first and last row, columns read."""


def _halve(whole: list[Half], halves: Halves) -> None:
    """Count the halves of what macros have read at one place of the tree, and theirs."""
    parts: tuple[list[Half], list[Half]] = ([], [])
    for sums, limit, low, high, columns in whole:
        total = sums[high] - sums[low]
        saturated = columns & ((total >= limit) | (total < -limit))
        if saturated.any():
            middle = low + (high - low + 1) // 2
            for part, begin, end in zip(parts, (low, middle), (middle, high), strict=True):
                part.append((sums, limit, begin, end, saturated))
                halves.reads += 1
                halves.rows += end - begin
                halves.cells += (end - begin) * len(columns)
                halves.conversions += int(saturated.sum())
    for part in parts:
        if part:
            halves.steps += 1
            _halve(part, halves)


def phase_cycles(region: Region, sent: NDArray[np.int8]) -> list[int]:
    """Cycles of the phases of a train as they are sent: timing.md, and devices.md for membranes."""
    spec, readout = region.spec, region.spec.readout
    reads = reads_of(region, sent).max(axis=1).tolist()
    if spec.stamped:
        occupied = np.flatnonzero(reads)
        decays = len(sent) - 1 - int(occupied[0]) if len(occupied) else 0
        conversions = readout.mux_cycles * (1 + spec.readout_circuit.repeats) if len(occupied) else 0
        return [1 + decays + readout.read_latency * sum(reads) + conversions]
    if not isinstance(spec.readout_circuit, Membrane):
        each = readout.read_latency + readout.mux_cycles
        cycles = [readout.read_latency + readout.mux_cycles * read if read else 1 for read in reads]
        return [cycle + each * halves_of(region, digit).steps for cycle, digit in zip(cycles, sent, strict=True)]
    cycles = [1 + readout.read_latency * read for read in reads]
    if not any(reads):
        return cycles if spec.least_significant_first else [1] * len(cycles)
    if not spec.least_significant_first:
        cycles = [1] * (len(cycles) - 1) + [sum(cycles)]
    return [*cycles[:-1], cycles[-1] + readout.mux_cycles * (1 + spec.readout_circuit.repeats)]


def _count_train(region: Region, trace: Trace, digits: NDArray[np.int8], repeats: int) -> None:
    """What a train adds to the counters of timing.md."""
    spec, counts, slices = region.spec, trace.counts, region.spec.synapse.slices
    usable = spec.synapse.columns // 2 * 2 if region.epilogue == Epilogue.GATE else spec.synapse.columns
    macros, reads, events = -(-region.columns // usable), reads_of(region, digits), int(np.count_nonzero(digits))
    counts["events"] += events
    counts["crossbar_reads"] += int(reads.sum()) * macros * slices
    counts["row_drives"] += events * macros * slices
    counts["cell_reads"] += events * region.columns * slices
    if spec.stamped:
        counts["axon_bits_read"] += 8 * region.inputs
    sent = digits[::-1] if spec.least_significant_first and not spec.stamped else digits
    counts["read_cycles"] += sum(phase_cycles(region, sent))
    if isinstance(spec.readout_circuit, Membrane):
        spiked, joined = reads.any(axis=0), spec.readout_circuit.joined
        converted = int(np.logical_or.reduceat(spiked, np.arange(0, len(spiked), joined)).sum()) * region.columns
        counts["conversions"] += converted + repeats
        counts["repeated_conversions"] += repeats
        counts["integrations"] += int(reads.sum()) * region.columns * slices
        halvings = region.code.horner_shift * (len(digits) - 1)
        if spec.stamped:
            occupied = np.flatnonzero(reads.any(axis=1))
            halvings = len(digits) - 1 - int(occupied[0]) if len(occupied) else 0
            counts["slot_matches"] += region.inputs * len(occupied)
        counts["halvings"] += halvings * int(spiked.sum()) * region.columns * slices
    else:
        counts["conversions"] += int(reads.sum()) * region.columns * slices
        for digit in digits:
            halves = halves_of(region, digit)
            counts["crossbar_reads"] += halves.reads
            counts["row_drives"] += halves.rows
            counts["cell_reads"] += halves.cells
            counts["conversions"] += halves.conversions
            counts["repeated_conversions"] += halves.conversions


def _receive(region: Region, trace: Trace, finish: int, values: Integers, ready: NDArray[np.bool_]) -> None:
    """Flits of results, each offered from the cycle that timing.md names or the one after the last was taken."""
    spec, counts, bits = region.spec, trace.counts, 0xFFFFFFFF
    if region.epilogue == Epilogue.ARGMAX:
        flits = [(0, region.number, int(values[0]) & bits | int(values[1]) << 32)]
        cycle = finish + -(-region.columns // spec.synapse.argmax_lanes) + spec.synapse.output_latency
    else:
        flits = []
        for i in range(0, len(values), 2):
            pair = [int(value) & bits for value in values[i : i + 2]] + [0]
            flits.append((int(len(values) - i == 1), region.first + i, pair[0] | pair[1] << 32))
        cycle = finish + (spec.synapse.gate_latency if region.epilogue == Epilogue.GATE else spec.synapse.output_latency)
    for flit in flits:
        taken = cycle + int(ready[cycle:].argmax())
        trace.out.append((cycle, taken, *flit))
        cycle = taken + 1
    trace.cycle = cycle
    counts["output_values"] += region.columns
    counts["gate_operations"] += region.columns // 2 if region.epilogue == Epilogue.GATE else 0
    counts["maximum_elements"] += region.columns if region.epilogue == Epilogue.ARGMAX else 0
    counts["output_parameter_bits_read"] += region.columns * (16 if region.site.bias is None else 48)


def configure(bench: Bench, region: Region) -> None:
    """Write a region into the tile."""
    writes = synapse_writes(region.spec, region.load())
    bench.run(
        {"cfg_valid": np.ones(len(writes), np.uint64), "cfg_unit": writes[:, 0], "cfg_address": writes[:, 1], "cfg_data": writes[:, 2]},
        outputs=(),
    )


def check(bench: Bench, region: Region, trace: Trace, ready: NDArray[np.bool_]) -> int:
    """Run a trace and compare every output in every cycle, accumulators and counters; returns the cycles run."""
    spec, cycles = region.spec, trace.cycle + 4
    route, tag = np.uint64(region.route), np.array([f[2] for f in trace.flits], np.uint64)
    at = np.array([flit[0] for flit in trace.flits])
    valid = np.zeros(cycles, np.uint64)
    valid[at] = 1
    words = np.zeros((cycles, bench.ports["in_flit"].size // 4), np.uint32)
    flags, payload = (np.array([flit[i] for flit in trace.flits], np.uint64) for i in (1, 3))
    words[at] = pack([(np.uint64(5), spec.route_bits), (flags, 1), (tag, 16), (payload, 64)])
    before = counters_of(bench)
    got = bench.run(
        {"in_valid": valid, "in_flit": words, "out_ready": ready[:cycles].astype(np.uint64)},
        outputs=["out_valid", "out_flit", "accumulator_valid", "accumulator_values"],
    )
    expected_valid = np.zeros(cycles, np.uint64)
    for first, taken, *_ in trace.out:
        expected_valid[first : taken + 1] = 1
    np.testing.assert_array_equal(np.flatnonzero(got["out_valid"] != expected_valid)[:5], [])
    taken = np.array([out[1] for out in trace.out])
    flags, tags, payloads = (np.array([out[i] for out in trace.out], np.uint64) for i in (2, 3, 4))
    expected = pack([(route, spec.route_bits), (flags, 1), (tags, 16), (payloads, 64)])
    np.testing.assert_array_equal(got["out_flit"][taken], expected)
    _check_accumulators(region, trace, got)
    after = counters_of(bench)
    assert {name: after[name] - before[name] for name in COUNTERS} == trace.counts
    return cycles


def _check_accumulators(region: Region, trace: Trace, got: dict[str, Any]) -> None:
    """The words of accumulators that the output stage read, in the order of the columns."""
    lanes = max(region.spec.synapse.argmax_lanes, 4)
    read = got["accumulator_values"][got["accumulator_valid"] == 1]
    words = -(-region.columns // lanes)
    np.testing.assert_array_equal(
        read.reshape(-1, words * lanes)[:, : region.columns].astype(np.uint32).view(np.int32), np.array(trace.accumulators, np.int32)
    )


def counters_of(bench: Bench) -> dict[str, int]:
    """Counters of a tile."""
    result = bench.run({}, cycles=1, outputs=list(COUNTERS))
    return {name: int(result[name][0]) for name in COUNTERS}
