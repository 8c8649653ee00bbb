"""What a checkpoint holds twice: transformers' own class says which copy counts; what differs is told or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import SETTINGS, family_model, saved
from safetensors.torch import load_file, save_file

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.errors import CheckpointError, NeuromorphicLLMWarning
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.models.files import RawCheckpoint, write_folder

IDS = torch.tensor([[3, 141, 59, 26, 5, 35, 89, 79, 32, 38, 46, 26]])
ONE_EACH = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "opt", "gptneox"]
ROTARY = [name for name in ONE_EACH if name not in ("gpt2", "opt")]
KEPT = r"ties the head to the embedding, but the checkpoint holds a lm_head\.weight that differs; it is kept"

Edit = Callable[..., Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    """(family, tied) -> a folder, not to be changed."""
    home = tmp_path_factory.mktemp("duplicates")
    tied = {(name, tied) for name in ONE_EACH for tied in (True, False)}
    return {(name, tied): saved(family_model(name, tie_word_embeddings=tied), home / f"{name}-{tied}") for name, tied in tied}


@pytest.fixture
def edit(folders: dict[tuple[str, bool], Path], tmp_path: Path) -> Edit:
    """A copy of a folder with other tensors, None for none, and entries, `...` for none."""

    def edited(name: str, tied: bool, tensors: dict[str, torch.Tensor | None], **entries: Any) -> Path:
        folder = shutil.copytree(folders[name, tied], tmp_path / "model", dirs_exist_ok=True)
        changed = {**load_file(folder / "model.safetensors"), **tensors}
        save_file({key: value for key, value in changed.items() if value is not None}, folder / "model.safetensors", {"format": "pt"})
        settings = {**json.loads((folder / "config.json").read_text()), **entries}
        (folder / "config.json").write_text(json.dumps({key: value for key, value in settings.items() if value is not ...}))
        return folder

    return edited


def theirs(folder: Path) -> torch.Tensor:
    """Logits of transformers' own model of the folder."""
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        logits: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(IDS).logits
    return logits


def check_same(checkpoint: Checkpoint, expected: torch.Tensor) -> None:
    """The dense model and the canonical decoder are those of transformers."""
    with torch.no_grad():
        assert torch.equal(checkpoint.dense_model()(IDS).logits, expected)
        torch.testing.assert_close(FloatDecoder(checkpoint.canonical)(IDS), expected, rtol=2e-5, atol=2e-5)


def table(name: str, tied: bool, folders: dict[tuple[str, bool], Path], seed: int = 5) -> torch.Tensor:
    """Another matrix of the embedding's shape."""
    config = json.loads((folders[name, tied] / "config.json").read_text())
    shape = config["vocab_size"], config.get("n_embd", config.get("hidden_size"))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.2


def embedding(name: str) -> str:
    return {"gpt2": "transformer.wte.weight", "opt": "model.decoder.embed_tokens.weight", "gptneox": "gpt_neox.embed_in.weight"}.get(
        name, "model.embed_tokens.weight"
    )


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize("entry", [True, ...])
def test_a_head_that_differs_is_kept(name: str, entry: Any, folders: Any, edit: Edit, tmp_path: Path) -> None:
    """Tied by the entry, or by the family's default where the entry is left out."""
    ties = entry is True or name in ("gemma2", "gemma3", "gpt2", "opt")
    folder = edit(name, True, {"lm_head.weight": table(name, True, folders)}, tie_word_embeddings=entry)
    expected = theirs(folder)
    assert not torch.allclose(expected, theirs(folders[name, True]), atol=0.1)
    if not ties:
        check_same(load_checkpoint(folder), expected)
        return
    with pytest.warns(NeuromorphicLLMWarning, match=KEPT):
        checkpoint = load_checkpoint(folder)
    assert not checkpoint.config.tie_embeddings
    check_same(checkpoint, expected)
    # Written again, it needs no warning: its configuration says what it holds.
    again = tmp_path / "again"
    write_folder(RawCheckpoint(dict(checkpoint.hugging_face_config), checkpoint.tensors, checkpoint.tokenizer_files), again)
    assert load_checkpoint(again).content_hash == checkpoint.content_hash
    assert torch.equal(theirs(again), expected)


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_head_that_is_the_embedding_is_tied(name: str, folders: Any, edit: Edit) -> None:
    weights = load_file(folders[name, True] / "model.safetensors")[embedding(name)]
    checkpoint = load_checkpoint(edit(name, True, {"lm_head.weight": weights.clone()}))
    original = load_checkpoint(folders[name, True])
    assert checkpoint.config.tie_embeddings and checkpoint.content_hash == original.content_hash


