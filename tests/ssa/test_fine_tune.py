"""Fine-tuning of spiking self-attention: it learns, goes on after a cut, and is safe against NaN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.ssa.config import SsaConfig, SsaTuneConfig
from neuromorphic_llm.ssa.fine_tune import STATE, SsaTuner, training_windows
from neuromorphic_llm.ssa.replace import Places, replaced


def tuner(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, recipe: SsaTuneConfig, folder: Path | None = None) -> SsaTuner:
    return SsaTuner(dense, replaced(dense, checkpoint.config, SsaConfig(4, True), windows.tolist()), recipe, folder)


@pytest.mark.parametrize("stage", ["layers", "end-to-end"])
def test_each_stage_learns(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, stage: str) -> None:
    steps = {"layer_steps": 12, "steps": 0} if stage == "layers" else {"layer_steps": 0, "steps": 12}
    recipe = SsaTuneConfig(**steps, batch=6, warmup=1, layer_learning_rate=1e-2, learning_rate=5e-3)
    figures = list(tuner(dense, checkpoint, windows, recipe).run(windows))
    assert [(f.step, f.stage) for f in figures] == [(number, stage) for number in range(1, 13)]
    assert figures[-1].loss < 0.8 * figures[0].loss
    assert figures[0].learning_rate == (1e-2 if stage == "layers" else 5e-3) and figures[-1].learning_rate < 1e-3


def test_stages_follow_each_other(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    own = tuner(dense, checkpoint, windows, SsaTuneConfig(layer_steps=2, steps=1, batch=2, warmup=1))
    assert [(f.stage, f.learning_rate) for f in own.run(windows)] == [
        ("layers", pytest.approx(1e-3)),
        ("layers", pytest.approx(0.5e-3)),
        ("end-to-end", pytest.approx(3e-4)),
    ]


def test_the_layer_loss_is_the_relative_square_error(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    own = tuner(dense, checkpoint, windows, SsaTuneConfig(layer_steps=1, steps=0, batch=6))
    with Places(dense).captured() as calls, torch.no_grad():
        dense(input_ids=windows, use_cache=False)
        outputs = [m(c.hidden, c.position_embeddings)[0] for m, c in zip(own.modules, calls, strict=True)]
    errors = [float((o - c.output).square().mean() / c.output.square().mean()) for o, c in zip(outputs, calls, strict=True)]
    assert next(own.run(windows)).loss == pytest.approx(sum(errors) / 2, rel=1e-5)


def test_the_last_loss_is_the_divergence(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    own = tuner(dense, checkpoint, windows, SsaTuneConfig(layer_steps=0, steps=1, batch=6))
    with torch.no_grad():
        p, q = (m(input_ids=windows, use_cache=False).logits.double().log_softmax(-1) for m in (dense, own.student))
    assert next(own.run(windows)).loss == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-4)


def test_a_cut_run_goes_on(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, tmp_path: Path) -> None:
    recipe = SsaTuneConfig(layer_steps=3, steps=3, batch=2, save_every=2)
    whole = tuner(dense, checkpoint, windows, recipe)
    losses = [f.loss for f in whole.run(windows)]
    first = tuner(dense, checkpoint, windows, recipe, tmp_path)
    assert not first.load()
    for figures in first.run(windows):
        if figures.step == 5:  # the state is that of step 4
            break
    second = tuner(dense, checkpoint, windows, recipe, tmp_path)
    assert second.load() and second.step == 4
    assert [f.loss for f in second.run(windows)] == losses[4:]
    for name, parameter in whole.named.items():
        assert torch.equal(parameter, second.named[name]), name
    third = tuner(dense, checkpoint, windows, recipe, tmp_path)
    assert third.load() and list(third.run(windows)) == []


def test_refuses_another_or_a_damaged_state(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, tmp_path: Path) -> None:
    recipe = SsaTuneConfig(layer_steps=1, steps=0, batch=2)
    list(tuner(dense, checkpoint, windows, recipe, tmp_path).run(windows))
    with pytest.raises(ConversionError, match="another recipe or model"):
        tuner(dense, checkpoint, windows, SsaTuneConfig(layer_steps=2, steps=0, batch=2), tmp_path).load()
    (tmp_path / STATE).write_bytes(b"nothing")
    with pytest.raises(ConversionError, match="damaged"):
        tuner(dense, checkpoint, windows, recipe, tmp_path).load()


DAMAGE: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "no parameter": (lambda t: t.pop("parameter.0.decode_gain"), "it lacks parameter.0.decode_gain"),
    "no moment": (lambda t: t.pop("optimizer.0.exp_avg"), "it lacks optimizer.0.exp_avg"),
    "shape": (lambda t: t.update({"optimizer.0.exp_avg": torch.ones(1, 1)}), "optimizer.0.exp_avg has the shape"),
    "NaN": (lambda t: t["parameter.0.decode_gain"].fill_(torch.nan), "parameter.0.decode_gain has values that are no finite numbers"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_states_are_told(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, tmp_path: Path, damage: str) -> None:
    recipe = SsaTuneConfig(layer_steps=1, steps=0, batch=2)
    own = tuner(dense, checkpoint, windows, recipe, tmp_path)
    list(own.run(windows))
    tensors = load_file(tmp_path / STATE)
    with safe_open(tmp_path / STATE, framework="pt") as file:
        metadata = file.metadata()
    edit, message = DAMAGE[damage]
    edit(tensors)
    save_file(tensors, tmp_path / STATE, metadata)
    with pytest.raises(ConversionError, match=rf"is damaged \({message}.*\); remove it to begin anew"):
        own.load()
    save_file(tensors, tmp_path / STATE, {"progress": "[]"})
    with pytest.raises(ConversionError, match="is no JSON object"):
        own.load()


def test_other_folders_are_refused(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for folder, message in ((tmp_path, "holds other files; choose an empty folder"), (tmp_path / "mine.txt", "cannot be read")):
        with pytest.raises(ConversionError, match=message):
            SsaTuner(dense, dense, SsaTuneConfig(), folder)


def test_gradients_that_are_not_finite_change_nothing(
    dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tuner(dense, checkpoint, windows, SsaTuneConfig(layer_steps=20, steps=0, batch=2))
    before = {name: p.clone() for name, p in own.named.items()}

    def broken(_ids: torch.Tensor) -> float:
        for parameter in own.named.values():
            parameter.grad = torch.full_like(parameter, float("nan"))
        return 1.0

    monkeypatch.setattr(own, "_layer_loss", broken)
    with pytest.raises(ConversionError, match="10 steps in a row have no finite gradient"):
        list(own.run(windows))
    assert own.step == 9 and all(torch.equal(before[name], p) for name, p in own.named.items())


def test_refuses_recipes_models_and_texts(dense: Any, checkpoint: Checkpoint) -> None:
    for change, name in (({"steps": -1}, "steps"), ({"batch": 0}, "batch"), ({"learning_rate": 0.0}, "learning_rate")):
        with pytest.raises(ValueError, match=name):
            SsaTuneConfig(**change)  # type: ignore[arg-type]
    with pytest.raises(ConversionError, match="no spiking self-attention"):
        SsaTuner(dense, dense, SsaTuneConfig())

    def tokenizer(text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) for character in text]}

    assert training_windows(tokenizer, "abcde", 2).tolist() == [[97, 98], [99, 100]]
    with pytest.raises(ConversionError, match="fewer than a window of 6"):
        training_windows(tokenizer, "abcde", 6)
