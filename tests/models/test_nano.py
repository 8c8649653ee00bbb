"""The built-in model `nano`: its files, its weights, its English, and its way through conversion, compiler and simulator."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.evaluation.language_model import encode_text, evaluate_text
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.models import fetch
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.models.files import read_folder
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.simulation.run import simulate

FOLDER = Path(str(resources.files("neuromorphic_llm.models") / "nano"))
RECIPE = json.loads((FOLDER / "recipe.json").read_text())
STORY = (Path(__file__).parent / "story.txt").read_text()
"""A story of our own, not part of the training data."""


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    return load_checkpoint("nano")


@pytest.fixture(scope="module")
def spiking(nano: Checkpoint) -> SpikingNetwork:
    return convert(nano, ConvertConfig(), calibration_windows(nano.tokenizer(), STORY))


def stored() -> dict[str, torch.Tensor]:
    return load_file(FOLDER / "model.safetensors")


def story_ids(checkpoint: Checkpoint) -> list[int]:
    ids: list[int] = checkpoint.tokenizer()(STORY)["input_ids"]
    return ids


def generated(nano: Checkpoint, prompt: str, new_tokens: int) -> str:
    """Greedy continuation, prompt included; a word cut off at the end is left out."""
    tokenizer = nano.tokenizer()
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    out = nano.dense_model().generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False)
    return str(tokenizer.decode(out[0], skip_special_tokens=True)).rpartition(" ")[0]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())


def test_the_files_are_small_and_those_of_the_recipe() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000
    assert {path.name for path in FOLDER.iterdir()} == {"recipe.json", *RECIPE["sha256"]}
    for name, sha256 in RECIPE["sha256"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == sha256


def test_loads_without_cache_or_network(nano: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("touches the network"))
    again = load_checkpoint("nano")
    assert again.name == "nano" and again.content_hash == nano.content_hash
    assert again.parameters == RECIPE["parameters"] < 500_000
    assert len(again.tokenizer()) == again.config.vocab_size and again.tokenizer().eos_token_id in again.config.eos_token_ids
    assert not (tmp_path / "cache").exists()


def test_weights_are_the_stored_integers_times_their_scales(nano: Checkpoint) -> None:
    tensors = stored()
    for name, tensor in nano.tensors.items():
        source = "model.embed_tokens.weight" if name == "lm_head.weight" else name
        expected = tensors[source].float()
        if expected.ndim == 2:
            expected = expected * tensors[f"{source}_scale"][:, None]
        assert tensor.dtype == torch.float32 and torch.equal(tensor, expected), name


def test_conversion_finds_the_stored_integers(spiking: SpikingNetwork) -> None:
    """Their scale is the largest weight over 127, as the converter's, so that quantising again changes nothing."""
    tensors, weights = stored(), spiking.weights
    for number, layer in enumerate(weights.layers):
        parts = {
            "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "output": ("self_attn.o_proj",),
            "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
            "down": ("mlp.down_proj",),
        }
        for site, names in parts.items():
            expected = torch.cat([tensors[f"model.layers.{number}.{name}.weight"] for name in names])
            np.testing.assert_array_equal(getattr(layer, site).weight, expected.numpy())
    np.testing.assert_array_equal(weights.head.weight, tensors["model.embed_tokens.weight"].numpy())


def test_it_expects_the_words_of_a_story(nano: Checkpoint, spiking: SpikingNetwork) -> None:
    """Perplexity of our own story, near that of the held-out stories; conversion costs little of it."""
    text = encode_text(nano.tokenizer(), STORY)
    dense = evaluate_text(DenseModel(nano.dense_model()), text, window=512).perplexity
    assert dense < 7.0
    assert evaluate_text(SpikingModel(spiking.functional()), text, window=512).perplexity < 1.1 * dense


def test_it_writes_english_words(nano: Checkpoint) -> None:
    """Most words are tokens of their own or words of our story; of words from tokens at random, half are."""
    text = generated(nano, "Once upon a time", 96)
    whole = {token[1:].lower() for token in nano.tokenizer().get_vocab() if token.startswith("Ġ") and len(token) > 2}
    known = [word in whole | set(words(STORY)) for word in words(text)]
    assert len(known) > 50 and sum(known) >= 0.8 * len(known), text
    assert ". " in text


def test_every_word_it_writes_occurs_in_its_data(nano: Checkpoint, data_dir: Path) -> None:
    vocabulary = set(words((data_dir / RECIPE["data"]["file"]).read_text()))
    for prompt in ("Once upon a time", "One day, Tom and his dog", "The little bird"):
        text = generated(nano, prompt, 64)
        assert set(words(text)) <= vocabulary, text


def test_text_beyond_ascii(nano: Checkpoint) -> None:
    """Typographic signs become plain ones, accents are dropped, the rest is unknown."""
    tokenizer = nano.tokenizer()
    ids = tokenizer("“Café”… — 5 €\n")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == '"Cafe"... - 5 \n'
    assert tokenizer.unk_token_id in ids


def test_the_chip_nano_computes_the_reference(nano: Checkpoint, spiking: SpikingNetwork) -> None:
    """Every tile of the chip is in use, and 32 tokens are those of the integer reference."""
    spec = load_spec("nano")
    program = compile_network(spiking.weights, spec)
    assert sum(len(regions) for stage in program.stages for regions in stage.regions) == len(spec.topology.synapse_tiles())
    assert sorted(stage.vector_tile for stage in program.stages) == sorted(spec.topology.vector_tiles())
    assert program.max_context == nano.config.max_positions
    prompt = story_ids(nano)[:8]
    result = simulate(program, prompt, 32, stop=())
    assert list(result.token_ids) == list(IntegerDecoder(spiking.weights).generate_greedy(prompt, 32))
    assert len(set(result.token_ids)) > 8


def test_evaluation_takes_the_context_for_its_window(tmp_path: Path) -> None:
    story, result = Path(__file__).parent / "story.txt", tmp_path / "result.json"
    assert run_command_line(["eval", "nano", "--data", str(story), "--json", str(result)]) == 0
    assert json.loads(result.read_text())["window"] == 512


def test_fetch_says_that_it_is_built_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["fetch", "nano"]) == 0
    assert capsys.readouterr().out == f"nano is built in and needs no fetching: it is in {FOLDER}\n"


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_damaged_files_are_refused(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "nano"
    copy.mkdir()
    for path in FOLDER.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    weights = copy / "model.safetensors"
    weights.unlink() if damage == "missing" else weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(fetch, "__file__", str(tmp_path / "fetch.py"))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged; install the package again"):
        load_checkpoint("nano")


def _written(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_bytes((FOLDER / "config.json").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.embed_tokens.weight_scale": torch.ones(511)}, "has 512 rows and 511 scales"),
        ({"model.embed_tokens.weight_scale": None}, r"model\.embed_tokens\.weight' is torch\.int8, not floating point"),
    ],
)
def test_scales_that_do_not_fit(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in {**stored(), **change}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        read_folder(_written(tmp_path, tensors))
