"""Chip files as YAML 1.2 has them, and those that are attacks or mistakes: one line with file, line and field."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.errors import CompileError


@pytest.mark.parametrize(
    ("text", "hertz"),
    [("5e8", 5e8), ("5E+8", 5e8), ("5.e8", 5e8), (".5e9", 5e8), ("500_000_000", 5e8), ("+5.0e+8", 5e8), ("0x1DCD6500", 5e8), ("3", 3.0)],
)
def test_numbers(tmp_path: Path, text: str, hertz: float) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"%YAML 1.2\n---\nclock_hz: {text}  # of the digital part\nrows: 0o100\n...\n")
    assert (load_spec(path).clock_hz, load_spec(path).synapse.rows) == (hertz, 64)


def test_what_yaml_offers_beside_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes('\ufeff{"name": "é 1", synapse: {rows: &a 64, columns: *a}}\n'.encode())
    spec = load_spec(path)
    assert (spec.name, spec.synapse.rows, spec.synapse.columns) == ("é 1", 64, 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: 64\ncolumns: 64\nrows: 128", "bad.yaml:3: field 'rows' is there twice, first in line 1; leave one of them out"),
        ("rows: 64\n'rows': 64", "bad.yaml:2: field 'rows' is there twice"),
        ("rows: 64\nclock_hz: 9" + "9" * 5000, "bad.yaml:2: clock_hz is out of range: 999999999999... has 5,001 digits"),
        ("clock_hz: 1e400", "bad.yaml:1: clock_hz must be finite, got inf"),
        ("clock_hz: -.inf", "bad.yaml:1: clock_hz must be finite, got -inf"),
        ("clock_hz: 0x" + "f" * 5000, "bad.yaml:1: clock_hz is out of range"),
        ("rows: 1e2", "bad.yaml:1: synapse.rows must be an integer, got 100.0"),
        ("rows: 64.0", "bad.yaml:1: synapse.rows must be an integer, got 64.0"),
        ("rows: '64'", "bad.yaml:1: synapse.rows must be an integer, got '64'"),
        ("rows: ٦٤", "bad.yaml:1: synapse.rows must be an integer, got '٦٤'"),
        ("rows: 064", "bad.yaml:1: rows begins with a zero (064), decimal or octal; write it without"),
        ("rows: 1:30", "bad.yaml:1: synapse.rows must be an integer, got '1:30'"),
        ("rows: yes", "bad.yaml:1: synapse.rows must be an integer, got True"),
        ("rows:", "bad.yaml:1: synapse.rows must be an integer, got None"),
        ("name: on", "bad.yaml:1: name must be text, got True"),
        ("name: " + "a" * 5000, "bad.yaml:1: name must be text, got 'aaaa"),
        ('name: "a\\nb"', "bad.yaml:1: name must be text, got 'a\\nb'"),
        ("\n\nrows: {a: 1}", "bad.yaml:3: rows is a mapping, not a single value"),
        ("rows:\n  - 1", "bad.yaml:1: rows is a list, not a single value"),
        ("rows: " + "[" * 50_000, "bad.yaml:1: rows is a list, not a single value"),
        ("rows: " + "{a: " * 12_000, "bad.yaml:1: rows is a mapping, not a single value"),
        ("[" * 50_000, "expected a mapping of field names to values"),
        ("? " * 30_000, "bad.yaml:1: a field's name is"),
        ("? [1, 2]\n: 3", "bad.yaml:1: a field's name is a list"),
        ("- " * 30_000, "expected a mapping"),
        ("rows: !!python/object/apply:os.system [id]", "bad.yaml:1: rows is a list"),
        (
            "rows: !!python/name:os.system x",
            "bad.yaml:1: rows has the tag 'tag:yaml.org,2002:python/name:os.system', which is not used here",
        ),
        ("rows: !!int '64'", "bad.yaml:1: rows has the tag"),
        ("rows: *a", "bad.yaml:1: rows is an alias of no value"),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]", "bad.yaml:1: a is a list"),
        ("<<: {rows: 1}", "bad.yaml:1: << is a mapping"),
        ("rows: 64\n---\nrows: 128", "bad.yaml:2: a second document begins"),
        ("rows: 64\ncolor: red", "bad.yaml:2: unknown field 'color'; leave it out"),
        ("a" * 5000 + ": 1", "expected a mapping"),
        ("a" * 1000 + ": 1", "bad.yaml:1: unknown field 'aaaa"),
        ("rows: 64\n\tcolumns: 64", "not valid YAML"),
        ("rows: \x01", "not valid YAML (special characters are not allowed)"),
        ("rows: 64\nmesh_width: 200\nmesh_height: 200", "bad.yaml:3: mesh.width * mesh.height is 40000"),
        ("rows: 64\nvector_offset: 8", "bad.yaml:2: mesh.vector_offset (8) must be below mesh.vector_period (8)"),
        ("synapse:\n  rows: 64\n  rows: 32", "bad.yaml:3: field 'synapse.rows' is there twice, first in line 2"),
        ("synapse:\n  rows: 64\nsynapse:\n  columns: 64", "bad.yaml:3: field 'synapse' is there twice, first in line 1"),
        ("synapse:\n  row: 64", "bad.yaml:2: unknown field 'synapse.row'; did you mean 'synapse.rows'?"),
        ("synapse:\n  rows: {a: 1}", "bad.yaml:2: synapse.rows is a mapping, not a single value"),
        ("synapse:\n  host:\n    latency: 3", "bad.yaml:2: synapse.host is a mapping, not a single value"),
        ("synapses:\n  rows: 64", "bad.yaml:1: unknown section 'synapses'; did you mean 'synapse'?"),
        ("synapse: 64", "bad.yaml:1: synapse is a section; write its fields below it"),
        ("synapse: [64]", "bad.yaml:1: synapse is a list, not a single value"),
        ("synapse:", "bad.yaml:1: synapse is a section; write its fields below it"),
        (
            "readout:\n  active_rows: 64\n  converter_bits: 8",
            "bad.yaml:3: readout 'exact': converter_bits is 8, and an exact read of 64 rows",
        ),
        ("", "expected a mapping"),
        ("# nothing", "expected a mapping"),
        ("rows", "expected a mapping"),
    ],
)
def test_one_line_with_file_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    begin = time.perf_counter()
    with pytest.raises(CompileError) as error:
        load_spec(path)
    assert message in str(error.value) and "; " in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 and "bad.yaml" in str(error.value)
    assert time.perf_counter() - begin < 10


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "rows: 64".encode("utf-16"), b"\x00" * 100])
def test_what_is_no_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(CompileError, match=r"not a text file|not valid YAML"):
        load_spec(tmp_path / "bad.yaml")


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(CompileError, match="cannot be read"):
        load_spec("a" * 300 + ".yaml")
