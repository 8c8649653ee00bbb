"""Liberty libraries: the groups that area, timing and energy before layout need.

A parser of its own: the one on PyPI is an alpha release under the GPL.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import DataError

Floats = NDArray[np.float64]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}();:,]|[^\s{}();:,"]+', re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_LOAD = "total_output_net_capacitance"
_TIME_UNITS = {"1ps": 1e-12, "10ps": 1e-11, "100ps": 1e-10, "1ns": 1e-9}
_POWER_UNITS = {"1pW": 1e-12, "1nW": 1e-9, "1uW": 1e-6, "1mW": 1e-3}
_CAPACITANCE_UNITS = {"ff": 1e-15, "pf": 1e-12}


@dataclass
class Group:
    """`name (arguments) { attributes, groups }`; a complex attribute is a list of its arguments."""

    name: str
    arguments: list[str]
    attributes: dict[str, str | list[str]] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def of(self, *names: str) -> list[Group]:
        """The groups of these names, in order."""
        return [group for group in self.groups if group.name in names]

    def text(self, name: str, default: str = "") -> str:
        """A simple attribute."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, str) else ",".join(value)

    def number(self, name: str, default: float = 0.0) -> float:
        """A simple attribute that is a number."""
        return float(self.text(name, str(default)))


def parse(text: str, where: str) -> Group:
    """The library group of a file. Raises DataError naming `where` if it is none."""
    tokens = _TOKEN.findall(_COMMENT.sub(" ", text.replace("\\\n", " ")))
    root = Group("", [])
    try:
        end = _statements(tokens, 0, root)
    except IndexError as error:
        raise DataError(f"{where}: the file ends within a group; take a whole liberty file") from error
    if end < len(tokens) or len(root.groups) != 1 or root.groups[0].name != "library":
        raise DataError(f"{where} is no liberty file: one library group is expected")
    return root.groups[0]


def _statements(tokens: list[str], at: int, group: Group) -> int:
    """Read statements into `group` up to the closing brace, or the end for the outermost one; returns where it stopped."""
    while at < len(tokens) and tokens[at] != "}":
        name = tokens[at]
        if name == ";":
            at += 1
        elif tokens[at + 1] == ":":
            end = at + 2
            while tokens[end] not in (";", "}"):
                end += 1
                if tokens[end - 1].startswith('"'):  # some files leave the semicolon out
                    break
            group.attributes[name] = " ".join(token.strip('"') for token in tokens[at + 2 : end])
            at = end
        elif tokens[at + 1] == "(":
            end = tokens.index(")", at)
            arguments = [token.strip('"') for token in tokens[at + 2 : end] if token != ","]
            at = end + 1
            if at < len(tokens) and tokens[at] == "{":
                inner = Group(name, arguments)
                group.groups.append(inner)
                at = _statements(tokens, at + 1, inner)
                if tokens[at] != "}":
                    raise IndexError
                at += 1
            else:
                group.attributes[name] = arguments
        else:
            at += 1
    return at


@dataclass(frozen=True)
class Table:
    """Values over input slew [s] and load [F]."""

    slews: Floats
    loads: Floats
    values: Floats  # [slews, loads]

    def at(self, slew: Floats | float, load: Floats | float) -> Floats:
        """Bilinear, going on in a straight line beyond the ends."""
        i, u = _place(self.slews, np.asarray(slew, np.float64))
        j, v = _place(self.loads, np.asarray(load, np.float64))
        k, m = np.minimum(i + 1, len(self.slews) - 1), np.minimum(j + 1, len(self.loads) - 1)
        low = self.values[i, j] * (1 - v) + self.values[i, m] * v
        high = self.values[k, j] * (1 - v) + self.values[k, m] * v
        return np.asarray(low * (1 - u) + high * u, np.float64)


