"""Area account: numbers of units times their areas, and memories, split by part (docs/reference/area.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuromorphic_llm.area.components import GROUPS, PARTS
from neuromorphic_llm.area.prices import load_areas, numbers, unit_areas
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.energy.bit_serial import bit_serial_memories
from neuromorphic_llm.energy.constants import Constant, Range, load_constants
from neuromorphic_llm.energy.digital import ARRAYS
from neuromorphic_llm.energy.memories import Memory, chip_memories

_MM2 = 1e6
"""Square millimetres of a square metre."""


@dataclass(frozen=True)
class Area:
    """Area in mm2 by part."""

    parts: Mapping[str, Range]

    @property
    def total(self) -> Range:
        """Sum of all parts, mm2."""
        return Range.total(list(self.parts.values()))


def chip_area(program: Program, *, constants: Mapping[str, Constant] | None = None) -> Area:
    """Area of the whole chip of a program, tiles without work included; its memories have the sizes of the account of energy."""
    return _account("chip", program, chip_memories(program), constants)


def rival_areas(program: Program, *, constants: Mapping[str, Constant] | None = None) -> dict[str, Area]:
    """Area of the arrays that hold the program's network, by their names in results (energy.rivals.RIVALS; no FP16 unit is known here)."""
    config, spec = program.weights.config, program.spec
    memories = {name: array.memories(config, spec) for name, array in ARRAYS.items() if name in PARTS}
    memories["bit_serial_crossbar"] = bit_serial_memories(config, spec)
    return {name: _account(name, program, own, constants) for name, own in memories.items()}


def _account(name: str, program: Program, memories: Mapping[str, Memory], constants: Mapping[str, Constant] | None) -> Area:
    found, areas = numbers(program), unit_areas(program, load_areas() if constants is None else constants)
    parts = {
        part: Range.total([component.area(found, areas) for group in groups for component in GROUPS[group]]) * _MM2
        for part, groups in PARTS[name].items()
    }
    sizes = load_constants()
    # Registers are components: their logic is synthesised with them.
    return Area(parts | {"sram": Range.total([each.area(sizes) * each.count for each in memories.values() if not each.registers]) * _MM2})


def area_figures(program: Program) -> dict[str, Any]:
    """Figures of formats.md: `area_mm2`, `area_breakdown_mm2` and `rival_area_mm2`."""
    own = chip_area(program)
    return {
        "area_mm2": own.total.to_json(),
        "area_breakdown_mm2": {part: area.to_json() for part, area in own.parts.items()},
        "rival_area_mm2": {name: area.total.to_json() for name, area in rival_areas(program).items()},
    }
