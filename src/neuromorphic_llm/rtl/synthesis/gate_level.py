"""Gate-level simulation of a mapped netlist, cycle by cycle, driven by what was observed at its ports in the RTL simulation.

Zero delay gives values; with the delays of the gates it also gives the transitions that do not last (glitches). Delays are inertial: a
change that is taken back before it reaches the output does not happen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.kernel_cache import kernel
from neuromorphic_llm.rtl.synthesis.netlist import Netlist

Bits = NDArray[np.uint8]
Counts = NDArray[np.int64]

STEPS_PER_DELAY = 16
"""Steps of time in the median delay of a gate."""


@dataclass(frozen=True)
class Activity:
    """Transitions of every net in the cycles counted: those that last to the end of the cycle, and all."""

    lasting: Counts
    all: Counts
    cycles: int


def simulate(netlist: Netlist, sources: Bits, states: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Values of the sinks [cycles, bits] for 64 first states of the flip-flops at once, a bit of a word each; all have the same sources."""
    found = np.zeros((len(sources), len(_nets(netlist.sinks))), np.uint64)
    fan_in = np.array([len(cell.inputs) for cell in netlist.cells], np.int64)[netlist.kind]
    values = np.zeros(netlist.nets, np.uint64)
    _zero_delay(
        sources,
        _nets(netlist.sources),
        netlist.inputs,
        fan_in,
        netlist.output,
        netlist.truth,
        netlist.flip_d,
        netlist.flip_q,
        states.copy(),
        _nets(netlist.sinks),
        values,
        found,
    )
    return found


def count_transitions(netlist: Netlist, sources: Bits, state: Bits, delays: NDArray[np.float64], counted: NDArray[np.bool_]) -> Activity:
    """Run with the delay of each gate, s; count in the cycles `counted`."""
    step = float(np.median(delays)) / STEPS_PER_DELAY if len(delays) else 1.0
    steps = np.maximum(1, np.rint(delays / step)).astype(np.int64)
    offsets, gates = _fanout(netlist)
    every, lasting = np.zeros(netlist.nets, np.int64), np.zeros(netlist.nets, np.int64)
    values = np.zeros(netlist.nets, np.uint8)
    _event_driven(
        sources,
        _nets(netlist.sources),
        netlist.inputs,
        netlist.output,
        netlist.truth,
        netlist.flip_d,
        netlist.flip_q,
        state,
        steps,
        offsets,
        gates,
        counted,
        values,
        every,
        lasting,
    )
    return Activity(lasting, every, int(counted.sum()))


def _nets(ports: dict[str, list[int]]) -> NDArray[np.int32]:
    return np.array([net for bits in ports.values() for net in bits], np.int32)


