"""Every family: folders that transformers writes, its own dense model, older spellings, and configurations that are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import SETTINGS, change_config, family_model, saved
from safetensors.torch import load_file, save_file

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.models.checkpoint import load_checkpoint

IDS = torch.tensor([[3, 141, 59, 26, 5, 35, 89, 79, 32, 38, 46, 26], [4, 33, 83, 27, 95, 2, 88, 41, 97, 16, 9, 200]])
ONE_EACH = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "opt", "gptneox"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each of ONE_EACH, not to be changed."""
    home = tmp_path_factory.mktemp("families")
    return {name: saved(family_model(name), home / name) for name in ONE_EACH}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Copies a folder and changes entries of its configuration."""

    def copied(name: str, **changes: Any) -> Path:
        return change_config(shutil.copytree(folders[name], tmp_path / name, dirs_exist_ok=True), **changes)

    return copied


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_the_dense_model_is_the_one_that_was_saved(name: str, tied: bool, tmp_path: Path) -> None:
    model = family_model(name, tie_word_embeddings=tied)
    checkpoint = load_checkpoint(saved(model, tmp_path / name))
    assert checkpoint.config.tie_embeddings == tied and checkpoint.config.eos_token_ids == (256,)
    assert checkpoint.parameters == sum(parameter.numel() for parameter in model.parameters())
    dense = checkpoint.dense_model()
    assert type(dense).__name__ == SETTINGS[name][0] == checkpoint.family.architecture and not dense.training
    assert torch.equal(dense(IDS).logits, model(IDS).logits)
    embeddings, head = dense.get_input_embeddings(), dense.get_output_embeddings()
    assert (embeddings.weight is head.weight) == tied
    assert embeddings.weight is not checkpoint.tensors[checkpoint.family.embedding]
    options = {"max_new_tokens": 2, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    padded = {
        "input_ids": torch.cat((torch.zeros_like(IDS[:, :1]), IDS), 1),
        "attention_mask": torch.tensor([[0] + [1] * IDS.shape[1]] * 2),
    }
    assert torch.equal(dense.generate(**padded, **options)[:, 1:], dense.generate(IDS, attention_mask=torch.ones_like(IDS), **options))
    assert checkpoint.dense_model(torch.bfloat16)(IDS).logits.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ONE_EACH)
def test_shards(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    whole, sharded = load_checkpoint(folders[name]), load_checkpoint(saved(family_model(name), tmp_path / name, max_shard_size="60KB"))
    assert len(list((tmp_path / name).glob("*.safetensors"))) > 1
    assert sharded.content_hash == whole.content_hash


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
        ("mistral", {"sliding_window": 8}),
        ("qwen2", {"sliding_window": 7}),
        ("qwen3", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}),
        ("gemma2", {"query_pre_attn_scalar": 10}),
        ("gemma3", {"rope_parameters": {"full_attention": {"rope_theta": 100_000.0}}}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": False}),
        ("opt", {"activation_function": "gelu"}),
        ("gptneox", {"rope_parameters": {"rope_theta": 900.0, "partial_rotary_factor": 0.5}}),
    ],
)
def test_content_hashes_tell_configurations_apart(name: str, change: dict[str, Any], folders: dict[str, Path], copy: Any) -> None:
    """Also where the canonical configuration is the same; entries that mean nothing do not count."""
    original = load_checkpoint(folders[name])
    assert load_checkpoint(copy(name, initializer_range=0.5, use_cache=False)).content_hash == original.content_hash
    changed = load_checkpoint(copy(name, **change))
    assert changed.content_hash != original.content_hash
    assert (changed.config == original.config) == (name in ("llama", "qwen3", "gemma3", "gpt2", "gptneox"))


def test_hashes_of_plain_llama_decoders_are_those_of_configuration_and_tensors() -> None:
    """Calibrations and networks of these models name them; other families must not change them."""
    assert load_checkpoint("nano").content_hash[:16] == "dbb75d5ffec00cf5"


MASK = torch.ones(96, 96).tril()[None, None]
STORED = {
    "h.0.attn.bias": MASK,
    "h.1.attn.masked_bias": torch.tensor(-1e4),
    "layers.0.attention.bias": MASK.bool(),  # Pythia's are of bytes or bits
    "layers.2.attention.bias": MASK.to(torch.uint8),
    "layers.0.attention.masked_bias": torch.tensor(-1e9),
    "layers.1.attention.rotary_emb.inv_freq": (900.0 ** -(torch.arange(0, 4, 2) / 4)).half(),
    "rotary_emb.inv_freq": 900.0 ** -(torch.arange(0, 4, 2) / 4),
}


def test_names_of_bodies_and_buffers(copy: Callable[..., Path], folders: dict[str, Path]) -> None:
    """Published GPT-2 and OPT files lack the prefix of the head's class and hold masks; those of Pythia call the head embed_out."""
    for name, prefix, buffers in (
        ("gpt2", "transformer.", ["h.0.attn.bias", "h.1.attn.masked_bias"]),
        ("opt", "model.", []),
        ("gptneox", "gpt_neox.", [key for key in STORED if not key.startswith("h.")]),
    ):
        path = copy(name) / "model.safetensors"
        tensors = {key.removeprefix(prefix): value for key, value in load_file(path).items()} | {key: STORED[key] for key in buffers}
        if "lm_head.weight" in tensors:
            tensors["embed_out.weight"] = tensors.pop("lm_head.weight")
        save_file(tensors, path)
        assert load_checkpoint(path.parent).content_hash == load_checkpoint(folders[name]).content_hash


