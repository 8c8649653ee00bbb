"""`nmllm export`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.interchange import nir_check
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.random_decoder import random_decoder

pytest.importorskip("nir", reason="needs the extra interchange")
pytest.importorskip("nirtorch", reason="needs the extra interchange")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "network"
    SpikingNetwork(random_decoder(seed=2)).save(folder)
    return folder


def test_sites_become_files(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["export", str(network), "--site", "layers.0.*", "--bits", "20", "-o", str(tmp_path / "nir"), "--json", str(tmp_path / "r.json")]
    assert run_command_line(line) == 0
    names = ["layers.0.qkv", "layers.0.output", "layers.0.gate_up", "layers.0.down"]
    assert sorted(path.name for path in (tmp_path / "nir").iterdir()) == sorted(f"{name}.nir" for name in names)
    result = json.loads((tmp_path / "r.json").read_text())
    assert [entry["site"] for entry in result["files"]] == names
    assert all(entry["compared"] is None and 0 < entry["phases"] <= 20 for entry in result["files"])
    shown = capsys.readouterr().out
    assert "layers.0.gate_up" in shown and "equal" not in shown


def test_files_do_not_go_beside_a_networks(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in network.iterdir())
    assert run_command_line(["export", str(network), "--site", "head", "--bits", "20", "-o", str(network)]) == 2
    assert "holds an artefact; give another folder" in " ".join(capsys.readouterr().err.split())
    assert sorted(path.name for path in network.iterdir()) == before


def test_the_check_compares_and_fails_on_a_difference(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("neuromorphic_llm.cli.export._tokens", lambda *_: [3, 5, 7])
    line = ["export", str(network), "--site", "head", "--bits", "20", "-o", str(tmp_path), "--check", "--json", str(tmp_path / "r.json")]
    assert run_command_line(line) == 0
    compared = json.loads((tmp_path / "r.json").read_text())["files"][0]["compared"]
    assert compared["tokens"] == 3 and compared["accumulators"] == 3 * 61 and compared["spikes"] > 0
    capsys.readouterr()
    execute = nir_check.execute

    def wrong(graph, x):  # type: ignore[no-untyped-def]
        graph.nodes["synapses"].weight[4] += 1
        return execute(graph, x)

    monkeypatch.setattr(nir_check, "execute", wrong)
    assert run_command_line(line) == 1
    error = capsys.readouterr().err
    assert "head.nir is not what the network does: head, token 0, output 4" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 1, "NIR cannot say the whole network: row"),
        (["--site", "layers.1.mixed"], 1, "NIR cannot say layers.1.mixed"),
        (["--site", "layers.7.qkv"], 2, "matches no site"),
        (["--site", "head", "--format", "onnx"], 2, "formats are nir"),
        (["--site", "head", "--bits", "40"], 2, "2..32"),
        (["--site", "head", "--check"], 1, "no tokenizer"),
    ],
)
def test_what_cannot_be_is_one_line(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    assert run_command_line(["export", str(network), "-o", str(tmp_path / "nir"), *options]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "nir").exists()


@pytest.mark.parametrize(("missing", "options"), [("nir", []), ("snntorch", ["--check"])])
def test_missing_libraries_are_named(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str, options: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr("neuromorphic_llm.cli.export._tokens", lambda *_: [3, 5, 7])
    assert run_command_line(["export", str(network), "--site", "head", "--bits", "20", "-o", str(tmp_path), *options]) == 1
    error = capsys.readouterr().err
    assert missing in error and "pip install 'neuromorphic-llm[interchange]'" in error and error.count("\n") == 1
