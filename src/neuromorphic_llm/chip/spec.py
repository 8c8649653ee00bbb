"""ChipSpec: the one source of the chip's sizes, word lengths, clocks and latencies (docs/reference/timing.md)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn

from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.registry import name_advice

LARGEST_MESH = 16384
"""Tiles of the largest mesh; route tables grow with it."""

_LARGEST = {
    "clock_hz": 1e12,
    "cell_bits": 16,
    "slices": 16,
    "max_phases": 256,
    "accumulator_bits": 64,
    "fifo_depth": 256,
    "kv_bytes_per_engine": 1 << 40,
    "vector_memory_bytes": 1 << 40,
}
"""Upper bounds; 2^20 for every other field."""


_LONGEST_NAME = 80


class FieldError(ValueError):
    """A field, or several that do not go together; `fields` are their names."""

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.fields = names


@dataclass(frozen=True)
class ChipSpec:
    """Parameters of one chip. Sizes in units, latencies in clock cycles, memory in bytes."""

    name: str
    clock_hz: float = 5.0e8
    mesh_width: int = 18
    mesh_height: int = 18
    vector_period: int = 8
    vector_offset: int = 4
    # synapse tiles
    crossbars_per_tile: int = 24
    rows: int = 256
    columns: int = 256
    cell_bits: int = 4
    slices: int = 2
    active_rows: int = 32
    column_mux: int = 8
    read_latency: int = 2
    output_latency: int = 8
    gate_latency: int = 12
    argmax_lanes: int = 16
    max_phases: int = 32
    accumulator_bits: int = 32
    # vector tiles
    vector_lanes: int = 32
    vector_latency: int = 4
    norm_latency: int = 88
    attention_engines: int = 4
    key_lanes: int = 64
    softmax_lanes: int = 32
    attend_latency: int = 24
    kv_bytes_per_engine: int = 262144
    vector_memory_bytes: int = 65536
    # network on chip
    fifo_depth: int = 4
    events_per_flit: int = 4
    flit_bits: int = 64
    # host tile
    host_latency: int = 32
    dram_latency: int = 50
    dram_bytes_per_cycle: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            check_field(field.name, getattr(self, field.name))
        if self.mesh_width * self.mesh_height > LARGEST_MESH:
            _refuse(f"mesh_width * mesh_height is {self.tiles}, the mesh holds at most {LARGEST_MESH} tiles", "mesh_width", "mesh_height")
        if self.vector_offset >= self.vector_period:
            what = f"vector_offset ({self.vector_offset}) must be below vector_period ({self.vector_period})"
            _refuse(what, "vector_offset", "vector_period")
        if self.cell_bits * self.slices < 7:
            what = f"cell_bits * slices must hold the 7 magnitude bits of a weight, got {self.cell_bits} * {self.slices}"
            _refuse(what, "cell_bits", "slices")

    @property
    def tiles(self) -> int:
        """Number of mesh positions."""
        return self.mesh_width * self.mesh_height

    @property
    def converter_bits(self) -> int:
        """Converter width that makes a read of `active_rows` rows exact."""
        return (2 * self.active_rows * ((1 << self.cell_bits) - 1)).bit_length()

    @property
    def route_bits(self) -> int:
        """Bits of a route: at least 512 routes, 8 for each tile if that is more, rounded up to a power of two (docs/reference/rtl.md)."""
        return max(9, (8 * self.tiles - 1).bit_length())

    @property
    def header_bits(self) -> int:
        """Bits that a flit carries beside its `flit_bits` of payload: route, flag and tag (docs/reference/rtl.md)."""
        return self.route_bits + 1 + 16

    def snake_order(self) -> list[int]:
        """Tile indices along the boustrophedon order: even rows left to right, odd rows right to left."""
        order = []
        for y in range(self.mesh_height):
            row = range(self.mesh_width) if y % 2 == 0 else range(self.mesh_width - 1, -1, -1)
            order += [y * self.mesh_width + x for x in row]
        return order

    def vector_tiles(self) -> list[int]:
        """Vector tiles in snake order (never the host tile 0)."""
        return [t for s, t in enumerate(self.snake_order()) if s % self.vector_period == self.vector_offset and t != 0]

    def synapse_tiles(self) -> list[int]:
        """Synapse tiles in snake order."""
        vector = set(self.vector_tiles())
        return [t for t in self.snake_order() if t != 0 and t not in vector]

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any], source: str = "chip specification") -> ChipSpec:
        """Inverse of to_json; CompileError naming `source` and the field on unknown, missing or invalid ones."""
        if not isinstance(data, dict):
            raise CompileError(f"{source}: expected fields of a chip and their values, got {type(data).__name__}; give name: value pairs")
        try:
            for key in data:
                unknown_field(key)
            return cls(**data)
        except (TypeError, ValueError) as error:
            raise CompileError(f"{source}: {error}") from error


def field_range(name: str) -> tuple[int, float]:
    """Least and largest value of a field that is a number."""
    return (0 if name.endswith(("latency", "offset")) else 1), _LARGEST.get(name, 1 << 20)


def unknown_field(name: object) -> None:
    """FieldError with the nearest name if ChipSpec has no such field."""
    known = [field.name for field in fields(ChipSpec)]
    if name not in known:
        shown = _shown(str(name))
        advice = name_advice(str(name), known, "leave it out; chip/configs/nc1.yaml lists all fields")
        raise FieldError(f"unknown field {shown}; {advice}")


def check_field(name: str, value: Any) -> None:
    """FieldError unless the value can be that of the field, whatever the others are."""
    if name == "name":
        if type(value) is not str or not value.strip() or not value.isprintable() or len(value) > _LONGEST_NAME:
            _refuse(f"name must be text, got {_shown(value)}", name)
        return
    integer = next(field.type == "int" for field in fields(ChipSpec) if field.name == name)
    if isinstance(value, bool) or not isinstance(value, int if integer else (int, float)):
        _refuse(f"{name} must be {'an integer' if integer else 'a number'}, got {_shown(value)}", name)
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(f"{name} must be finite, got {value}", name)
    least, most = field_range(name)
    if not least <= value <= most:
        shown = f"{value}" if abs(value) < 1e40 else "a number of more than 40 digits"
        _refuse(f"{name} is out of range: {shown}, expected {least} to {most:,.0f}", name)


def _shown(value: Any) -> str:
    """A wrong value as one short line."""
    text = repr(value)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def _refuse(what: str, *names: str) -> NoReturn:
    raise FieldError(f"{what}; correct the field, or leave it out for its default", *names)
