"""Checkouts compared by what their commands give: equal to themselves, differing where a leaf was changed."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import compare_checkouts
from checkout_fingerprint import REFUSED, Checkout, Fingerprint, by_meaning, fingerprint, folder_leaves
from checkout_speed import LIMIT, Run, compare_speed, ratio_of
from checkout_steps import VARIANTS, changed_chip, chip_field, model_steps
from compare_checkouts import ABSENT, compare
from neuromorphic_llm.artefact import save_artefact

ROOT = Path(__file__).parents[1]
SIDE: Fingerprint = {
    "nano/spikes-1.5/nano/simulate": {"cycles_total": 10, "wall_s": 1.0, "counters.decode.flits": 3},
    "nano/spikes-1.5/narrow-flits/simulate": {"token_ids[0]": 7, "counters.decode.flits": 3, "energy_breakdown_j.noc.low": 1e-9},
    "nano/spikes-1.5/convert": {"network_hash": "a", "artefact.version": 1, "tensors.embedding": "int16 [2] 0123"},
}


def changed(step: str, leaf: str, value: str | float | None) -> Fingerprint:
    side = copy.deepcopy(SIDE)
    side[step][leaf] = value
    return side


def test_equal_sides() -> None:
    result = compare(SIDE, copy.deepcopy(SIDE))
    assert not result.differences and sum(result.equal.values()) == 6  # without time, version and hash of the whole
    assert list(result.hashes.values()).count("") == 2


@pytest.mark.parametrize(
    ("step", "leaf", "value", "expected"),
    [
        ("nano/spikes-1.5/nano/simulate", "cycles_total", 11, None),
        ("nano/spikes-1.5/nano/simulate", "cycles_total", 10.0, None),  # another type
        ("nano/spikes-1.5/nano/simulate", "another", 1, None),
        ("nano/spikes-1.5/nano/simulate", "counters.decode.flits", 4, None),
        ("nano/spikes-1.5/narrow-flits/simulate", "counters.decode.flits", 12, "flits follow flit_bits"),
        ("nano/spikes-1.5/narrow-flits/simulate", "energy_breakdown_j.noc.low", 2e-9, "flits follow flit_bits"),
        ("nano/spikes-1.5/narrow-flits/simulate", "token_ids[0]", 8, None),
        ("nano/spikes-1.5/convert", "tensors.embedding", "int16 [2] 4567", None),
    ],
)
def test_changed_leaf_is_found(step: str, leaf: str, value: str | float, expected: str | None) -> None:
    result = compare(SIDE, changed(step, leaf, value))
    (difference,) = result.differences
    assert (difference.step, difference.leaf, difference.after, difference.expected) == (step, leaf, value, expected)
    assert difference.before == SIDE[step].get(leaf, ABSENT)
    assert (result.hashes["nano/spikes-1.5/convert"] == "different") == leaf.startswith("tensors.")


@pytest.mark.parametrize(
    ("step", "leaf"),
    [
        ("nano/spikes-1.5/nano/simulate", "wall_s"),
        ("nano/spikes-1.5/convert", "network_hash"),
        ("nano/spikes-1.5/convert", "artefact.version"),
    ],
)
def test_ignored_leaf_is_counted(step: str, leaf: str) -> None:
    result = compare(SIDE, changed(step, leaf, "other"))
    assert not result.differences and sum(result.ignored.values()) == 1


def test_step_that_one_side_refuses_is_one_difference() -> None:
    step = "nano/spikes-1.5/convert"
    refused = {**SIDE, step: {REFUSED: 1}}
    missing = {name: leaves for name, leaves in SIDE.items() if name != step}
    for side, after in ((refused, 1), (missing, ABSENT)):
        (difference,) = compare(SIDE, side).differences
        assert (difference.step, difference.leaf, difference.before, difference.after) == (step, REFUSED, 0, after)
    assert compare(refused, refused).refused == (step,)


def test_artefact_leaves_follow_every_tensor_and_field(tmp_path: Path) -> None:
    prints = []
    for number, (shift, last) in enumerate([(1, 3), (1, 3), (2, 3), (1, 4)]):
        arrays = {"weight": np.array([1, 2, last], np.int8)}
        save_artefact(tmp_path / str(number), format_name="f", version=1, metadata={"layers": [{"shift": shift}]}, arrays=arrays)
        prints.append({"nano/x": folder_leaves(tmp_path / str(number))})
    found = [[difference.leaf for difference in compare(prints[0], other).differences] for other in prints[1:]]
    assert found == [[], ["artefact.layers[0].shift"], ["tensors.weight"]]


def test_chips_are_changed_in_the_layout_that_they_have() -> None:
    flat = {"name": "nano", "flit_bits": 64, "rows": 64}
    sections = {"name": "nano", "links": {"flit_bits": 64}, "tile": {"rows": 64, "converter_bits": None}}
    changes = {"name": "narrow", "flit_bits": 16}
    assert changed_chip(flat, changes) == {"name": "narrow", "flit_bits": 16, "rows": 64}
    assert changed_chip(sections, changes) == {"name": "narrow", "links": {"flit_bits": 16}, "tile": {"rows": 64}}
    assert chip_field("links.flit_bits") == chip_field("flit_bits") == "flit_bits"


def test_chips_are_compared_by_meaning() -> None:
    flat = {"artefact.spec.mesh_width": 6, "artefact.spec.rows": 64, "artefact.stages[0].vector_tile": 3}
    sections = {"artefact.spec.mesh.width": 6, "artefact.spec.synapse.rows": 64, "artefact.stages[0].vector_tile": 3}
    exact = {"artefact.spec.readout.kind": "exact", "artefact.spec.readout.converter_bits": None}
    assert by_meaning(flat) == by_meaning({**sections, **exact}) == flat
    assert by_meaning({"chips[1].spec.readout.kind": "saturating"}) == {"chips[1].spec.readout_kind": "saturating"}


def test_steps_have_names_of_their_own() -> None:
    for model in ("nano", "random-tiny", "smollm2-135m"):
        names = [step.name for step in model_steps(model, model, ("nano", "nc1"), rtl=True)]
        assert len(names) == len(set(names))


def test_checkout_without_models_equals_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkout = Checkout(ROOT)
    checkout.check()
    told: list[str] = []
    side = fingerprint(checkout, (), tmp_path / "work", tell=told.append)
    assert told == list(side) and side["package/chips"]["chips[0].spec.flit_bits"] == 64
    assert not compare(side, copy.deepcopy(side)).differences
    known = {name for name in side["package/chips"] if name.startswith("chips[0].spec.")}
    assert {f"chips[0].spec.{field}" for changes in VARIANTS.values() for field in changes} <= known


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is no checkout"):
        compare_checkouts.open_side(tmp_path, sys.executable)
    (tmp_path / "side.json").write_text("{}")
    with pytest.raises(SystemExit, match="holds no fingerprint"):
        compare_checkouts.open_side(tmp_path / "side.json", sys.executable)


def test_ratios() -> None:
    def runs(*seconds: float) -> list[Run]:
        return [Run(wall_s, 0.5) for wall_s in seconds]

    ratio = ratio_of("conversion", runs(2.0, 1.0, 4.0), runs(2.2, 1.1, 8.0))
    assert (ratio.least, ratio.median, ratio.most, ratio.fastest) == pytest.approx((1.1, 1.1, 2.0, 1.1))
    assert ratio.slower and ratio.fastest > LIMIT and ratio.processor == 1
    assert not ratio_of("conversion", runs(1.0, 1.0, 1.0), runs(1.0, 2.0, 2.0)).slower  # the machine was busy


@pytest.mark.slow
def test_checkout_equals_itself(tmp_path: Path) -> None:
    """The command on a checkout twice, then against its fingerprint with one figure changed."""
    command = [sys.executable, str(ROOT / "benchmarks" / "compare_checkouts.py")]
    saved, result = tmp_path / "saved.json", tmp_path / "result.json"
    same = [*command, str(ROOT), str(ROOT), "--model", "random-tiny", "--save", str(saved), "--json", str(result)]
    subprocess.run(same, check=True)
    content = json.loads(result.read_text())
    assert not content["differences"] and content["equal"]["random-tiny/spikes-1.5/nano/simulate"] > 200
    side = json.loads(saved.read_text())
    side["fingerprint"]["random-tiny/spikes-1.5/nano/simulate"]["counters.decode.flits"] += 1
    saved.write_text(json.dumps(side))
    assert subprocess.run([*command, str(ROOT), str(saved), "--json", str(result)], check=False).returncode == 1
    (difference,) = json.loads(result.read_text())["differences"]
    assert difference["leaf"] == "counters.decode.flits" and difference["expected"] is None


@pytest.mark.slow
def test_speed_of_a_checkout_beside_itself(tmp_path: Path) -> None:
    measures = ("compile", "decoding", "event_simulation", "gpu_decoding")
    ratios = compare_speed(Checkout(ROOT), Checkout(ROOT), "random-tiny", tmp_path, measures, runs=1)
    assert [ratio.measure for ratio in ratios][:3] == list(measures[:3])
    assert all(0.1 < ratio.median < 10 for ratio in ratios)
