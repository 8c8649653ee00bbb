"""Energy of the observed activity: internal energies of the library, capacitances of the pins, leakage; no wires."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.rtl.synthesis.gate_level import Activity
from neuromorphic_llm.rtl.synthesis.liberty import Cell, Energy, Library, truth_table
from neuromorphic_llm.rtl.synthesis.netlist import Netlist
from neuromorphic_llm.rtl.synthesis.timing import Timing, edge_slew

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UnitEnergy:
    """Energy of the counted cycles, J: lasting transitions, glitches, and the clock pins of all flip-flops in every cycle."""

    lasting: float
    glitches: float
    clock: float

    @property
    def logic(self) -> float:
        """Everything but the clock."""
        return self.lasting + self.glitches


def unit_energy(netlist: Netlist, timing: Timing, activity: Activity, library: Library) -> UnitEnergy:
    """Energy of a netlist's activity."""
    per_transition = net_energies(netlist, timing, library)
    lasting = float(activity.lasting @ per_transition)
    every = float(activity.all @ per_transition)
    return UnitEnergy(lasting, every - lasting, activity.cycles * clock_energy(netlist, library))


def net_energies(netlist: Netlist, timing: Timing, library: Library) -> Floats:
    """Energy of a transition of every net: its load at half C V^2, and inside its driver and the cells it feeds.

    Nets that a port or a black box drives have no driver here: only the cells that they feed count.
    """
    energy = np.zeros(netlist.nets)
    for k, cell in enumerate(netlist.cells):
        if cell.state:
            chosen = netlist.flip_kind == k
            data, out = netlist.flip_d[chosen], netlist.flip_q[chosen]
            causes = [(cell.clock, np.full(len(out), edge_slew(library)))]
            np.add.at(energy, data, _mean(_passive(cell, "D"), timing.slew[data], 0.0))
            pin = next(name for name in cell.outputs if cell.pins[name].function == cell.state)
        else:
            chosen = netlist.kind == k
            rows, out = netlist.inputs[chosen], netlist.output[chosen]
            causes = [(name, timing.slew[rows[:, position]]) for position, name in enumerate(cell.inputs)]
            for position, name in enumerate(cell.inputs):
                np.add.at(energy, rows[:, position], _mean(_passive(cell, name), timing.slew[rows[:, position]], 0.0))
            pin = cell.outputs[0]
        inside = [_mean([e for e in cell.pins[pin].energies if e.related == related], slew, timing.load[out]) for related, slew in causes]
        energy[out] += (np.mean(inside, axis=0) if inside else 0.0) + 0.5 * timing.load[out] * library.voltage**2
    energy[:2] = 0.0
    return energy


def clock_energy(netlist: Netlist, library: Library) -> float:
    """Energy that the clock pins take in a cycle, J: two edges, at flip-flops that keep their value (a change counts at the output)."""
    total = 0.0
    for k, cell in enumerate(netlist.cells):
        count = int((netlist.flip_kind == k).sum())
        if count:
            kept = [e for e in _passive(cell, cell.clock) if not e.when or _holds_when_kept(cell, e.when)]
            stated = [e for e in kept if e.when] or kept
            inside = sum(float(np.mean([e.tables[edge].at(edge_slew(library), 0.0) for e in stated])) for edge in (0, 1)) if stated else 0.0
            total += count * (inside + cell.pins[cell.clock].capacitance * library.voltage**2)
    return total


def _passive(cell: Cell, pin: str) -> list[Energy]:
    return [e for e in cell.pins[pin].energies if not e.related and e.tables]


def _holds_when_kept(cell: Cell, when: str) -> bool:
    """True if a state occurs with the data equal to the output and resets and sets, active low, at rest."""
    output = next(name for name in cell.outputs if cell.pins[name].function == cell.state)
    names = [name for name in dict.fromkeys([*cell.inputs, *cell.outputs]) if name in when]
    table = truth_table(when, names)

    def level(name: str, value: int) -> int:
        if name in ("D", output):
            return value
        return 1 - value if name in cell.outputs else 1

    return any(table >> sum(level(name, value) << i for i, name in enumerate(names)) & 1 for value in (0, 1))


def _mean(energies: list[Energy], slew: Floats, load: Floats | float) -> Floats:
    tables = [table.at(slew, load) for e in energies for table in e.tables]
    return np.asarray(np.mean(tables, axis=0), np.float64) if tables else np.zeros(len(slew))
