"""Rescalings that change no prediction: small models of every family, rescaled, predict as before and convert as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import SETTINGS, family_model, saved

from exact_rescalings import ALL_SPIKES, INNER, Factors, divergence, one, part, random, rescaled, same, signs, with_canonical
from neuromorphic_llm.conversion import balance
from neuromorphic_llm.conversion.balance import balanced, converted_decoder, pair_shifts
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert, search_allocation
from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.conversion.text import default_text
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.generation.choice import log_probabilities
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint

TOKENS = 64
FACTOR = 2.5
"""Of the usual divergence: factors between powers of two stay, which leaves up to half a bit of a channel's weights."""
TEXT = default_text()[: 3 * TOKENS]
FEW = ConvertConfig(spikes=1.5)


def families(*quick: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    folder, loaded = tmp_path_factory.mktemp("families"), dict[str, Checkpoint]()

    def get(name: str) -> Checkpoint:
        if name not in loaded:
            loaded[name] = load_checkpoint(saved(family_model(name), folder / name))
        return loaded[name]

    return get


Usual = Callable[[str, ConvertConfig], float]


@pytest.fixture(scope="module")
def usual(checkpoints: Callable[[str], Checkpoint]) -> Usual:
    """Divergence of a family's network without any rescaling."""
    measured = dict[tuple[str, ConvertConfig], float]()

    def get(name: str, options: ConvertConfig) -> float:
        if (name, options) not in measured:
            checkpoint = checkpoints(name)
            measured[name, options] = divergence(checkpoint.canonical, checkpoint, options, windows_of(checkpoint))
        return measured[name, options]

    return get


def windows_of(checkpoint: Checkpoint) -> list[list[int]]:
    ids = checkpoint.tokenizer()(TEXT)["input_ids"]
    return [ids[start : start + TOKENS] for start in range(0, 3 * TOKENS, TOKENS)]


@torch.no_grad()
def logits(canonical: CanonicalDecoder, ids: list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return FloatDecoder(canonical, dtype=dtype)(torch.tensor([ids]))[0]


@pytest.mark.parametrize("name", [*SETTINGS, "nano", "random-tiny"])
def test_sane_models_are_left_alone(name: str, checkpoints: Callable[[str], Checkpoint]) -> None:
    checkpoint = checkpoints(name) if name in SETTINGS else load_checkpoint(name)
    assert balanced(checkpoint.canonical) is checkpoint.canonical
    converted = converted_decoder(checkpoint)
    assert converted.canonical is checkpoint.canonical and converted.content_hash == checkpoint.content_hash


@pytest.mark.model
@pytest.mark.slow
def test_smollm2_is_left_alone() -> None:
    canonical = load_checkpoint("smollm2-135m").canonical
    assert balanced(canonical) is canonical


def random_everywhere(canonical: CanonicalDecoder) -> CanonicalDecoder:
    changed = rescaled(canonical, INNER, random(3.0))
    return rescaled(rescaled(changed, ["stream"], same(0.003)), ["values", "hidden", "gains", "head"], signs())


@families("qwen3", "gemma2", "opt", "gptneox")
def test_everything_rescaled(name: str, checkpoints: Callable[[str], Checkpoint], usual: Usual) -> None:
    """Every freedom of the family at once: float predictions are transformers', those of the network as near to them as without."""
    checkpoint = checkpoints(name)
    windows = windows_of(checkpoint)
    changed = with_canonical(checkpoint, random_everywhere(checkpoint.canonical))
    found = balanced(changed.canonical)
    assert found is not changed.canonical and not found.config.tie_embeddings
    torch.testing.assert_close(logits(found, windows[2]), logits(changed.canonical, windows[2]), rtol=0, atol=1e-6)  # powers of two
    with torch.no_grad():
        dense = checkpoint.dense_model()(torch.tensor([windows[2]])).logits[0]
    torch.testing.assert_close(logits(found, windows[2]), dense, rtol=1e-4, atol=1e-4)
    assert divergence(checkpoint.canonical, changed, ALL_SPIKES, windows) < FACTOR * usual(name, ALL_SPIKES) + 1e-4


@families("qwen2")
def test_everything_rescaled_at_a_budget(name: str, checkpoints: Callable[[str], Checkpoint], usual: Usual) -> None:
    checkpoint = checkpoints(name)
    changed = with_canonical(checkpoint, random_everywhere(checkpoint.canonical))
    assert divergence(checkpoint.canonical, changed, FEW, windows_of(checkpoint)) < FACTOR * usual(name, FEW) + 1e-3


CASES: dict[str, tuple[list[str], Callable[[], Factors]]] = {
    "values of a head": (["values"], lambda: part(100.0)),
    "keys of a head": (["keys"], lambda: part(100.0)),
    "values of a head, smaller": (["values"], lambda: part(0.01)),
    "one value": (["values"], lambda: one(1024.0)),
    "one key": (["keys"], lambda: one(-100.0)),
    "one hidden": (["hidden"], lambda: one(1e4)),
    "one gain": (["gains"], lambda: one(-100.0)),
    "one final gain": (["head"], lambda: one(100.0)),
    "all larger": (list(INNER), lambda: same(1024.0)),
    "all smaller": (list(INNER), lambda: same(0.01)),
    "gains, a little": (["gains", "head"], lambda: random(1.0)),
    "stream smaller": (["stream"], lambda: same(0.01)),
    "stream larger": (["stream"], lambda: same(100.0)),
}


@pytest.mark.parametrize("options", [ALL_SPIKES, pytest.param(FEW, marks=pytest.mark.slow)], ids=["all spikes", "budget"])
@pytest.mark.parametrize("case", CASES)
def test_one_rescaling(case: str, options: ConvertConfig, checkpoints: Callable[[str], Checkpoint], usual: Usual) -> None:
    parts, factors = CASES[case]
    checkpoint = checkpoints("llama-linear")
    changed = with_canonical(checkpoint, rescaled(checkpoint.canonical, parts, factors()))
    found = divergence(checkpoint.canonical, changed, options, windows_of(checkpoint))
    assert found < FACTOR * usual("llama-linear", options) < 0.03


def rescaled_llama(model: Any) -> Any:
    """A Llama of transformers with its own modules rescaled: what a file would hold."""
    for layer in model.model.layers:
        attention, feed_forward = layer.self_attn, layer.mlp
        attention.v_proj.weight[:10] *= 100.0
        attention.o_proj.weight[:, :20] /= 100.0  # two query heads share the values of the first
        attention.k_proj.weight[10:] /= 100.0
        attention.q_proj.weight[20:] *= 100.0
        feed_forward.up_proj.weight[7] *= 1e3
        feed_forward.down_proj.weight[:, 7] /= 1e3
        layer.input_layernorm.weight[3] *= 100.0
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            linear.weight[:, 3] /= 100.0
    return model


def test_a_file_of_transformers(tmp_path: Path) -> None:
    plain = load_checkpoint(saved(family_model("llama-linear"), tmp_path / "plain"))
    changed = load_checkpoint(saved(rescaled_llama(family_model("llama-linear")), tmp_path / "changed"))
    windows = windows_of(plain)
    with torch.no_grad():
        dense = plain.dense_model()(torch.tensor([windows[2]])).logits[0].double().log_softmax(-1)
        again = changed.dense_model()(torch.tensor([windows[2]])).logits[0].double().log_softmax(-1)
    torch.testing.assert_close(again, dense, rtol=0, atol=1e-4)
    found = []
    for checkpoint in (plain, changed):
        decoder = convert(checkpoint, ALL_SPIKES, windows[:2]).functional()
        spiking = log_probabilities(decoder.weights, decoder.forward(torch.tensor([windows[2]]))[0])
        found.append(float((dense.exp() * (dense - spiking)).sum(-1).mean()))
    assert found[1] < FACTOR * found[0] < 5e-3


def test_a_relu_with_a_partner(checkpoints: Callable[[str], Checkpoint]) -> None:
    """Gate and up have a freedom of their own."""
    canonical = checkpoints("llama-linear").canonical
    relu = CanonicalDecoder(replace(canonical.config, activation="relu"), canonical.tensors)
    tensors = dict(relu.tensors)
    factor = random(3.0)(52)
    for name, factors in (("gate", factor), ("up", 1 / factor)):
        tensors[f"model.layers.1.mlp.{name}_proj.weight"] = (tensors[f"model.layers.1.mlp.{name}_proj.weight"] * factors[:, None]).float()
    changed = CanonicalDecoder(relu.config, tensors)
    assert balanced(relu) is relu
    found = balanced(changed)
    ids = windows_of(checkpoints("llama-linear"))[0]
    torch.testing.assert_close(logits(found, ids), logits(changed, ids), rtol=0, atol=1e-6)
    sizes = [found.tensors[f"model.layers.1.mlp.{name}_proj.weight"].norm(dim=1) for name in ("gate", "up")]
    assert float((sizes[0] / sizes[1]).log2().abs().max()) < 2


def test_what_meets_a_zero_has_any_scale(checkpoints: Callable[[str], Checkpoint]) -> None:
    """A channel that nothing reads, or that is zero, may be as large as it likes on the other side."""
    checkpoint = checkpoints("llama-linear")
    tensors = {name: tensor.clone() for name, tensor in checkpoint.canonical.tensors.items()}
    prefix = "model.layers.1."
    tensors[prefix + "input_layernorm.weight"][4] = 0.0
    for name in ("q", "k", "v"):
        tensors[f"{prefix}self_attn.{name}_proj.weight"][:, 5] = 0.0
    tensors[prefix + "self_attn.v_proj.weight"][2] = 0.0
    tensors[prefix + "self_attn.o_proj.weight"][:, [3, 13]] = 0.0
    tensors[prefix + "mlp.down_proj.weight"][:, 6] = 0.0
    pruned = CanonicalDecoder(checkpoint.config, tensors)
    large = {name: tensor.clone() for name, tensor in tensors.items()}
    for name in ("q", "k", "v"):
        large[f"{prefix}self_attn.{name}_proj.weight"][:, 4] *= 1e5
    large[prefix + "input_layernorm.weight"][5] = 1e5
    large[prefix + "self_attn.o_proj.weight"][:, [2, 12]] *= 1e5
    large[prefix + "self_attn.v_proj.weight"][3] *= 1e5
    large[prefix + "mlp.up_proj.weight"][6] *= 1e5
    wild = CanonicalDecoder(checkpoint.config, large)
    windows = windows_of(checkpoint)
    torch.testing.assert_close(logits(wild, windows[2]), logits(pruned, windows[2]), rtol=0, atol=1e-4)
    usual = divergence(pruned, with_canonical(checkpoint, pruned), ALL_SPIKES, windows)
    assert divergence(pruned, with_canonical(checkpoint, wild), ALL_SPIKES, windows) < FACTOR * usual


def test_pair_shifts() -> None:
    ordinary = torch.linspace(-1, 1, 9, dtype=torch.float64)
    assert not pair_shifts(ordinary, 2 * ordinary, 0.0).any()
    wild = ordinary.clone()
    wild[4] += 10
    shift = pair_shifts(wild, ordinary, 0.0)
    assert float(shift[4]) == -5 and not shift[:4].any() and not shift[5:].any()
    assert (pair_shifts(ordinary + 14, ordinary, 0.0) == -7).all()  # all alike
    zero = ordinary.clone()
    zero[2] = -torch.inf
    assert not pair_shifts(zero, ordinary, 0.0).any() and not pair_shifts(zero, zero, 0.0).any()
    assert not pair_shifts(torch.full((3,), -torch.inf), torch.full((3,), -torch.inf), -1.0).any()


def test_calibrations_of_the_decoder_as_stored_are_refused(
    checkpoints: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an earlier version made has ranges and sensitivities of other channels."""
    checkpoint = checkpoints("llama-linear")
    windows = windows_of(checkpoint)
    changed = with_canonical(checkpoint, rescaled(checkpoint.canonical, ["values"], part(100.0)))
    new = calibrate_checkpoint(changed, windows[:2])
    convert(changed, ALL_SPIKES, windows[:2], calibration=new)
    with monkeypatch.context() as patch:
        patch.setattr(balance, "balanced", lambda canonical: canonical)
        old = calibrate_checkpoint(changed, windows[:2])
    options = ConvertConfig(spikes=1.5, allocation="teal")
    for use in (
        lambda: convert(changed, ALL_SPIKES, windows[:2], calibration=old),
        lambda: search_allocation(changed, options, windows, old),
    ):
        with pytest.raises(ConversionError, match="the calibration was made for another checkpoint"):
            use()
