"""A chip that is too small: all shortages in one line, with fields that would do, which do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.compiler.shortage import ShortageError, _tiles, all_shortages, larger_mesh
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.random_decoder import random_decoder


@pytest.mark.parametrize(
    ("changes", "ways"),
    [
        ({"synapse.max_phases": 2}, 1),
        ({"synapse.accumulator_bits": 4}, 1),
        ({"vector.kv_bytes_per_engine": 1}, 1),
        ({"vector.memory_bytes": 16}, 1),
        ({"synapse.crossbars": 1}, 1),
        ({"synapse.columns": 1, "readout.column_mux": 1}, None),
        ({"synapse.rows": 1, "readout.active_rows": 1, "synapse.columns": 2, "readout.column_mux": 2, "synapse.crossbars": 1}, None),
        ({"mesh.width": 2, "mesh.height": 2}, 1),
        ({"mesh.width": 1, "mesh.height": 1}, 1),
        ({"mesh.width": 40, "mesh.height": 1}, None),
        ({"mesh.vector_period": 1, "mesh.vector_offset": 0}, 1),
        ({"mesh.vector_period": 900, "mesh.vector_offset": 0}, 1),
        ({"mesh.vector_period": 2, "mesh.vector_offset": 0, "mesh.width": 3, "mesh.height": 2}, 1),
        (
            {
                "synapse.max_phases": 1,
                "synapse.accumulator_bits": 3,
                "vector.kv_bytes_per_engine": 2,
                "vector.memory_bytes": 3,
                "mesh.width": 2,
                "synapse.rows": 4,
                "readout.active_rows": 4,
            },
            6,
        ),
    ],
)
def test_all_shortages_and_a_chip_that_fits(changes: dict[str, Any], ways: int | None) -> None:
    weights, spec = random_decoder(0), load_spec("nano").with_fields(changes)
    try:
        compile_network(weights, spec)
        assert ways is None
        return
    except CompileError as error:
        text = str(error)
    assert "\n" not in text and "it fits with " in text, text
    fields = {name: int(value) for name, value in re.findall(r"([\w.]+): (\d+)", text.rpartition("it fits with ")[2])}
    assert compile_network(weights, spec.with_fields(fields)).max_context >= 1
    found = re.search(r"is too small in (\d+) ways", text)
    if ways is not None:
        assert (int(found[1]) if found else 1) == ways, text
    # Nothing is suggested that the chip has already.
    assert all(spec.value(name) != value or name.startswith("mesh.") for name, value in fields.items())


def test_what_no_chip_file_can_make_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromorphic_llm.compiler.allocate.kv_bytes_per_token", lambda _: 1 << 50)
    with pytest.raises(CompileError, match=r"no chip file can make up for it \(vector.kv_bytes_per_engine is out of range"):
        compile_network(random_decoder(0), load_spec("nano").with_fields({"vector.kv_bytes_per_engine": 1}))


@pytest.mark.parametrize("period", [1, 2, 3, 8, 100])
@pytest.mark.parametrize(("synapse", "vector"), [(1, 1), (7, 1), (1, 7), (300, 31), (31, 300), (5000, 90)])
def test_meshes_hold_what_they_are_for(period: int, synapse: int, vector: int) -> None:
    for offset in {0, period // 2, period - 1}:
        spec = ChipSpec("a").with_fields({"mesh.vector_period": period, "mesh.vector_offset": offset})
        mesh = spec.with_fields(larger_mesh(spec, synapse, vector))
        assert len(mesh.topology.synapse_tiles()) >= synapse and len(mesh.topology.vector_tiles()) >= vector
        assert mesh.topology.tiles <= 16384


@pytest.mark.parametrize(
    ("ends_with", "message"),
    [
        (None, "no fields were found with which it fits"),
        (CompileError("a weight is too large"), "no chip file can make up for it (a weight is too large)"),
    ],
)
def test_shortages_without_an_end(ends_with: CompileError | None, message: str) -> None:
    weights = random_decoder(0)
    errors = iter([ShortageError("no room", {"vector.memory_bytes": 4096})])

    def attempt(_: Module) -> None:
        raise next(errors, ends_with or ShortageError("no room", {"vector.memory_bytes": 4096}))

    module = Module(build_graph(weights), weights, load_spec("nano"))
    error = all_shortages(module, ShortageError("no crossbars", {"synapse.crossbars": 24}), attempt)
    assert str(error) == f"chip nano is too small in 2 ways: (1) no crossbars; (2) no room; {message}"


def mesh(width: int, height: int, period: int | None = None) -> dict[str, int]:
    """Fields of a mesh, with a period of its own."""
    own = {} if period is None else {"mesh.vector_period": period, "mesh.vector_offset": period // 2}
    return {"mesh.width": width, "mesh.height": height} | own


@pytest.mark.parametrize(
    ("width", "period", "offset", "synapse", "vector", "fields"),
    [
        (8, 8, 3, 7, 1, mesh(3, 3)),  # 9 tiles: vector tile 3
        (2, 8, 3, 20, 2, mesh(5, 5)),  # 24 tiles; a strip of 2 is none to keep
        (3, 8, 3, 20, 2, mesh(3, 8)),
        (8, 8, 3, 20, 2, mesh(8, 3)),
        (9, 8, 3, 20, 2, mesh(5, 5)),
        (8, 8, 3, 8, 1, mesh(4, 3)),  # 10 tiles
        (8, 1, 0, 1, 6, mesh(4, 3, 2)),  # 12 tiles: every other one
        (8, 1, 0, 7, 3, mesh(4, 3, 4)),  # vector tiles 2, 6 and 10
        (8, 100, 3, 7, 3, mesh(4, 3, 4)),  # 204 tiles with its own period, more than four times as many
        (8, 22, 17, 7, 2, mesh(8, 5)),  # 40 tiles, four times the 10 of another period
        (8, 8, 3, 14000, 1, mesh(127, 126)),
        (100, 8, 3, 14330, 100, mesh(128, 128)),  # 164 rows of 100 would be too many
        (8, 8, 3, 16000, 1, mesh(128, 127, 64)),
        (128, 2, 1, 100, 8192, mesh(128, 128)),  # the largest mesh
        (256, 2, 1, 100, 8192, mesh(256, 64)),
        (128, 2, 1, 100, 8193, {"synapse.crossbars": 48}),
    ],
)
def test_larger_meshes(width: int, period: int, offset: int, synapse: int, vector: int, fields: dict[str, int]) -> None:
    changes = {"mesh.width": width, "mesh.vector_period": period, "mesh.vector_offset": offset, "synapse.crossbars": 24}
    assert larger_mesh(ChipSpec("a").with_fields(changes), synapse, vector) == fields


@pytest.mark.parametrize("period", [2, 3, 7])
@pytest.mark.parametrize("vector", [1, 2, 5])
def test_meshes_are_the_smallest(period: int, vector: int) -> None:
    """In rows of one tile each, tiles are counted one by one."""
    for offset in range(period):
        for synapse in range(1, 20):
            kinds = {False: 0, True: 0}
            tiles = 1  # the host
            while kinds[False] < synapse or kinds[True] < vector:
                kinds[tiles % period == offset] += 1
                tiles += 1
            assert _tiles(period, offset, synapse, vector) == tiles
