"""Damaged files of a fine-tuning are told in one line, folders of others stay as they are, and a trained state is never lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.emulation import EmulatedDecoder, EmulationConfig, Prices
from neuromorphic_llm.conversion.fine_tune import FineTuner
from neuromorphic_llm.conversion.fine_tune_config import FineTuneConfig
from neuromorphic_llm.conversion.straight_through import Surrogate
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.conversion.training_run import Watch, fine_tune
from neuromorphic_llm.conversion.training_state import TrainingLog
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.spiking import SpikingNetwork

CPU = torch.device("cpu")
RECIPE = FineTuneConfig(spikes=1.0, tokens=8 * 4 * 32, batch=4, window=32, learning_rate=1e-3, warmup=2, save_every=3, evaluate_every=4)


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return load_checkpoint("random-tiny")


@pytest.fixture(scope="module")
def network(tiny: Checkpoint) -> SpikingNetwork:
    return convert(tiny, ConvertConfig(spikes=1.0), [window[:256] for window in calibration_windows(tiny.tokenizer(), count=2)])


def tuner(checkpoint: Checkpoint, network: SpikingNetwork, folder: Path, recipe: FineTuneConfig = RECIPE) -> FineTuner:
    code = network.weights.code
    emulation = EmulationConfig(code.phases, code.query_phases, Surrogate(recipe.masked, recipe.activity))
    decoder = EmulatedDecoder(checkpoint.canonical, Prices.of(network.weights), emulation)
    return FineTuner(checkpoint, decoder, network.provenance["price"] * decoder.weights_total, recipe, CPU, folder)


def story_run(tiny: Checkpoint, folder: Path, recipe: FineTuneConfig = RECIPE, watch: Watch | None = None, own: int = 60) -> SpikingNetwork:
    story = (Path(__file__).parents[1] / "models" / "story.txt").read_text()
    found = fine_tune(tiny, [story * 20], recipe, folder, own_tokens=own, device=CPU, watch=watch)
    assert found is not None
    return found


def change(path: Path, edit: Callable[[dict[str, torch.Tensor]], object], about: str | None = None) -> None:
    """Edit the tensors of a file, or replace its metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata if about is None else dict.fromkeys(metadata, about))


def nothing(_tensors: dict[str, torch.Tensor]) -> None:
    """Leave the tensors."""


STATE_DAMAGE: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str | None, str]] = {
    "no weights": (lambda t: t.pop("decoder.final_gain"), None, "it lacks decoder.final_gain"),
    "no moment": (lambda t: t.pop("optimizer.0.1.exp_avg"), None, "it lacks optimizer.0.1.exp_avg"),
    "shape": (lambda t: t.update({"decoder.final_gain": torch.ones(3)}), None, r"decoder.final_gain has the shape \[3\], not"),
    "moment's shape": (lambda t: t.update({"optimizer.0.1.exp_avg": torch.ones(3)}), None, "optimizer.0.1.exp_avg has the shape"),
    "NaN": (lambda t: t["decoder.final_gain"].fill_(torch.nan), None, "decoder.final_gain has values that are no finite numbers"),
    "list": (nothing, "[]", "its metadata 'progress' is no JSON object"),
    "no recipe": (nothing, "{}", "it lacks its recipe"),
    "no step": (nothing, json.dumps({"recipe": RECIPE.to_json()}), "elapsed_s must be a number"),
}


@pytest.mark.parametrize("damage", STATE_DAMAGE)
def test_damaged_states_are_told(tiny: Checkpoint, network: SpikingNetwork, tmp_path: Path, damage: str) -> None:
    first = tuner(tiny, network, tmp_path)
    for optimizer in first.optimizers:
        for parameter in first.decoder.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    first.save()
    edit, about, message = STATE_DAMAGE[damage]
    assert tuner(tiny, network, tmp_path).load()
    change(tmp_path / "state.safetensors", edit, about)
    with pytest.raises(ConversionError, match=rf"state.safetensors is damaged \({message}.*\); remove it to train from the start"):
        tuner(tiny, network, tmp_path).load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"step": 1, "loss": 1.0}\n{bad}\n', "line 2: Expecting property name"),
        (b"\xff\xfe\n", "'utf-8' codec"),
        (b'{"loss": 1.0}\n', "line 1: step must be a number"),
        (b"torn\n" + b'{"step": 1}\n', "line 1: "),
        (b'{"step": 1, "loss": "low"}\n', "line 1: "),
    ],
)
def test_damaged_logs_are_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=rf"log.jsonl is damaged \({message}.*\); remove it to go on without"):
        TrainingLog(path, 3)
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')  # a last line that was cut is none
    assert TrainingLog(path, 3).last_loss() == 0.5 and path.read_text() == '{"step": 1, "loss": 0.5}\n'


