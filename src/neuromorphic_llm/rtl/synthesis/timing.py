"""Delays before layout: loads are pin capacitances, no wires; the clock is ideal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.rtl.synthesis.liberty import Cell, Library, Table
from neuromorphic_llm.rtl.synthesis.mapping import SynthesisTarget
from neuromorphic_llm.rtl.synthesis.netlist import Netlist

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Timing:
    """Load [F] and slew [s] of every net, delay of every gate [s], and the longest path [s], set-up included."""

    load: Floats
    slew: Floats
    gate_delay: Floats
    critical_path: float


def edge_slew(library: Library) -> float:
    """Slew of inputs and clock: the second of the slews that the library tabulates, s."""
    arc = next(arc for cell in library.cells.values() for pin in cell.pins.values() for arc in pin.arcs if len(arc.delays[0].slews) > 1)
    return float(arc.delays[0].slews[1])


def net_loads(netlist: Netlist, output_load: float) -> Floats:
    """Capacitance of every net: the pins it feeds, and `output_load` for every port or black box."""
    load = np.zeros(netlist.nets)
    for k, cell in enumerate(netlist.cells):
        if cell.state:
            np.add.at(load, netlist.flip_d[netlist.flip_kind == k], cell.pins["D"].capacitance)
            continue
        rows = netlist.inputs[netlist.kind == k]
        for position, pin in enumerate(cell.inputs):
            np.add.at(load, rows[:, position], cell.pins[pin].capacitance)
    for bits in netlist.sinks.values():
        np.add.at(load, np.array(bits, np.int64), output_load)
    return load


def analyse(netlist: Netlist, target: SynthesisTarget) -> Timing:
    """Arrival and slew of every net, the later and slower of rise and fall, gates in topological order."""
    clock_slew = edge_slew(target.library)
    load = net_loads(netlist, target.load)
    arrival, slew = np.zeros(netlist.nets), np.full(netlist.nets, clock_slew)
    for k, cell in enumerate(netlist.cells):
        chosen = netlist.flip_kind == k
        if not chosen.any():
            continue
        out = netlist.flip_q[chosen]
        arc = next(arc for pin in cell.pins.values() for arc in pin.arcs if pin.function == cell.state and arc.related == cell.clock)
        arrival[out], slew[out] = _worst(arc.delays, clock_slew, load[out]), _worst(arc.slews, clock_slew, load[out])
    gate_delay = np.zeros(len(netlist.output))
    for level in range(netlist.depth):
        begin, end = np.searchsorted(netlist.level, [level, level + 1])
        kinds = netlist.kind[begin:end]
        for k in np.unique(kinds):
            gates = begin + np.flatnonzero(kinds == k)
            _propagate(netlist, netlist.cells[k], gates, load, arrival, slew, gate_delay)
    return Timing(load, slew, gate_delay, _longest(netlist, arrival, slew, clock_slew))


def _propagate(
    netlist: Netlist, cell: Cell, gates: NDArray[np.int64], load: Floats, arrival: Floats, slew: Floats, gate_delay: Floats
) -> None:
    """Outputs of gates of one kind; the delay of a gate is the mean over its arcs."""
    out = netlist.output[gates]
    latest, slowest, total = np.zeros(len(gates)), np.zeros(len(gates)), np.zeros(len(gates))
    arcs = cell.pins[cell.outputs[0]].arcs
    for arc in arcs:
        entered = netlist.inputs[gates, cell.inputs.index(arc.related)]
        delay = _worst(arc.delays, slew[entered], load[out])
        latest = np.maximum(latest, arrival[entered] + delay)
        slowest = np.maximum(slowest, _worst(arc.slews, slew[entered], load[out]))
        total += np.mean([table.at(slew[entered], load[out]) for table in arc.delays], axis=0)
    arrival[out], slew[out] = latest, np.maximum(slowest, 0.0)
    gate_delay[gates] = np.maximum(total / max(len(arcs), 1), 0.0)


def _longest(netlist: Netlist, arrival: Floats, slew: Floats, clock_slew: float) -> float:
    ends = [float(arrival[np.array(bits, np.int64)].max()) for bits in netlist.sinks.values() if bits]
    for k, cell in enumerate(netlist.cells):
        data = netlist.flip_d[netlist.flip_kind == k]
        setup = cell.pins["D"].setup if cell.state else ()
        if len(data):
            ends.append(float((arrival[data] + np.maximum(_worst(setup, slew[data], clock_slew), 0.0)).max()))
    return max(ends, default=0.0)


def _worst(tables: tuple[Table, ...], slew: Floats | float, load: Floats | float) -> Floats:
    return np.max([table.at(slew, load) for table in tables], axis=0) if tables else np.zeros(np.shape(slew))