def _place(axis: Floats, x: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Interval of x and its share of the way through it."""
    if len(axis) == 1:
        return np.zeros(x.shape, np.int64), np.zeros(x.shape)
    i = np.clip(np.searchsorted(axis, x, side="right") - 1, 0, len(axis) - 2)
    return i, (x - axis[i]) / (axis[i + 1] - axis[i])


@dataclass(frozen=True)
class Arc:
    """Delay and output slew [s] from an input (or clock) pin to an output."""

    related: str
    delays: tuple[Table, ...]  # rise, fall
    slews: tuple[Table, ...]


@dataclass(frozen=True)
class Energy:
    """Internal energy [J] of a transition of a pin, rise, fall, for an output because of `related`, in the states `when` (empty: all)."""

    related: str
    when: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Pin:
    """A pin of a cell."""

    name: str
    output: bool
    clock: bool
    capacitance: float
    function: str
    arcs: tuple[Arc, ...]
    setup: tuple[Table, ...]  # over own slew and the clock's
    energies: tuple[Energy, ...]


@dataclass(frozen=True)
class Cell:
    """A standard cell; area in um^2, leakage in W. `state` is the variable of a flip-flop, `next_state` its function."""

    name: str
    area: float
    leakage: float
    pins: dict[str, Pin]
    state: str = ""
    next_state: str = ""
    clock: str = ""

    @cached_property
    def inputs(self) -> list[str]:
        """Names of the input pins, in order."""
        return [pin.name for pin in self.pins.values() if not pin.output]

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the output pins, in order."""
        return [pin.name for pin in self.pins.values() if pin.output]


@dataclass(frozen=True)
class Library:
    """Cells of a file and the operating voltage [V]."""

    name: str
    voltage: float
    cells: dict[str, Cell]


class _Reader:
    """Units and table templates of a library."""

    def __init__(self, library: Group, where: str) -> None:
        self.library, self.where = library, where
        load_unit = library.attributes.get("capacitive_load_unit", ["1", "pf"])
        self.farad = float(load_unit[0]) * _CAPACITANCE_UNITS[str(load_unit[1]).lower()]
        self.second = _TIME_UNITS[library.text("time_unit", "1ns")]
        self.watt = _POWER_UNITS[library.text("leakage_power_unit", "1nW")]
        self.joule = self.farad  # the unit of internal energy is capacitance times squared volts
        self.templates = {group.arguments[0]: group for group in library.of("lu_table_template", "power_lut_template")}

    def table(self, group: Group, unit: float) -> Table:
        values = group.attributes["values"]
        rows = [_numbers(row) for row in (values if isinstance(values, list) else [values])]
        template = self.templates.get(group.arguments[0] if group.arguments else "", Group("", []))
        axes = []
        for number in (1, 2):
            text = group.text(f"index_{number}") or template.text(f"index_{number}")
            axes.append(np.array(_numbers(text) or [0.0]))
        matrix = np.array(rows, np.float64).reshape(-1) * unit
        if len(matrix) == 1:
            return Table(np.zeros(1), np.zeros(1), matrix.reshape(1, 1))
        if len(axes[1]) == 1 and template.text("variable_1") == _LOAD:
            axes = [np.zeros(1), axes[0]]
        matrix = matrix.reshape(len(axes[0]), len(axes[1]))
        if template.text("variable_2") != _LOAD and template.text("variable_1") == _LOAD and len(axes[0]) > 1:
            axes, matrix = axes[::-1], matrix.T
        loads = axes[1] * (self.farad if _LOAD in (template.text("variable_1"), template.text("variable_2")) else self.second)
        return Table(axes[0] * self.second, loads, matrix)

    def tables(self, group: Group, names: tuple[str, str], unit: float) -> tuple[Table, ...]:
        return tuple(self.table(inner, unit) for name in names for inner in group.of(name))

    def pin(self, group: Group, name: str) -> Pin:
        arcs: list[Arc] = []
        setup: list[Table] = []
        for timing in group.of("timing"):
            kind = timing.text("timing_type", "combinational")
            if kind in ("combinational", "rising_edge"):
                delays = self.tables(timing, ("cell_rise", "cell_fall"), self.second)
                slews = self.tables(timing, ("rise_transition", "fall_transition"), self.second)
                if delays and slews:
                    arcs.append(Arc(timing.text("related_pin"), delays, slews))
            elif kind == "setup_rising":
                setup += self.tables(timing, ("rise_constraint", "fall_constraint"), self.second)
        energies = [
            Energy(power.text("related_pin"), power.text("when"), self.tables(power, ("rise_power", "fall_power"), self.joule))
            for power in group.of("internal_power")
        ]
        return Pin(
            name=name,
            output=group.text("direction") == "output",
            clock=group.text("clock") == "true",
            capacitance=group.number("capacitance") * self.farad,
            function=group.text("function"),
            arcs=tuple(arcs),
            setup=tuple(setup),
            energies=tuple(energies),
        )

    def cell(self, group: Group) -> Cell:
        pins = {name: self.pin(pin, name) for pin in group.of("pin") for name in pin.arguments}
        flip_flop = next(iter(group.of("ff")), None)
        return Cell(
            name=group.arguments[0],
            area=group.number("area"),
            leakage=group.number("cell_leakage_power") * self.watt,
            pins=pins,
            state=flip_flop.arguments[0] if flip_flop else "",
            next_state=flip_flop.text("next_state") if flip_flop else "",
            clock=flip_flop.text("clocked_on") if flip_flop else "",
        )


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.replace(",", " ").split()]


def read_library(path: Path) -> Library:
    """Cells of a liberty file. Raises DataError naming the file if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name the folder of the libraries in NMLLM_PDK") from error
    group = parse(text, str(path))
    reader = _Reader(group, str(path))
    cells = [reader.cell(cell) for cell in group.of("cell")]
    return Library(group.arguments[0], group.number("nom_voltage"), {cell.name: cell for cell in cells})


def truth_table(function: str, inputs: list[str]) -> int:
    """Bit i is the value of a liberty function where input k is bit k of i; at most 6 inputs. ValueError for another language."""
    if len(inputs) > 6:
        raise ValueError(f"{function}: more than 6 inputs")
    masks = {name: sum(1 << i for i in range(64) if i >> k & 1) for k, name in enumerate(inputs)}
    text = re.sub(r"(\w+)\s*'", r"(~\1)", function).replace("!", "~").replace("*", "&").replace("+", "|")
    text = re.sub(r"(?<=[\w)])\s+(?=[\w(~])", "&", text.strip())

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
            return value(node.left) & value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return value(node.left) | value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
            return value(node.left) ^ value(node.right)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return ~value(node.operand) & (1 << 64) - 1
        if isinstance(node, ast.Name) and node.id in masks:
            return masks[node.id]
        if isinstance(node, ast.Constant) and node.value in (0, 1):
            return (1 << 64) - 1 if node.value else 0
        raise ValueError(f"{function}: not a function of {', '.join(inputs)}")

    return value(ast.parse(text, mode="eval").body)
