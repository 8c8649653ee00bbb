"""Chip specifications from names and files."""

import re
import textwrap
from pathlib import Path

import pytest

from neuromorphic_llm.chip.field_table import field_tables
from neuromorphic_llm.chip.flat_names import FLAT_NAMES
from neuromorphic_llm.chip.load import known_chips, load_spec
from neuromorphic_llm.chip.parameter import FieldError
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.devices.exact import Exact
from neuromorphic_llm.errors import CompileError, UsageError


def test_nc1_is_the_default_specification() -> None:
    assert load_spec("nc1") == ChipSpec("nc1")


def test_known_chips_load_and_have_every_kind_of_tile() -> None:
    assert known_chips() == ["nano", "nano2", "nc1", "nc2"]
    for name in known_chips():
        spec = load_spec(name)
        assert spec.name == name
        assert sorted([0, *spec.topology.vector_tiles(), *spec.topology.synapse_tiles()]) == list(range(spec.topology.tiles))


def test_file_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("clock_hz: 1000000000\nsynapse:\n  rows: 128\n")
    spec = load_spec(path)
    assert (spec.name, spec.synapse.rows, spec.synapse.columns, spec.clock_hz) == ("mine", 128, 256, 1e9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rows: "1, 2', "bad.yaml:1:12: not valid YAML"),
        ("rows: [1, 2", "bad.yaml:1: rows is a list, not a single value"),
        ("- 1", "expected a mapping"),
        ("synapse:\n  row: 3", "unknown field 'synapse.row'; did you mean 'synapse.rows'?"),
        ("rows: many", "synapse.rows must be an integer, got 'many'"),
        ("rows: true", "synapse.rows must be an integer, got True"),
        ("rows: 0", "synapse.rows is out of range: 0, expected 1 to 1,048,576; correct the field"),
        ("read_latency: -1", "readout.read_latency is out of range: -1, expected 0 to"),
        ("fifo_depth: 1000000", "noc.fifo_depth is out of range: 1000000, expected 1 to 256"),
        (f"clock_hz: {10**400}", "clock_hz is out of range"),
        ("color: red", "unknown field 'color'; leave it out"),
        ("clock_hz: fast", "clock_hz must be a number"),
        ("clock_hz: .nan", "clock_hz must be finite"),
        ("name: 3", "name must be text, got 3"),
        ("mesh_width: 100000", "the mesh holds at most"),
        ("cell_bits: 2", "synapse.cell_bits * synapse.slices must hold"),
    ],
)
def test_bad_file_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(CompileError) as error:
        load_spec(path)
    assert "bad.yaml" in str(error.value)
    assert message in str(error.value)
    assert "; " in str(error.value) and "\n" not in str(error.value)


def test_fields_without_sections(tmp_path: Path) -> None:
    """Files of earlier versions."""
    path = tmp_path / "old.yaml"
    path.write_text("\n".join(f"{name}: {load_spec('nano').value(field)}" for name, field in FLAT_NAMES.items()))
    assert load_spec(path) == load_spec("nano").with_fields({"name": "old"})
    path.write_text("synapse:\n  rows: 64\nrows: 64")
    with pytest.raises(CompileError, match=r"old.yaml:3: rows is there twice, first as synapse.rows in line 2; leave one of them out"):
        load_spec(path)


def test_from_json() -> None:
    spec = load_spec("nano")
    assert ChipSpec.from_json(spec.to_json()) == spec
    flat = {name: spec.value(path) for name, path in FLAT_NAMES.items()}
    assert ChipSpec.from_json({"name": "nano", **flat}) == spec
    for data, message in [
        ({}, "name is missing"),
        ({"name": "a", "rows": 64, "synapse": {"rows": 64}}, "synapse.rows is there twice"),
        ({"name": "a", "synapse": {"row": 64}}, "unknown field 'synapse.row'; did you mean 'synapse.rows'?"),
        ({"name": "a", "synapse": 64}, "synapse is a section"),
        ({"name": "a", "vector": {"lanes": 0}}, "vector.lanes is out of range"),
    ]:
        with pytest.raises(CompileError, match=re.escape(message)):
            ChipSpec.from_json(data)