def test_older_tokenizers_of_gpt2(copy: Callable[..., Path]) -> None:
    """A vocabulary and merges, as GPT-2 and OPT publish them; OPT's configuration asks for a token in front."""
    folder = copy("opt")
    (folder / "tokenizer.json").unlink()
    vocabulary = {token: index for index, token in enumerate(["h", "e", "l", "o", "he", "ll", "hell", "hello", "</s>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\nl l\nhe ll\nhell o\n")
    (folder / "tokenizer_config.json").write_text('{"add_bos_token": true, "bos_token": "</s>"}')
    assert load_checkpoint(folder).tokenizer()("hello")["input_ids"] == [8, 7]


def test_tokenizers_get_the_class_of_their_family(copy: Callable[..., Path]) -> None:
    folder = copy("gpt2")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 96}')
    settings = json.loads(load_checkpoint(folder).tokenizer_files["tokenizer_config.json"])
    assert settings == {"model_max_length": 96, "tokenizer_class": "GPT2Tokenizer"}
    (folder / "tokenizer_config.json").unlink()
    assert json.loads(load_checkpoint(folder).tokenizer_files["tokenizer_config.json"]) == {"tokenizer_class": "GPT2Tokenizer"}
    (folder / "tokenizer_config.json").write_text("{")
    assert load_checkpoint(folder).tokenizer_files["tokenizer_config.json"] == b"{"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"sliding_window": 8}, r"a sliding window \(sliding_window\) is not supported"),
        ("mistral", {"layer_types": ["full_attention"] * 3}, r"a window in some layers only \(layer_types\) is not supported"),
        ("mistral", {"sliding_window": -1}, "sliding_window must be a positive integer, got -1"),
        ("mistral", {"hidden_act": 5}, "activation 5 is not supported"),
        ("qwen2", {"use_sliding_window": 1}, "use_sliding_window must be true or false, got 1"),
        ("qwen2", {"max_window_layers": -1}, "max_window_layers must be a natural number, got -1"),
        ("qwen2", {"layer_types": ["full_attention"]}, r"layer_types must be a list of 3 words, got \['full_attention'\]"),
        ("qwen2", {"layer_types": ["full_attention", "linear_attention", "full_attention"]}, "must name .* got 'linear_attention'"),
        ("qwen2", {"use_sliding_window": False}, "names layers with sliding_attention, but there is no sliding_window"),
        ("qwen3", {"rope_parameters": {"rope_type": "dynamic"}}, "rope scaling 'dynamic' is not supported"),
        ("qwen3", {"head_dim": 13}, "head_dim must be even"),
        ("gemma2", {"use_bidirectional_attention": True}, r"attention to later tokens \(use_bidirectional_attention\) is not supported"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar must be positive"),
        ("gemma2", {"attn_logit_softcapping": "50"}, "attn_logit_softcapping must be a number, got '50'"),
        ("gemma2", {"final_logit_softcapping": -3.0}, "logit_softcap must be 0 or lie between"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, r"a soft cap of scores \(attn_logit_softcapping\) is not supported"),
        ("gemma3", {"rope_parameters": {"rope_type": "default"}}, "entry 'rope_type' of rope_parameters is not supported"),
        ("gemma3", {"rope_parameters": {"sliding_attention": 5}}, "sliding_attention must be an object, got 5"),
        ("gemma3", {"rope_parameters": {"sliding_attention": {"rope_theta": 0.5}}}, "rope_theta must lie between 1 and 1e30, got 0.5"),
        ("gemma3", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, r"a rotary embedding with a scale \(yarn\) in some layers"),
        ("gemma3", {"hidden_activation": "tanh"}, "activation 'tanh' is not supported"),
        ("gpt2", {"add_cross_attention": True}, "attention to another model"),
        ("gpt2", {"num_attention_heads": 2}, "n_head and num_attention_heads are one entry, but differ"),
        ("gpt2", {"max_position_embeddings": 48}, "n_positions and max_position_embeddings are one entry, but differ"),
        ("gpt2", {"n_head": 3}, r"n_embd \(40\) must be a multiple of n_head \(3\)"),
        ("gpt2", {"n_head": 8}, "head_dim must be even"),
        ("gpt2", {"scale_attn_weights": None, "n_embd": "40"}, "n_embd must be a positive integer, got '40'"),
        ("gpt2", {"n_layer": 4}, r"tensor 'transformer\.h\.3\.ln_1\.weight' is missing"),
        ("gpt2", {"n_layer": 10**9}, "n_layer must be at most 1024"),
        ("gpt2", {"n_inner": 50}, r"'transformer\.h\.0\.mlp\.c_fc\.weight' has shape \[40, 52\], its configuration says \[40, 50\]"),
        ("opt", {"do_layer_norm_before": False}, "a norm behind the blocks"),
        ("opt", {"_remove_final_layer_norm": True}, "a head without a norm"),
        ("opt", {"word_embed_proj_dim": 20}, r"a projected embedding \(word_embed_proj_dim\) is not supported"),
        ("opt", {"enable_bias": False}, r"tensor '.*\.bias' is no part of the OPTForCausalLM that its configuration describes"),
        ("opt", {"num_attention_heads": 3}, "must be a multiple of num_attention_heads"),
        (
            "gptneox",
            {"rope_parameters": None, "rotary_pct": 0.05},
            "rotary_pct must leave an even number of rotated elements, got 0.05 of 16",
        ),
        ("gptneox", {"hidden_size": 49}, "must be a multiple of num_attention_heads"),
        ("gptneox", {"rope_parameters": {"rope_theta": []}}, r"rope_theta must be a number, got \[\]"),
        ("gptneox", {"quantization_config": {}}, "quantised weights"),
    ],
)
def test_refused_configurations(name: str, change: dict[str, Any], message: str, copy: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(copy(name, **change))
    assert name in str(error.value) and "\n" not in str(error.value)


def test_canonical_decoders_are_complete(folders: dict[str, Path]) -> None:
    canonical = load_checkpoint(folders["gemma3"]).canonical
    tensors = dict(canonical.tensors)
    with pytest.raises(ValueError, match=r"tensor 'rotary\.local_frequencies' is missing"):
        CanonicalDecoder(canonical.config, {key: value for key, value in tensors.items() if key != "rotary.local_frequencies"})
    with pytest.raises(ValueError, match=r"tensor 'model\.norm\.bias' is no part"):
        CanonicalDecoder(canonical.config, {**tensors, "model.norm.bias": torch.zeros(40)})
    with pytest.raises(ValueError, match=r"tensor 'lm_head\.bias' has shape \[3\], the configuration says \[261\]"):
        CanonicalDecoder(canonical.config, {**tensors, "lm_head.bias": torch.zeros(3)})


@pytest.mark.parametrize(
    ("name", "change"), [("llama", {"rms_norm_eps": None}), ("qwen2", {"attention_dropout": None}), ("gemma3", {"use_cache": "no"})]
)
def test_configurations_that_only_transformers_refuses(name: str, change: dict[str, Any], copy: Callable[..., Path]) -> None:
    """The weights are whole, so that they can be converted; the dense model says why it cannot be had."""
    checkpoint = load_checkpoint(copy(name, **change))
    with pytest.raises(CheckpointError, match=f"transformers cannot make the dense model .*{next(iter(change))}"):
        checkpoint.dense_model()