@pytest.mark.parametrize("name", ONE_EACH)
def test_the_only_one_of_a_tied_pair_stands_for_both(name: str, folders: Any, edit: Edit) -> None:
    head = table(name, True, folders)
    folder = edit(name, True, {embedding(name): None, "lm_head.weight": head})
    checkpoint = load_checkpoint(folder)
    assert torch.equal(checkpoint.tensors[embedding(name)], head)
    check_same(checkpoint, theirs(folder))


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shape", r"tensor 'lm_head\.weight' has shape \[264, \d+\], its configuration says \[261, \d+\]"),
        ("nan", r"tensor 'lm_head\.weight' holds NaN or infinite weights"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*ties the head:neuromorphic_llm.errors.NeuromorphicLLMWarning")
def test_damaged_heads_are_refused_though_tied(name: str, change: str, message: str, folders: Any, edit: Edit) -> None:
    head = table(name, True, folders)
    head = torch.cat((head, head[:3])) if change == "shape" else head * float("nan")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(edit(name, True, {"lm_head.weight": head}))


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize("tied", [True, False])
def test_one_tensor_under_two_names(name: str, tied: bool, folders: Any, edit: Edit) -> None:
    """With and without the prefix of the body: the same weights are one tensor, others are refused."""
    own = embedding(name)
    short = own.partition(".")[2]
    weights = load_file(folders[name, tied] / "model.safetensors")[own]
    original = load_checkpoint(folders[name, tied]).content_hash
    assert load_checkpoint(edit(name, tied, {short: weights.clone()})).content_hash == original
    with pytest.raises(CheckpointError, match=f"tensors '.*{short}' and '.*{short}' are both '{own}' and differ"):
        load_checkpoint(edit(name, tied, {short: table(name, tied, folders)}))


def test_both_names_of_the_head_of_gptneox(folders: Any, edit: Edit) -> None:
    head = table("gptneox", False, folders)
    stored = load_file(folders["gptneox", False] / "model.safetensors")
    (own,) = stored.keys() & {"embed_out.weight", "lm_head.weight"}
    (other,) = {"embed_out.weight", "lm_head.weight"} - {own}
    with pytest.raises(CheckpointError, match=r"are both 'lm_head\.weight' and differ"):
        load_checkpoint(edit("gptneox", False, {other: head}))
    load_checkpoint(edit("gptneox", False, {other: stored[own].clone()}))
    with pytest.warns(NeuromorphicLLMWarning, match=KEPT):
        tied = load_checkpoint(edit("gptneox", True, {"embed_out.weight": head}))
    assert torch.equal(tied.tensors["lm_head.weight"], head)


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize("extra", ["lm_head.bias", "score.weight", "BASE.lm_head.weight"])
def test_heads_that_the_class_has_not(name: str, extra: str, folders: Any, edit: Edit) -> None:
    extra = extra.replace("BASE", embedding(name).partition(".")[0])
    with pytest.raises(CheckpointError, match=f"tensor '{extra}' is no part of the {SETTINGS[name][0]}"):
        load_checkpoint(edit(name, False, {extra: torch.zeros(261)}))


BIASES = [
    ("llama", "model.layers.0.self_attn.o_proj.bias", {"attention_bias": False}),
    ("llama", "model.layers.1.mlp.up_proj.bias", {"mlp_bias": False}),
    ("mistral", "model.layers.0.self_attn.q_proj.bias", {}),
    ("qwen2", "model.layers.0.self_attn.o_proj.bias", {}),
    ("qwen2", "model.layers.2.mlp.down_proj.bias", {}),
    ("qwen3", "model.layers.0.self_attn.k_proj.bias", {"attention_bias": False}),
    ("gemma2", "model.layers.0.self_attn.v_proj.bias", {"attention_bias": False}),
    ("gemma3", "model.layers.0.self_attn.q_proj.bias", {}),
    ("llama", "model.norm.bias", {}),
    ("opt", "model.decoder.layers.0.fc1.bias", {"enable_bias": False}),
    ("opt", "model.decoder.final_layer_norm.bias", {"layer_norm_elementwise_affine": False}),
    ("gptneox", "gpt_neox.layers.0.attention.dense.bias", {"attention_bias": False}),
]


@pytest.mark.parametrize(("name", "bias", "entries"), BIASES)
def test_biases_that_the_configuration_denies(name: str, bias: str, entries: dict[str, Any], edit: Edit) -> None:
    with pytest.raises(CheckpointError, match="bias' is no part of the"):
        load_checkpoint(edit(name, False, {bias: torch.ones(40)}, **entries))


@pytest.mark.parametrize("name", ROTARY)
@pytest.mark.parametrize("place", ["layer", "body"])
def test_rotary_tables_that_contradict_the_configuration(name: str, place: str, folders: Any, edit: Edit) -> None:
    """The class computes them from the configuration, whatever is stored; ours says so."""
    layer = "gpt_neox.layers.1.attention" if name == "gptneox" else "model.layers.1.self_attn"
    prefix = layer if place == "layer" else layer.partition(".")[0]
    key = f"{prefix}.rotary_emb.inv_freq"
    frequencies = load_checkpoint(folders[name, False]).canonical.tensors["rotary.frequencies"].float()
    rotated = frequencies[frequencies > 0]
    load_checkpoint(edit(name, False, {key: rotated.bfloat16()}))
    folder = edit(name, False, {key: rotated * 0.9})
    with pytest.warns(NeuromorphicLLMWarning, match=f"the stored rotary table '{key}' is not that of the configuration, which counts"):
        checkpoint = load_checkpoint(folder)
    check_same(checkpoint, theirs(folder))


@pytest.mark.parametrize(("name", "key"), [("gpt2", "transformer.h.1.attn."), ("gptneox", "gpt_neox.layers.1.attention.")])
@pytest.mark.parametrize(("mask", "content"), [("bias", torch.ones(1, 1, 96, 96, dtype=torch.uint8)), ("masked_bias", torch.tensor(0.0))])
def test_masks_that_are_not_causal(name: str, key: str, mask: str, content: torch.Tensor, edit: Edit) -> None:
    key += mask
    folder = edit(name, False, {key: content})
    with pytest.warns(NeuromorphicLLMWarning, match=f"the stored mask '{key}' is not that of the configuration"):
        checkpoint = load_checkpoint(folder)
    check_same(checkpoint, theirs(folder))


def shards(folder: Path, files: dict[str, dict[str, torch.Tensor]]) -> Path:
    """The folder with these files of weights, and an index of them."""
    (folder / "model.safetensors").unlink()
    for name, tensors in files.items():
        save_file(tensors, folder / name, {"format": "pt"})
    index = {"weight_map": {tensor: name for name, tensors in files.items() for tensor in tensors}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_one_tensor_in_two_shards(edit: Edit, folders: Any) -> None:
    folder = edit("llama", False, {})
    tensors = load_file(folder / "model.safetensors")
    norm, head = "model.norm.weight", tensors.pop("lm_head.weight")
    shards(folder, {"a.safetensors": {"lm_head.weight": head, norm: tensors[norm].clone()}, "b.safetensors": tensors})
    assert load_checkpoint(folder).content_hash == load_checkpoint(folders["llama", False]).content_hash
    save_file({"lm_head.weight": head, norm: tensors[norm] + 1}, folder / "a.safetensors")
    with pytest.raises(CheckpointError, match=rf"tensor '{norm}' is in a\.safetensors and, with other weights, in b\.safetensors"):
        load_checkpoint(folder)


def test_a_whole_file_beside_shards(edit: Edit, folders: Any) -> None:
    """transformers reads the whole file; both would be ours to choose."""
    folder = edit("llama", False, {})
    tensors = load_file(folder / "model.safetensors")
    shards(folder, {"a.safetensors": {**tensors, "model.norm.weight": tensors["model.norm.weight"] + 1}})
    shutil.copy(folders["llama", False] / "model.safetensors", folder)
    check_same(load_checkpoint(folder), theirs(folder))


def test_adapters_and_other_names_of_weights(edit: Edit) -> None:
    folder = edit("llama", False, {}, transformers_weights="other.safetensors")
    with pytest.raises(CheckpointError, match=r"weights under another name \(transformers_weights\) are not read"):
        load_checkpoint(folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds an adapter \(adapter_config\.json\); merge it into its model"):
        load_checkpoint(folder)


def test_the_command_line_says_it_in_one_line(folders: Any, edit: Edit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = edit("llama", True, {"lm_head.weight": table("llama", True, folders)})
    text = tmp_path / "text.txt"
    text.write_text("A text of some words, long enough for two windows of a small model that reads bytes, one by one.\n" * 3)
    assert run_command_line(["eval", str(folder), "--data", str(text), "--window", "64"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert lines == [
        f"nmllm: warning: {folder}: the configuration ties the head to the embedding, but the checkpoint holds a lm_head.weight "
        "that differs; it is kept, as in transformers"
    ]