def test_the_page_lists_every_field() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "chip.md"
    assert page.read_text().endswith(field_tables()), "print them with python -m neuromorphic_llm.chip.field_table"


def test_the_example_of_the_page(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "chip.md").read_text()
    example = tmp_path / "mine.yaml"
    example.write_text(textwrap.dedent("\n".join(line for line in page.splitlines() if line.startswith("    "))))
    assert load_spec(example) == ChipSpec("wide").with_fields({"mesh.width": 20, "synapse.cell_bits": 7, "synapse.slices": 1})


def test_converters_of_an_exact_read() -> None:
    spec = load_spec("nc1")
    assert (spec.readout.converter_bits, spec.converter_bits, spec.readout_circuit) == (None, 10, Exact())
    assert spec.with_fields({"readout.converter_bits": 12}).converter_bits == 12
    advice = "lower active_rows, or leave converter_bits out"
    needed = f"converter_bits is 9, and an exact read of 32 rows of 4-bit cells needs 10; {advice}"
    with pytest.raises(FieldError, match=f"^readout 'exact': {needed}$"):
        spec.with_fields({"readout.converter_bits": 9})
    with pytest.raises(
        FieldError, match=r"readout.kind must be one of exact, reread, membrane, membrane-energy, membrane-decay, got 'noisy'"
    ):
        spec.with_fields({"readout.kind": "noisy"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"synapse.rows": 16},
            "readout.active_rows is 32, and synapse.rows 16; set readout.active_rows to at most 16, or raise synapse.rows",
        ),
        ({"synapse.columns": 4}, "readout.column_mux is 8, and synapse.columns 4; set readout.column_mux to at most 4"),
        (
            {"vector.kv_bank_bytes": 262145},
            "vector.kv_bank_bytes is 262145, and vector.kv_bytes_per_engine 262144; set vector.kv_bank_bytes to at most 262144, or raise",
        ),
        ({"vector.memory_bank_bytes": 65537}, "vector.memory_bank_bytes is 65537, and vector.memory_bytes 65536; set"),
        ({"vector.kv_bank_bytes": 0}, "vector.kv_bank_bytes is out of range: 0, expected 1 to"),
        ({"noc.flit_bits": 48}, "noc.events_per_flit is 4, and a flit of 48 bits (noc.flit_bits) holds 3 events of 16; correct"),
        ({"noc.flit_bits": 31}, "noc.flit_bits is out of range: 31, expected 32 to"),
        ({"synapse.row": 3}, "unknown field 'synapse.row'; did you mean 'synapse.rows'?"),
        ({"synapse.colums": 3}, "unknown field 'synapse.colums'; did you mean 'synapse.columns'?"),
        ({"vector.rows": 3}, "unknown field 'vector.rows'; did you mean 'synapse.rows'?"),
        ({"synpase.rows": 3}, "unknown field 'synpase.rows'; did you mean 'synapse.rows'?"),
        ({"synapse.nano": 3}, "unknown field 'synapse.nano'; leave it out; docs/reference/chip.md lists all fields"),
        ({"readout": 3}, "readout is a section"),
    ],
)
def test_fields_that_do_not_go_together(changes: dict[str, int], message: str) -> None:
    with pytest.raises(FieldError, match=re.escape(message)):
        ChipSpec("a").with_fields(changes)


def test_a_bank_may_be_the_whole_memory() -> None:
    spec = ChipSpec("a").with_fields({"vector.kv_bank_bytes": 262144, "vector.memory_bank_bytes": 65536})
    assert (spec.vector.kv_bank_bytes, spec.vector.memory_bank_bytes) == (262144, 65536)


def test_wrong_names() -> None:
    with pytest.raises(UsageError, match="did you mean 'nc1'"):
        load_spec("nc11")
    with pytest.raises(UsageError, match=r"known chips: nano, nano2, nc1, nc2"):
        load_spec("something else")
    with pytest.raises(CompileError, match="No such file"):
        load_spec("missing.yaml")
