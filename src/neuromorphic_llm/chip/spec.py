"""ChipSpec: the one source of the chip's sizes, word lengths, clocks and latencies (docs/reference/timing.md)."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from neuromorphic_llm.errors import CompileError

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
            value = getattr(self, field.name)
            if field.name == "name":
                if type(value) is not str:
                    raise TypeError(f"name must be text, got {value!r}")
                continue
            _check_number(field.name, field.type == "int", value)
            least = 0 if field.name.endswith(("latency", "offset")) else 1
            most = _LARGEST.get(field.name, 1 << 20)
            if not least <= value <= most:
                raise ValueError(f"{field.name} is out of range: {value}, expected {least} to {most:,.0f}")
        if self.mesh_width * self.mesh_height > LARGEST_MESH:
            raise ValueError(f"mesh_width * mesh_height is {self.tiles}, the mesh holds at most {LARGEST_MESH} tiles")
        if self.vector_offset >= self.vector_period:
            raise ValueError(f"vector_offset ({self.vector_offset}) must be below vector_period ({self.vector_period})")
        if self.cell_bits * self.slices < 7:
            raise ValueError(f"cell_bits * slices must hold the 7 magnitude bits of a weight, got {self.cell_bits} * {self.slices}")

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
        known = [field.name for field in fields(cls)]
        for key in data:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                advice = f"did you mean {close[0]!r}?" if close else "leave it out; chip/configs/nc1.yaml lists all fields"
                raise CompileError(f"{source}: unknown field {str(key)!r}; {advice}")
        try:
            return cls(**data)
        except (TypeError, ValueError) as error:
            raise CompileError(f"{source}: {error}; correct the field, or leave it out for its default") from error


def _check_number(name: str, integer: bool, value: Any) -> None:
    """TypeError unless the value is a finite number, or an integer."""
    if isinstance(value, bool) or not isinstance(value, int if integer else (int, float)):
        raise TypeError(f"{name} must be {'an integer' if integer else 'a number'}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