@pytest.fixture(scope="module")
def started(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that was cut before its first step."""

    def interrupt(_perplexity: float) -> None:
        raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("started")
    with pytest.raises(KeyboardInterrupt):
        story_run(tiny, folder, watch=Watch(dense=interrupt), own=0)
    return folder


RUN_DAMAGE: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], object], str | None, str]] = {
    "no held_out": ("text", lambda t: t.pop("held_out"), None, "it lacks held_out"),
    "text list": ("text", nothing, "[]", "its metadata 'about' is no JSON object"),
    "text numbers": ("text", nothing, "{}", "text_tokens must be a number"),
    "vocabulary": ("text", lambda t: t["windows"].fill_(10**6), None, "windows have tokens outside the vocabulary of "),
    "width": ("text", lambda t: t.update(held_out=torch.zeros(2, 5, dtype=torch.int32)), None, "held_out are no windows of 32 tokens"),
    "no site": ("start", lambda t: t.pop("sites.1"), None, "it lacks sites.1"),
    "start list": ("start", nothing, "[]", "its metadata 'about' is no JSON object"),
    "no options": ("start", nothing, '{"price": 1.0}', "it lacks its options"),
    "start shape": ("start", lambda t: t.update({"sites.0": torch.ones(3)}), None, r"sites.0 has the shape \[3\]"),
    "start NaN": ("start", lambda t: t["queries.0"].fill_(torch.nan), None, "queries.0 has values that are no finite numbers"),
}


@pytest.mark.parametrize("damage", RUN_DAMAGE)
def test_damaged_beginnings_are_told(tiny: Checkpoint, started: Path, tmp_path: Path, damage: str) -> None:
    name, edit, about, message = RUN_DAMAGE[damage]
    folder = shutil.copytree(started, tmp_path / "run")
    change(folder / f"{name}.safetensors", edit, about)
    with pytest.raises(ConversionError, match=rf"{name}.safetensors is damaged \({message}.*\); remove "):
        story_run(tiny, folder, own=0)


def test_a_folder_without_what_was_asked_for(tiny: Checkpoint, started: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(started, tmp_path / "run")
    for content in ("[]", "{}", "{bad"):
        (folder / "run.json").write_text(content)
        with pytest.raises(ConversionError, match=r"run.json is damaged \(.*\); remove .*run to begin anew"):
            story_run(tiny, folder, own=0)
    (folder / "run.json").unlink()
    with pytest.raises(ConversionError, match=r"run.json is missing, which says what text.safetensors .*; remove .*run to begin anew"):
        story_run(tiny, folder, own=0)


def test_other_folders_stay_as_they_are(tiny: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "own-text.txt").write_text("mine")
    with pytest.raises(ConversionError, match="holds other files; choose an empty folder or a new one for --state"):
        story_run(tiny, tmp_path)
    with pytest.raises(ConversionError, match="do not fill two windows"):
        fine_tune(tiny, ["Once"], RECIPE, tmp_path / "new" / "state", device=CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["own-text.txt"]


@pytest.mark.slow
def test_the_state_outlives_a_network_that_cannot_be_made(tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unmet(*_: object) -> None:
        raise ConversionError("1 spikes per activation cannot be met: the search ended at 0.9; ask for fewer")

    monkeypatch.setattr("neuromorphic_llm.conversion.training_run.meet_spikes", unmet)
    with pytest.raises(ConversionError, match=r"ended at 0.9; the trained state stays in .*, a run in another state folder"):
        story_run(tiny, tmp_path, replace(RECIPE, tokens=2 * 4 * 32), own=0)
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["progress"])["step"] == 2
