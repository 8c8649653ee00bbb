"""The mapped netlist as arrays: gates in topological order, flip-flops, and where values come in and go out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.synthesis.liberty import Cell, Library, truth_table

Nets = NDArray[np.int32]
MOST_INPUTS = 6
CONSTANTS = {"0": 0, "1": 1, "x": 0, "z": 0}


@dataclass(frozen=True)
class BlackBox:
    """A memory or macro: its module, parameters and path within the unit."""

    module: str
    path: str
    parameters: dict[str, int]

    @property
    def bits(self) -> int:
        """Bits of a memory; 0 for a macro."""
        width = self.parameters.get("WIDTH", 32 * self.parameters.get("LANES", 0))
        return width * self.parameters.get("DEPTH", 0)


@dataclass(frozen=True)
class Netlist:
    """Nets are numbered, 0 and 1 are the constants. Sources and sinks are ports, and the other side of black boxes ("path.port")."""

    nets: int
    cells: list[Cell]  # kinds
    kind: NDArray[np.int32]  # of every gate
    inputs: Nets  # [gates, 6], in the order of Cell.inputs, padded with net 0
    output: Nets  # [gates]
    truth: NDArray[np.uint64]  # [gates]
    level: NDArray[np.int32]  # [gates], ascending: gates before this one on its longest path
    flip_kind: NDArray[np.int32]
    flip_d: Nets
    flip_q: Nets
    sources: dict[str, list[int]]  # lowest bit first
    sinks: dict[str, list[int]]
    boxes: list[BlackBox]

    @property
    def area(self) -> float:
        """Area of the cells, um^2."""
        return float(sum(self.cells[k].area * n for k, n in Counter([*self.kind.tolist(), *self.flip_kind.tolist()]).items()))

    @property
    def leakage(self) -> float:
        """Leakage of the cells, W."""
        return float(sum(self.cells[k].leakage * n for k, n in Counter([*self.kind.tolist(), *self.flip_kind.tolist()]).items()))

    @property
    def depth(self) -> int:
        """Gates on the longest path between registers, ports and black boxes."""
        return int(self.level[-1]) + 1 if len(self.level) else 0


def read_netlist(module: dict[str, Any], library: Library) -> Netlist:
    """Arrays of a flat mapped module. Raises SimulationError for a cell that the library lacks or a combinational loop."""
    numbers: dict[int | str, int] = {bit: net for bit, net in CONSTANTS.items()}  # noqa: C416

    def net(bit: int | str) -> int:
        return numbers.setdefault(bit, max(2, len(numbers) - len(CONSTANTS) + 2))

    sources: dict[str, list[int]] = {}
    sinks: dict[str, list[int]] = {}
    for name, port in module["ports"].items():
        (sources if port["direction"] == "input" else sinks)[name] = [net(bit) for bit in port["bits"]]
    kinds: dict[str, int] = {}
    cells: list[Cell] = []
    gates, flips, boxes = [], [], []
    for name, entry in module["cells"].items():
        cell = library.cells.get(entry["type"])
        if cell is None:
            boxes.append(_box(name, entry, net, sources, sinks))
            continue
        if cell.name not in kinds:
            kinds[cell.name] = len(cells)
            cells.append(cell)
        pins = {pin: net(bits[0]) for pin, bits in entry["connections"].items() if bits}
        if cell.state:
            flips.append((kinds[cell.name], pins["D"], pins[_state_output(cell)]))
        else:
            gates.append((kinds[cell.name], [pins[pin] for pin in cell.inputs], pins[cell.outputs[0]]))
    order, levels = _levels(gates)
    rows = [gates[g] for g in order]
    padded = np.zeros((len(rows), MOST_INPUTS), np.int32)
    for row, (_, entered, _) in zip(padded, rows, strict=True):
        row[: len(entered)] = entered
    truths = [_truth(cell) for cell in cells]
    kind = np.array([row[0] for row in rows], np.int32)
    return Netlist(
        nets=max(numbers.values()) + 1,
        cells=cells,
        kind=kind,
        inputs=padded,
        output=np.array([row[2] for row in rows], np.int32),
        truth=np.array(truths, np.uint64)[kind] if len(kind) else np.zeros(0, np.uint64),
        level=np.array(levels, np.int32),
        flip_kind=np.array([flip[0] for flip in flips], np.int32),
        flip_d=np.array([flip[1] for flip in flips], np.int32),
        flip_q=np.array([flip[2] for flip in flips], np.int32),
        sources={name: bits for name, bits in sources.items() if name != "clk"},
        sinks=sinks,
        boxes=sorted(boxes, key=lambda box: box.path),
    )


def _box(name: str, entry: dict[str, Any], net: Any, sources: dict[str, list[int]], sinks: dict[str, list[int]]) -> BlackBox:
    if entry["type"].startswith("$") or "port_directions" not in entry:
        raise SimulationError(f"{name} is a {entry['type']}, which the library does not have; take a library with such a cell")
    parameters = {key: int(value, 2) for key, value in entry.get("parameters", {}).items() if set(value) <= {"0", "1"}}
    for port, bits in entry["connections"].items():
        if port.endswith("_data") and len(bits) != parameters.get("WIDTH", len(bits)):
            raise SimulationError(f"{name}.{port} has {len(bits)} bits, its WIDTH is {parameters['WIDTH']}: ports were resized in mapping")
        if port != "clk":
            side = sinks if entry["port_directions"][port] == "input" else sources
            side[f"{name}.{port}"] = [net(bit) for bit in bits]
    return BlackBox(entry["type"], name, parameters)


def _state_output(cell: Cell) -> str:
    if cell.next_state != "D":
        raise SimulationError(f"{cell.name}: the next state of a flip-flop must be D, it is {cell.next_state}")
    return next(pin for pin in cell.outputs if cell.pins[pin].function == cell.state)


def _truth(cell: Cell) -> int:
    return 0 if cell.state else truth_table(cell.pins[cell.outputs[0]].function, cell.inputs)


def _levels(gates: list[tuple[int, list[int], int]]) -> tuple[list[int], list[int]]:
    """Gates in topological order and the level of each."""
    driver = {gate[2]: g for g, gate in enumerate(gates)}
    fed: list[list[int]] = [[] for _ in gates]
    waiting = [0] * len(gates)
    for g, (_, entered, _) in enumerate(gates):
        for net in set(entered):
            if net in driver:
                fed[driver[net]].append(g)
                waiting[g] += 1
    level = [0] * len(gates)
    ready = [g for g, count in enumerate(waiting) if count == 0]
    done = 0
    while done < len(ready):
        g = ready[done]
        done += 1
        for other in fed[g]:
            level[other] = max(level[other], level[g] + 1)
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    if done < len(gates):
        raise SimulationError(f"{len(gates) - done} gates form a combinational loop; correct the module")
    order = sorted(range(len(gates)), key=lambda g: level[g])
    return order, [level[g] for g in order]


def generic_size(module: dict[str, Any]) -> tuple[int, int, int, list[BlackBox]]:
    """Gates, flip-flops, depth and black boxes of a module that is mapped to Yosys' own gates."""
    gates, flips, boxes = [], 0, []
    for name, entry in module["cells"].items():
        pins, kind = entry["connections"], entry["type"]
        if not kind.startswith("$"):
            parameters = {key: int(value, 2) for key, value in entry.get("parameters", {}).items() if set(value) <= {"0", "1"}}
            boxes.append(BlackBox(kind, name, parameters))
        elif "Q" in pins:
            flips += 1
        else:
            gates.append((0, [bits[0] for pin, bits in pins.items() if pin != "Y" and isinstance(bits[0], int)], pins["Y"][0]))
    _, levels = _levels(gates)
    return len(gates), flips, max(levels, default=-1) + 1, boxes