def _fanout(netlist: Netlist) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Gates that each net feeds: offsets [nets + 1] into a list."""
    used = netlist.inputs > 1  # not padding, not constants
    nets = netlist.inputs[used]
    gates = np.broadcast_to(np.arange(len(netlist.inputs), dtype=np.int32)[:, None], netlist.inputs.shape)[used]
    order = np.argsort(nets, kind="stable")
    return np.concatenate([[0], np.cumsum(np.bincount(nets, minlength=netlist.nets))]).astype(np.int64), gates[order]


@kernel(inline="always")
def _evaluate(values, inputs, truth, gate):  # type: ignore[no-untyped-def]
    index = np.uint64(0)
    for k in range(6):
        index |= np.uint64(values[inputs[gate, k]]) << np.uint64(k)
    return np.uint8((truth[gate] >> index) & np.uint64(1))


@kernel
def _zero_delay(  # type: ignore[no-untyped-def]
    sources, source_nets, inputs, fan_in, output, truth, flip_d, flip_q, states, sink_nets, values, found
):
    every = ~np.uint64(0)
    zero = np.uint64(0)
    one = np.uint64(1)
    part = np.empty(64, np.uint64)
    values[1] = every
    for cycle in range(len(sources)):
        for k in range(len(source_nets)):
            if source_nets[k] > 1:
                values[source_nets[k]] = every if sources[cycle, k] else zero
        for f in range(len(flip_q)):
            values[flip_q[f]] = states[f]
        for g in range(len(output)):
            # The truth table's words are halved by one input after the other.
            size = 1 << fan_in[g]
            for i in range(size):
                part[i] = every if (truth[g] >> np.uint64(i)) & one else zero
            for k in range(fan_in[g]):
                size >>= 1
                x = values[inputs[g, k]]
                for i in range(size):
                    part[i] = (part[2 * i] & ~x) | (part[2 * i + 1] & x)
            values[output[g]] = part[0]
        for k in range(len(sink_nets)):
            found[cycle, k] = values[sink_nets[k]]
        for f in range(len(flip_d)):
            states[f] = values[flip_d[f]]


@kernel
def _event_driven(  # type: ignore[no-untyped-def]
    sources, source_nets, inputs, output, truth, flip_d, flip_q, first_state, steps, offsets, fed, counted, values, every, lasting
):
    values[1] = 1
    gates = len(output)
    for f in range(len(flip_q)):
        values[flip_q[f]] = first_state[f]
    for k in range(len(source_nets)):
        if source_nets[k] > 1:
            values[source_nets[k]] = sources[0, k]
    for g in range(gates):
        values[output[g]] = _evaluate(values, inputs, truth, g)
    state = np.empty(len(flip_d), np.uint8)
    before = values.copy()
    slots = 2
    for g in range(gates):
        slots = max(slots, steps[g] + 2)
    # A ring of slots, each a list of gates due then. A gate has one change under way at most; entries of changes taken back stay
    # until their slot comes, so that a gate may have several.
    head = np.full(slots, -1, np.int64)
    capacity = 16 * gates + 1024
    entry_gate, entry_next, free = np.empty(capacity, np.int64), np.empty(capacity, np.int64), np.arange(capacity)
    due = np.full(gates, -1, np.int64)
    changed = np.empty(len(values), np.int64)
    for cycle in range(1, len(sources)):
        count_here = counted[cycle]
        for f in range(len(flip_d)):
            state[f] = values[flip_d[f]]
        waiting = 0
        for f in range(len(flip_q)):
            if values[flip_q[f]] != state[f]:
                values[flip_q[f]] = state[f]
                changed[waiting] = flip_q[f]
                waiting += 1
        for k in range(len(source_nets)):
            if source_nets[k] > 1 and values[source_nets[k]] != sources[cycle, k]:
                values[source_nets[k]] = sources[cycle, k]
                changed[waiting] = source_nets[k]
                waiting += 1
        time, entries = 0, 0
        while True:
            for n in range(waiting):
                net = changed[n]
                if count_here:
                    every[net] += 1
                for at in range(offsets[net], offsets[net + 1]):
                    gate = fed[at]
                    target = _evaluate(values, inputs, truth, gate) != values[output[gate]]
                    if target and due[gate] < 0:
                        due[gate] = time + steps[gate]
                        slot = due[gate] % slots
                        entry = free[entries]
                        entries += 1
                        entry_gate[entry], entry_next[entry] = gate, head[slot]
                        head[slot] = entry
                    elif not target:
                        due[gate] = -1
            if entries == 0:
                break
            waiting = 0
            while waiting == 0 and entries > 0:
                time += 1
                slot = time % slots
                entry = head[slot]
                head[slot] = -1
                while entry >= 0:
                    gate = entry_gate[entry]
                    entries -= 1
                    free[entries] = entry
                    if due[gate] == time:
                        due[gate] = -1
                        values[output[gate]] ^= 1
                        changed[waiting] = output[gate]
                        waiting += 1
                    entry = entry_next[entry]
            if waiting == 0:
                break
        if count_here:
            for net in range(len(values)):
                lasting[net] += values[net] != before[net]
        before[:] = values
