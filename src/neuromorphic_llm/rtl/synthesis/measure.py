"""One unit: mapped, timed, run with its test's stimuli, compared with the RTL in every cycle, and its energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.synthesis.energy import UnitEnergy, unit_energy
from neuromorphic_llm.rtl.synthesis.gate_level import count_transitions, simulate
from neuromorphic_llm.rtl.synthesis.mapping import SynthesisTarget, map_module
from neuromorphic_llm.rtl.synthesis.netlist import Netlist, read_netlist
from neuromorphic_llm.rtl.synthesis.observe import Bits, ObservedBench
from neuromorphic_llm.rtl.synthesis.timing import analyse

RESET_CYCLES = 2
"""Cycles at the start of an observation in which nothing is compared or counted."""

COUNTER_BITS = 48
"""Width of the counters of a test bench."""

Signals = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Stimulus:
    """Test of a unit: its module, the unit's place in it, and what drives it.

    drive runs the test on a bench from a reset on; operations counts what the unit did from the signals `counted` (ports of the unit, or
    with "/" of `top`, 48 bits at most); working says from them in which cycles it worked (None: all).
    """

    top: str
    path: str
    drive: Callable[[Bench], object]
    counted: tuple[str, ...]
    operations: Callable[[Signals], dict[str, int]]
    working: Callable[[Signals], NDArray[np.bool_]] | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)  # of `top`, where the unit is not `top` itself
    rows: Mapping[str, int] = field(default_factory=dict)  # ports that are arrays of arrays, with the elements of the outer one


@dataclass(frozen=True)
class Unit:
    """A module to synthesise: its chip, its parameters, and how it is run (None: area and timing only)."""

    name: str
    module: str
    spec: ChipSpec
    parameters: Mapping[str, int] = field(default_factory=dict)
    stimulus: Stimulus | None = None


@dataclass(frozen=True)
class Measurement:
    """Synthesis result of a unit. area um^2, critical_path s, leakage W; energy and operations are those of the cycles counted."""

    unit: str
    target: str
    cells: int
    flip_flops: int
    area: float
    depth: int
    critical_path: float
    leakage: float
    memories: dict[str, int]  # module -> bits
    cycles: int = 0
    compared_bits: int = 0
    undefined_share: float = 0.0
    energy: UnitEnergy | None = None
    operations: dict[str, int] = field(default_factory=dict)


def measure(unit: Unit, target: SynthesisTarget, limit: int = 2000) -> Measurement:
    """Synthesise and run a unit for at most `limit` cycles. Raises SimulationError where a step fails or gates and RTL differ."""
    netlist = _mapped(unit.module, unit.spec, tuple(sorted(unit.parameters.items())), target)
    timing = analyse(netlist, target)
    memories: dict[str, int] = {}
    for box in netlist.boxes:
        memories[box.module] = memories.get(box.module, 0) + box.bits
    common = Measurement(
        unit=unit.name,
        target=target.name,
        cells=len(netlist.kind) + len(netlist.flip_kind),
        flip_flops=len(netlist.flip_kind),
        area=netlist.area,
        depth=netlist.depth,
        critical_path=timing.critical_path,
        leakage=netlist.leakage,
        memories=memories,
    )
    if unit.stimulus is None:
        return common
    observed = observe(unit.stimulus, unit, netlist)
    cycles = min(limit, len(next(iter(observed.values()))))
    sources = _together(observed, netlist.sources, cycles)
    expected = _together(observed, netlist.sinks, cycles)
    states = np.random.default_rng(1).integers(0, 1 << 64, len(netlist.flip_q), dtype=np.uint64)
    undefined = compare(unit.name, netlist, sources, expected, states)
    signals = {name: _numbers(observed[name][:cycles]) for name in unit.stimulus.counted}
    working = np.ones(cycles, np.bool_) if unit.stimulus.working is None else unit.stimulus.working(signals)
    working[:RESET_CYCLES] = False
    activity = count_transitions(netlist, sources, (states & np.uint64(1)).astype(np.uint8), timing.gate_delay, working)
    return Measurement(
        **{
            **common.__dict__,
            "cycles": activity.cycles,
            "compared_bits": int(expected.size * (1 - undefined)),
            "undefined_share": undefined,
            "energy": unit_energy(netlist, timing, activity, target.library),
            "operations": unit.stimulus.operations(signals),
        }
    )


@lru_cache(maxsize=2)
def _mapped(module: str, spec: ChipSpec, parameters: tuple[tuple[str, int], ...], target: SynthesisTarget) -> Netlist:
    """Kept for the next unit, which may be the same module with another stimulus."""
    return read_netlist(map_module(module, spec, dict(parameters), target), target.library)


def observe(stimulus: Stimulus, unit: Unit, netlist: Netlist) -> dict[str, Bits]:
    """Ports of the unit and of its black boxes in the RTL simulation of its test."""
    watched = {name: len(bits) for side in (netlist.sources, netlist.sinks) for name, bits in side.items()}
    watched |= {name: COUNTER_BITS for name in stimulus.counted if name.startswith("/")}
    parameters = stimulus.parameters if stimulus.path else unit.parameters
    bench = ObservedBench(stimulus.top, stimulus.path, watched, unit.spec, parameters, stimulus.rows)
    stimulus.drive(bench)
    return {name: bench.bits(name) for name in watched}


def compare(name: str, netlist: Netlist, sources: Bits, expected: Bits, states: NDArray[np.uint64]) -> float:
    """Gates against RTL in every bit of every cycle, but for those that depend on the random first states: the RTL does not define them
    either. Returns their share. A register that can only be loaded with one value is a constant in gates: it counts from the cycle on in
    which the RTL has that value, and must have it then.
    """
    found = simulate(netlist, sources, states)
    defined = (found == 0) | (found == ~np.uint64(0))
    equal = (found & np.uint64(1)) == expected
    defined[:RESET_CYCLES] = False
    constant = np.array([net for bits in netlist.sinks.values() for net in bits]) <= 1
    defined[:, constant] &= np.maximum.accumulate(equal[:, constant], axis=0)
    wrong = np.argwhere(defined & ~equal)
    if len(wrong):
        cycle, column = wrong[0]
        port, bit = [(port, bit) for port, bits in netlist.sinks.items() for bit in range(len(bits))][column]
        raise SimulationError(
            f"{name}: gates and RTL differ in {len(wrong)} bits, first in cycle {cycle}, {port}[{bit}]: "
            f"gates {found[cycle, column] & np.uint64(1)}, RTL {expected[cycle, column]}"
        )
    return float(1 - defined[RESET_CYCLES:].mean())


def _together(observed: Mapping[str, Bits], ports: Mapping[str, list[int]], cycles: int) -> Bits:
    return np.concatenate([observed[name][:cycles] for name in ports], axis=1)


def _numbers(bits: Bits) -> NDArray[np.int64]:
    """Unsigned numbers of up to 63 bits; wider signals are cut."""
    used = bits[:, :63].astype(np.int64)
    return np.asarray(used @ (1 << np.arange(used.shape[1], dtype=np.int64)), np.int64)
