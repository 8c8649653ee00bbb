"""Chip specifications from names and files."""

from pathlib import Path

import pytest

from neuromorphic_llm.chip.load import known_chips, load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import CompileError, UsageError


def test_nc1_is_the_default_specification() -> None:
    assert load_spec("nc1") == ChipSpec("nc1")


def test_known_chips_load_and_have_every_kind_of_tile() -> None:
    assert known_chips() == ["nano", "nc1"]
    for name in known_chips():
        spec = load_spec(name)
        assert spec.name == name
        assert sorted([0, *spec.vector_tiles(), *spec.synapse_tiles()]) == list(range(spec.tiles))


def test_file_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("rows: 128\nclock_hz: 1000000000\n")
    spec = load_spec(path)
    assert (spec.name, spec.rows, spec.columns, spec.clock_hz) == ("mine", 128, 256, 1e9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rows: "1, 2', "bad.yaml:1:12: not valid YAML"),
        ("rows: [1, 2", "bad.yaml:1: rows is a list, not a single value"),
        ("- 1", "expected a mapping"),
        ("row: 3", "unknown field 'row'; did you mean 'rows'?"),
        ("rows: many", "rows must be an integer, got 'many'"),
        ("rows: true", "rows must be an integer, got True"),
        ("rows: 0", "rows is out of range: 0, expected 1 to 1,048,576; correct the field"),
        ("read_latency: -1", "read_latency is out of range: -1, expected 0 to"),
        ("fifo_depth: 1000000", "fifo_depth is out of range: 1000000, expected 1 to 256"),
        (f"clock_hz: {10**400}", "clock_hz is out of range"),
        ("color: red", "unknown field 'color'; leave it out"),
        ("clock_hz: fast", "clock_hz must be a number"),
        ("clock_hz: .nan", "clock_hz must be finite"),
        ("name: 3", "name must be text, got 3"),
        ("mesh_width: 100000", "the mesh holds at most"),
        ("cell_bits: 2", "cell_bits * slices must hold"),
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


def test_wrong_names() -> None:
    with pytest.raises(UsageError, match="did you mean 'nc1'"):
        load_spec("nc2")
    with pytest.raises(UsageError, match=r"known chips: nano, nc1"):
        load_spec("something else")
    with pytest.raises(CompileError, match="No such file"):
        load_spec("missing.yaml")
