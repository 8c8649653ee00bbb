"""Program folders: round trip and damage."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromorphic_llm import artefact
from neuromorphic_llm.chip.flat_names import FLAT_NAMES
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.program_io import FORMAT, VERSION, load_program, save_program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.errors import ArtefactError
from neuromorphic_llm.reference.random_decoder import random_decoder


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_network(random_decoder(1, bias=True), load_spec("nano"), network_hash="abc", tokenizer_files={"tokenizer.json": b"{}"})


def test_round_trip(program: Program, tmp_path: Path) -> None:
    save_program(program, tmp_path / "program")
    loaded = load_program(tmp_path / "program")
    for field in ("spec", "stages", "max_context", "network_hash", "report", "tokenizer_files"):
        assert getattr(loaded, field) == getattr(program, field)
    np.testing.assert_array_equal(loaded.route_masks, program.route_masks)
    np.testing.assert_array_equal(loaded.route_sources, program.route_sources)
    np.testing.assert_array_equal(loaded.routes.spike, program.routes.spike)
    assert loaded.routes.token == program.routes.token
    assert loaded.weights.config == program.weights.config
    for site in range(len(program.weights.config.sites)):
        ours, theirs = program.weights.site(site), loaded.weights.site(site)
        np.testing.assert_array_equal(loaded.weights_t[site], program.weights_t[site])
        assert loaded.weights_t[site].flags.c_contiguous
        assert np.shares_memory(loaded.weights_t[site], theirs.weight)
        np.testing.assert_array_equal(theirs.weight, ours.weight)
        assert (theirs.bias is None) == (ours.bias is None)


def test_programs_of_earlier_versions(program: Program, tmp_path: Path) -> None:
    """Their chip has fields without sections."""
    save_program(program, tmp_path)
    metadata, arrays = artefact.load_artefact(tmp_path, format_name=FORMAT, version=VERSION)
    metadata["spec"] = {name: program.spec.value(path) for name, path in FLAT_NAMES.items()} | {"name": "nano"}
    for key in ("format", "version", "files", "content_hash"):
        del metadata[key]
    artefact.save_artefact(tmp_path, format_name=FORMAT, version=1, metadata=metadata, arrays=arrays)
    assert load_program(tmp_path).spec == program.spec


def test_second_save_replaces(program: Program, tmp_path: Path) -> None:
    first = save_program(program, tmp_path / "program")
    assert save_program(program, tmp_path / "program") == first
    assert [path.name for path in tmp_path.iterdir()] == ["program"]


def test_foreign_folder_is_not_overwritten(program: Program, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(ArtefactError, match="choose another output folder"):
        save_program(program, tmp_path)


def test_truncated_and_damaged_tensors(program: Program, tmp_path: Path) -> None:
    save_program(program, tmp_path / "program")
    tensors = tmp_path / "program" / artefact.TENSORS
    content = tensors.read_bytes()
    for damaged in (content[:-100], content[:-1] + bytes([content[-1] ^ 1]), b""):
        tensors.write_bytes(damaged)
        with pytest.raises(ArtefactError, match="damaged"):
            load_program(tmp_path / "program")
    tensors.unlink()
    with pytest.raises(ArtefactError, match="holds no tensors"):
        load_program(tmp_path / "program")


def test_missing_newer_and_other_folders(program: Program, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is not a folder"):
        load_program(tmp_path / "nothing")
    save_program(program, tmp_path / "program")
    path = tmp_path / "program" / artefact.METADATA
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "version": VERSION + 1}))
    with pytest.raises(ArtefactError, match="newer than the supported"):
        load_program(tmp_path / "program")
    path.write_text(json.dumps({**metadata, "format": "neuromorphic-llm-network"}))
    with pytest.raises(ArtefactError, match="not neuromorphic-llm-program"):
        load_program(tmp_path / "program")
    path.write_text(path.read_text()[:50])
    with pytest.raises(ArtefactError, match="damaged"):
        load_program(tmp_path / "program")


def _rewrite(folder: Path, change: Any) -> None:
    """Save the artefact again with changed metadata or tensors (under the key `arrays`) and a right hash."""
    metadata, arrays = artefact.load_artefact(folder, format_name=FORMAT, version=VERSION)
    for key in ("format", "version", "files", "content_hash"):
        del metadata[key]
    metadata["arrays"] = arrays
    change(metadata)
    del metadata["arrays"]
    artefact.save_artefact(folder, format_name=FORMAT, version=VERSION, metadata=metadata, arrays=arrays)


def _first_region(metadata: dict[str, Any]) -> dict[str, Any]:
    region: dict[str, Any] = metadata["stages"][0]["sites"]["layers.0.qkv"][0]
    return region


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda metadata: metadata.pop("stages"), "'stages' is missing"),
        (lambda metadata: metadata["spec"]["synapse"].update(rows=0), "synapse.rows is out of range: 0, expected 1 to"),
        (lambda metadata: metadata["spec"]["synapse"].update(rows="64"), "synapse.rows must be an integer, got '64'"),
        (lambda metadata: metadata["spec"]["noc"].update(fifo_depth=10**9), "noc.fifo_depth is out of range"),
        (lambda metadata: metadata["spec"].update(color="red"), "unknown field 'color'"),
        (lambda metadata: metadata["spec"]["mesh"].update(width=9, height=7), "taken or no"),
        (lambda metadata: metadata["spec"]["synapse"].update(crossbars=1), "crossbars, a tile of chip nano has 1"),
        (lambda metadata: metadata["spec"]["synapse"].update(max_phases=13), "a code of 14 phases, chip nano takes 13"),
        (
            lambda metadata: (metadata["spec"]["readout"].update(kind="mine"), metadata.update(readout={"name": "mine"})),
            "unknown readout 'mine'; import the module or install",
        ),
        (lambda metadata: metadata.update(spec=[]), "expected fields of a chip"),
        (lambda metadata: metadata.update(max_context=10**12), "max_context is 1000000000000, expected an integer in 1..64"),
        (lambda metadata: metadata.update(max_context=-1), "max_context is -1"),
        (lambda metadata: metadata.update(max_context="64"), "max_context is '64'"),
        (lambda metadata: metadata.update(report=3), "not a complete program"),
        (lambda metadata: metadata["stages"].pop(), "2 stages, expected 3"),
        (lambda metadata: metadata["stages"][0].update(vector_tile=999), "outside the mesh"),
        (lambda metadata: metadata["stages"][0].update(vector_tile=-1), "outside the mesh"),
        (lambda metadata: metadata["stages"][0].update(vector_tile=3.0), "not made of integers"),
        (lambda metadata: metadata["stages"][0].update(vector_tile=0), "stage 0 lies on tile 0, which is taken or no vector tile"),
        (lambda metadata: metadata["stages"][0].update(program="norm 32"), "no list of instructions"),
        (lambda metadata: metadata["stages"][0]["program"].append("norm 32"), "stage 0 has 'norm 32' where its network needs 'nothing'"),
        (lambda metadata: metadata["stages"][2]["program"].pop(), "stage 2 has 'nothing' where its network needs 'send-token'"),
        (lambda metadata: _first_region(metadata).update(tile=metadata["stages"][1]["vector_tile"]), "taken or no synapse tile"),
        (lambda metadata: _first_region(metadata).update(outputs=-1), "do not cover"),
        (lambda metadata: _first_region(metadata).update(first_output=1), "do not cover"),
        (lambda metadata: _first_region(metadata).update(site=3), "not a complete program"),
        (lambda metadata: metadata["arrays"]["route_masks"].__setitem__((0, 5), 255), "route 0 (spike layers.0.qkv) is not the XY tree"),
        (lambda metadata: metadata["arrays"]["route_sources"].__setitem__(-1, -7), "(logits head.0) is not the XY tree"),
        (lambda metadata: metadata["stages"][0]["sites"]["layers.0.qkv"][0].update(columns=3), "do not cover"),
        (lambda metadata: metadata["stages"][0]["sites"]["layers.0.qkv"][0].pop("tile"), "tile"),
        (lambda metadata: metadata["arrays"].pop("route_masks"), "'route_masks' is missing"),
        (lambda metadata: metadata["arrays"].update(route_masks=metadata["arrays"]["route_masks"][:-1]), "route_masks is uint8"),
        (
            lambda metadata: metadata["arrays"].update(route_sources=metadata["arrays"]["route_sources"].astype(np.int64)),
            "route_sources is int64",
        ),
        (lambda metadata: metadata["arrays"].pop("head.weight_t"), "'head.weight_t' is missing"),
        (lambda metadata: metadata["arrays"].update({"head.multiplier": metadata["arrays"]["head.multiplier"][1:]}), "head.multiplier"),
    ],
)
def test_inconsistent_program(program: Program, tmp_path: Path, change: Any, message: str) -> None:
    save_program(program, tmp_path / "program")
    _rewrite(tmp_path / "program", change)
    with pytest.raises(ArtefactError) as error:
        load_program(tmp_path / "program")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["halt", "norm", "norm x", "norm 33", "add 32", "receive qkv 64"])
def test_a_line_that_is_not_the_instruction_of_its_place_is_refused(program: Program, tmp_path: Path, line: str) -> None:
    save_program(program, tmp_path / "program")
    _rewrite(tmp_path / "program", lambda metadata: metadata["stages"][1]["program"].__setitem__(1, line))
    with pytest.raises(ArtefactError, match=f"the program of stage 1 has '{line}' where its network needs 'norm 32'; compile the network"):
        load_program(tmp_path / "program")
