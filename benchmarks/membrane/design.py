"""Sizes and times of a membrane, and the control lines that drive it through a token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PHASES = 14
"""Phases of a token."""

BITS = 9
"""Bits of the converter."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """Membrane of one column; SI units."""

    capacitance: float = 100e-15  # of each of the four capacitors
    supply: float = 0.8
    switch_width: float = 0.15e-6  # of PMOS switches; NMOS ones are half as wide
    switch_length: float = 30e-9
    dummies: bool = False  # of half the width at both ends of the switch that halves
    amplifier_width: float = 3e-6  # of the NMOS in the clamp's inverter
    level_shift: float = 0.36  # V, from the inverter's output to the gates of the clamp
    reference: float = 0.3979  # V of the column: the inverter's threshold
    read_voltage: float = 0.2
    pulse: float = 5e-9  # rows are driven
    settling: float = 3e-9  # of the clamp behind the pulse
    halving: float = 3e-9  # share switch closed
    gap: float = 0.3e-9  # between control edges
    edge: float = 50e-12
    column_capacitance: float = 80e-15  # wire and access transistors of 256 rows, assumed
    full_scale: float = 0.1  # V, largest |difference| / 2 that the converter takes; running sums of a token exceed it
    ideal_clamp: bool = False  # to see the membrane alone

    @property
    def phase(self) -> float:
        """Duration of a phase, s."""
        return self.pulse + self.settling + self.halving + 3 * self.gap

    @property
    def token(self) -> float:
        """Duration of a token's phases and the reset before them, s."""
        return (PHASES + 1) * self.phase

    @property
    def step(self) -> float:
        """Step of the converter at the joined capacitors, V."""
        return 2 * self.full_scale / 2**BITS

    @property
    def full_charge(self) -> float:
        """Charge of the column at full scale, C: the joined capacitors hold half the difference of their voltages."""
        return 2 * self.capacitance * self.full_scale


def line(pulses: list[tuple[float, float, float]], edge: float) -> tuple[Floats, Floats]:
    """Times and levels of a piecewise linear source that is `level` from `start` to `stop` and 0 elsewhere."""
    times, levels = [0.0], [0.0]
    for start, stop, level in pulses:
        times += [start, start + edge, stop, stop + edge]
        levels += [levels[-1], level, level, 0.0]
    return np.array(times), np.array(levels)


def control_lines(design: Design, tokens: int) -> dict[str, tuple[Floats, Floats]]:
    """Lines `int`, `share` and `reset`, high when active, in V."""
    pulses: dict[str, list[tuple[float, float, float]]] = {"int": [], "share": [], "reset": []}
    gap, vdd = design.gap, design.supply
    for token in range(tokens):
        origin = token * design.token
        pulses["reset"].append((origin + gap, origin + design.phase - gap, vdd))  # with the twins joined, both are emptied
        pulses["share"].append((origin + gap, origin + design.phase - 3 * gap, vdd))
        for phase in range(PHASES):
            start = origin + (phase + 1) * design.phase + gap
            closed = start + design.pulse + design.settling
            pulses["int"].append((start, closed, vdd))
            pulses["reset"].append((start + gap, start + design.pulse, vdd))
            if phase < PHASES - 1:
                pulses["share"].append((closed + gap, closed + gap + design.halving, vdd))
    return {name: line(parts, design.edge) for name, parts in pulses.items()}


def row_pulses(design: Design, conductances: Floats) -> tuple[Floats, Floats]:
    """Conductance that rows connect to a column over time, from that of each token and phase [tokens, phases], S."""
    pulses = []
    for token, phases in enumerate(conductances):
        for phase, conductance in enumerate(phases):
            start = token * design.token + (phase + 1) * design.phase + 2 * design.gap
            pulses.append((start, start + design.pulse, float(conductance)))
    return line(pulses, design.edge)


def sample_times(design: Design, tokens: int) -> Floats:
    """Times at which the membrane holds a token's sum, s."""
    return (np.arange(tokens) + 1) * design.token - design.gap / 2
