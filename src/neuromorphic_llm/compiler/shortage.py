"""A chip that is too small: all that it lacks at once, with fields of a chip that would do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from neuromorphic_llm.chip.parameter import FieldError
from neuromorphic_llm.chip.spec import LARGEST_MESH, ChipSpec
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.errors import CompileError

_MOST_STEPS = 64
_PERIODS = range(2, 65)
_CLOSE = 4
"""A mesh with the chip's own period may be so many times as large as one with the best period."""


class ShortageError(CompileError):
    """The chip has too little of something; `changes` are fields, by path, with which this shortage is gone."""

    def __init__(self, message: str, changes: Mapping[str, int]) -> None:
        super().__init__(message)
        self.changes = dict(changes)


def all_shortages(module: Module, first: ShortageError, attempt: Callable[[Module], object]) -> CompileError:
    """One error for every shortage of a module's chip: `attempt` compiles with a chip that lacks what was found so far no more."""
    error, spec = first, module.spec
    found: dict[tuple[str, ...], str] = {}
    changes: dict[str, int] = {}
    for _ in range(_MOST_STEPS):
        found[tuple(sorted(error.changes))] = str(error)
        changes |= error.changes
        try:
            spec = spec.with_fields(error.changes)
            attempt(replace(module, spec=spec))
        except ShortageError as another:
            error = another
        except (FieldError, CompileError) as end:
            return CompileError(f"{_listed(found, module.spec)}; no chip file can make up for it ({end})")
        else:
            fields = ", ".join(f"{name}: {value}" for name, value in sorted(changes.items()))
            return CompileError(f"{_listed(found, module.spec)}; it fits with {fields}")
    return CompileError(f"{_listed(found, module.spec)}; no fields were found with which it fits")


def _listed(found: Mapping[tuple[str, ...], str], spec: ChipSpec) -> str:
    messages = list(found.values())
    if len(messages) == 1:
        return messages[0]
    listed = "; ".join(f"({number}) {message}" for number, message in enumerate(messages, 1))
    return f"chip {spec.name} is too small in {len(messages)} ways: {listed}"


def larger_mesh(spec: ChipSpec, synapse: int, vector: int) -> dict[str, int]:
    """Fields of a mesh with so many synapse and vector tiles; more crossbars in a tile if none has as many."""
    own = _tiles(spec.mesh.vector_period, spec.mesh.vector_offset, synapse, vector)
    best, period = min((_tiles(period, period // 2, synapse, vector), period) for period in _PERIODS)
    if min(own, best) > LARGEST_MESH:
        return {"synapse.crossbars": 2 * spec.synapse.crossbars}
    keeps = own <= min(_CLOSE * best, LARGEST_MESH)
    tiles = int(own if keeps else best)
    # As wide as it is, unless that would make a strip.
    width = spec.mesh.width if math.isqrt(tiles) // 2 < spec.mesh.width <= 2 * math.isqrt(tiles) else math.isqrt(tiles - 1) + 1
    if width * -(-tiles // width) > LARGEST_MESH:
        width = math.isqrt(LARGEST_MESH)
    mesh = {"mesh.width": width, "mesh.height": -(-tiles // width)}
    return mesh if keeps else {**mesh, "mesh.vector_period": period, "mesh.vector_offset": period // 2}


def _tiles(period: int, offset: int, synapse: int, vector: int) -> float:
    """Fewest tiles of a mesh whose every `period`-th one is a vector tile and that has enough of both kinds beside the host."""
    if period == 1:
        return math.inf
    first = offset if offset else period  # tile 0 is the host
    with_vector = first + 1 + period * (vector - 1)
    whole, rest = divmod(synapse, period - 1)
    with_synapse = max(synapse + 1, whole * period + rest - period)
    while _synapse_tiles(with_synapse, period, offset) < synapse:
        with_synapse += 1
    return max(with_vector, with_synapse)


def _synapse_tiles(tiles: int, period: int, offset: int) -> int:
    vector = max((tiles - 1 - offset) // period + 1, 0) - (offset == 0)
    return tiles - 1 - vector
