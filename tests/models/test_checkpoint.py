"""Checkpoints from every source, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint, random_checkpoint
from neuromorphic_llm.models.tokenizer import load_tokenizer
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.random_decoder import SMOLLM2_135M

LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "original_max_position_embeddings": 32}


def same(left: Checkpoint, right: Checkpoint) -> bool:
    equal = set(left.tensors) == set(right.tensors) and all(torch.equal(left.tensors[name], right.tensors[name]) for name in left.tensors)
    return equal and left.config == right.config and left.tokenizer_files == right.tokenizer_files


def test_folder_round_trip(write: Callable[..., Path], small: Checkpoint) -> None:
    loaded = load_checkpoint(write())
    assert same(loaded, small) and loaded.content_hash == small.content_hash
    assert loaded.name == "model"


def test_sharded_bfloat16_folder(write: Callable[..., Path], small: Checkpoint) -> None:
    folder = write()
    (folder / "model.safetensors").unlink()
    names = list(small.tensors)
    shards = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for shard, members in shards.items():
        save_file({name: small.tensors[name].bfloat16() for name in members}, folder / shard)
    index = {"weight_map": {name: shard for shard, members in shards.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = load_checkpoint(str(folder))
    assert all(torch.equal(loaded.tensors[name], small.tensors[name].bfloat16().float()) for name in names)
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors is missing"):
        load_checkpoint(folder)


def test_generation_config_knows_the_end_of_a_turn(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "generation_config.json").write_text('{"eos_token_id": [256, 2]}')
    assert load_checkpoint(folder).config.eos_token_ids == (256, 2)


def test_gguf(gguf_file: Callable[..., Path], small: Checkpoint) -> None:
    loaded = load_checkpoint(gguf_file())
    assert all(torch.equal(loaded.tensors[name], small.tensors[name]) for name in small.tensors)
    # GGUF stores epsilon in 32 bits.
    assert loaded.config.rms_norm_eps == pytest.approx(1e-5, rel=1e-6)
    assert (loaded.config.layers, loaded.config.heads, loaded.config.kv_heads, loaded.config.head_dim) == (2, 4, 2, 16)
    assert not loaded.config.tie_embeddings and loaded.config.eos_token_ids == (256,)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        loaded.tokenizer()


def test_dense_model_matches_the_definition(small: Checkpoint) -> None:
    """One token at position 0: attention is the value itself, so the whole decoder fits in a few lines."""
    token = torch.tensor([[65]])
    tensors = {name: tensor.double() for name, tensor in small.tensors.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / torch.sqrt(x.square().mean() + small.config.rms_norm_eps) * tensors[name]

    x = tensors["model.embed_tokens.weight"][65]
    for layer in range(small.config.layers):
        prefix = f"model.layers.{layer}."
        value = tensors[prefix + "self_attn.v_proj.weight"] @ norm(x, prefix + "input_layernorm.weight")
        heads = value.reshape(small.config.kv_heads, -1).repeat_interleave(small.config.heads // small.config.kv_heads, 0)
        x = x + tensors[prefix + "self_attn.o_proj.weight"] @ heads.flatten()
        y = norm(x, prefix + "post_attention_layernorm.weight")
        gate, up = tensors[prefix + "mlp.gate_proj.weight"] @ y, tensors[prefix + "mlp.up_proj.weight"] @ y
        x = x + tensors[prefix + "mlp.down_proj.weight"] @ (torch.nn.functional.silu(gate) * up)
    expected = tensors["lm_head.weight"] @ norm(x, "model.norm.weight")
    model = small.dense_model(torch.float64)
    assert not model.training
    torch.testing.assert_close(model(token).logits[0, 0], expected, rtol=1e-6, atol=1e-6)


def test_dense_model_owns_its_weights(small: Checkpoint) -> None:
    before = small.tensors["model.norm.weight"].clone()
    small.dense_model().model.norm.weight.zero_()
    assert torch.equal(small.tensors["model.norm.weight"], before)


def test_random_tiny() -> None:
    tiny = load_checkpoint("random-tiny")
    assert same(tiny, load_checkpoint("random-tiny")) and tiny.name == "random-tiny"
    assert tiny.config.tie_embeddings and tiny.tensors["lm_head.weight"] is tiny.tensors["model.embed_tokens.weight"]
    assert tiny.parameters == sum(t.numel() for n, t in tiny.tensors.items() if n != "lm_head.weight")
    model, tokenizer = tiny.dense_model(), tiny.tokenizer()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids = tokenizer("Grüße,\n two")["input_ids"]
    assert ids == list("Grüße,\n two".encode()) and tokenizer.decode(ids) == "Grüße,\n two"
    assert tokenizer.eos_token_id == 256 and len(tokenizer) == tiny.config.vocab_size
    generated = model.generate(torch.tensor([ids]), max_new_tokens=3, do_sample=False)
    assert generated.shape == (1, len(ids) + 3)


def test_random_checkpoints_differ_by_seed(small: Checkpoint) -> None:
    assert not same(small, random_checkpoint(small.config, seed=2))
    assert small.content_hash != random_checkpoint(small.config, seed=2).content_hash


def test_a_vocabulary_too_small_for_bytes_has_no_tokenizer() -> None:
    config = DecoderConfig(32, 8, 8, 1, 1, 1, 8, 16, 1e-5, 10000.0)
    with pytest.raises(CheckpointError, match="no tokenizer files"):
        random_checkpoint(config, 0).tokenizer()


@pytest.mark.parametrize("name", ["../outside.json", "/outside.json", "a/b.json"])
def test_tokenizer_files_with_a_path_are_not_written(name: str) -> None:
    with pytest.raises(CheckpointError, match="not a plain file name"):
        load_tokenizer({name: b"{}"})


def test_damaged_tokenizer(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="tokenizer cannot be read"):
        load_checkpoint(folder).tokenizer()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["BloomForCausalLM"]}, "architecture BloomForCausalLM is not supported; supported: LlamaForCausalLM, Mistral"),
        ({"architectures": None, "model_type": "bloom"}, "architecture of model type 'bloom' is not supported"),
        ({"model_type": "mistral"}, "model_type 'mistral' is not that of LlamaForCausalLM, 'llama'"),
        ({"model_type": ["llama"]}, r"model_type \['llama'\] is not that of LlamaForCausalLM"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "the configuration lacks 'low_freq_factor'"),
        ({"rope_parameters": {"type": "dynamic", "factor": 2.0}}, "rope scaling 'dynamic' is not supported"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "the configuration lacks 'short_factor'"),
        ({"rope_scaling": LONGROPE}, r"rope scaling 'longrope' with other factors for long texts \(long_factor\) is not supported"),
        ({"rope_scaling": {**LONGROPE, "short_factor": [1.0] * 7}}, "short_factor must be a list of 8 numbers"),
        ({"rope_scaling": {**LONGROPE, "short_factor": [0.0] * 8, "long_factor": [0.0] * 8}}, "short_factor must hold positive numbers"),
        (
            {"rope_scaling": {**LONGROPE, "long_factor": [1.0] * 8, "attention_factor": 2.0}},
            r"scale must lie between 0\.01 and 2, got 2\.0",
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, "factor must lie between 1 and 1e6, got 0.5"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor must be a number, got '2'"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 0.5}}, "beta_slow must be positive and below beta_fast"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "attention_factor": 3.0}}, "scale must lie between 0.01 and 2"),
        ({"rope_scaling": {"type": 3}}, "type must be text, got 3"),
        ({"rope_parameters": {"rope_type": "default", "mrope_section": [1]}}, "entry 'mrope_section' of rope scaling 'default' is not"),
        ({"hidden_act": "quick_gelu"}, "activation 'quick_gelu' is not supported"),
        ({"sliding_window": 8}, r"a sliding window \(sliding_window\) is not supported"),
        ({"bos_token_id": [1]}, "configuration is not valid"),
        ({"bos_token_id": 260}, "bos_token_id: token 260 is outside the vocabulary of 260"),
        ({"eos_token_id": -1}, "eos_token_ids: token -1 is outside the vocabulary"),
        ({"eos_token_id": [256, "2"]}, "eos_token_ids must hold integers, got '2'"),
        ({"eos_token_id": 1.0}, "eos_token_ids must hold integers, got 1.0"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps must be positive"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps must be a number, got '1e-5'"),
        ({"rms_norm_eps": 2}, "rms_norm_eps must be positive and at most 1"),
        ({"rope_theta": float("nan")}, "rope_theta must lie between 1 and 1e30, got nan"),
        ({"rope_theta": True}, "rope_theta must be a number, got True"),
        ({"rope_theta": 10**400}, "configuration is not valid"),
        ({"rope_parameters": {"rope_theta": "1e4"}}, "rope_theta must be a number, got '1e4'"),
        ({"rope_parameters": "default"}, "rope_parameters must be an object, got 'default'"),
        ({"rope_scaling": ["linear"]}, "rope_scaling must be an object"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings must be true or false, got 'yes'"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false, got 1"),
        ({"architectures": "LlamaForCausalLM"}, r"architectures must be a list of names such as \[\"LlamaForCausalLM\"\]"),
        ({"architectures": [7]}, r"architectures must be a list of names .* got \[7\]"),
        ({"hidden_size": "64"}, "hidden_size must be a positive integer, got '64'"),
        ({"hidden_size": None}, "hidden_size must be a positive integer, got None"),
        ({"num_hidden_layers": -2}, "num_hidden_layers must be a positive integer, got -2"),
        ({"num_hidden_layers": 10**9}, "layers must be at most 1024"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a positive integer, got 0"),
        ({"num_key_value_heads": 2.0}, "num_key_value_heads must be a positive integer, got 2.0"),
        ({"num_key_value_heads": 3}, "heads .4. must be a multiple of kv_heads .3."),
        ({"head_dim": True}, "head_dim must be a positive integer, got True"),
        ({"max_position_embeddings": 10**9}, "max_positions must be at most"),
        ({"attention_bias": True}, r"tensor 'model\.layers\.0\.self_attn\.q_proj\.bias' is missing"),
        ({"mlp_bias": True}, r"tensor 'model\.layers\.0\.mlp\.gate_proj\.bias' is missing"),
        ({"mlp_bias": "no"}, "mlp_bias must be true or false, got 'no'"),
        ({"partial_rotary_factor": 0.5}, "partial rotary"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial rotary"),
        ({"head_dim": 10**12}, "head_dim must be at most"),
        ({"quantization_config": {"bits": 4}}, "quantised weights"),
        ({"num_attention_heads": 3}, "configuration is not valid"),
        ({"vocab_size": "many"}, "configuration is not valid"),
        ({"num_hidden_layers": 3}, r"tensor 'model\.layers\.2\.input_layernorm\.weight' is missing"),
        ({"num_hidden_layers": 1}, r"tensor 'model\.layers\.1\..*' is no part of the LlamaForCausalLM that"),
        ({"intermediate_size": 100}, r"has shape \[96, 64\], its configuration says \[100, 64\]"),
    ],
)
def test_refused_configurations(write: Callable[..., Path], config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(write(config=config))
    assert "model" in str(error.value) and "\n" not in str(error.value)


def test_null_means_the_default(write: Callable[..., Path], small: Checkpoint) -> None:
    """Hugging Face writes null for what follows from other entries."""
    config = {"head_dim": None, "rope_scaling": None, "bos_token_id": None, "rope_theta": 10000}
    assert load_checkpoint(write(config=config)).config == small.config


def test_missing_configuration_entry(write: Callable[..., Path]) -> None:
    folder = write()
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="lacks 'hidden_size'"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_damaged_configuration(write: Callable[..., Path], content: bytes) -> None:
    folder = write()
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_checkpoint(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(write: Callable[..., Path], small: Checkpoint, bad: float) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    damaged = small.tensors[name].clone()
    damaged[3, 5] = bad
    with pytest.raises(CheckpointError, match=f"tensor '{name}' holds NaN or infinite weights"):
        load_checkpoint(write(tensors={name: damaged}))


def test_missing_and_additional_tensors(write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"'model\.norm\.weight' is missing"):
        load_checkpoint(write(tensors={"model.norm.weight": None}))
    with pytest.raises(CheckpointError, match=r"'lm_head\.weight' is missing"):
        load_checkpoint(write(tensors={"lm_head.weight": None}))
    with pytest.raises(CheckpointError, match=r"q_proj\.bias' is no part"):
        load_checkpoint(write(tensors={"model.layers.0.self_attn.q_proj.bias": torch.zeros(64)}))


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_safetensors(write: Callable[..., Path], keep: int) -> None:
    folder = write()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_checkpoint(folder)


@pytest.mark.parametrize("keep", [4, 20, 300, 2000, 30_000, -1])
def test_truncated_gguf(gguf_file: Callable[..., Path], keep: int) -> None:
    path = gguf_file()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"small\.gguf is truncated or damaged"):
        load_checkpoint(path)


def test_refused_gguf(gguf_file: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"architecture 'bloom' \(GGUF\) is not supported; supported: LlamaForCausalLM"):
        load_checkpoint(gguf_file(architecture="bloom"))


def test_pickled_weights_are_not_read(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="can run code; save it as safetensors"):
        load_checkpoint(folder)


def test_arguments_that_name_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'smolm2-135' is not a known model \(did you mean 'smollm2-135m'\?\)"):
        load_checkpoint("smolm2-135")
    with pytest.raises(CheckpointError, match="is not a known model, a folder, a GGUF file or a hub id"):
        load_checkpoint(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        load_checkpoint(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="is not a GGUF file"):
        load_checkpoint(tmp_path / "notes.txt")


def test_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMLLM_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="'someone/some-model' is no local folder or file, and the hub gave nothing"):
        load_checkpoint("someone/some-model")


@pytest.mark.slow
@pytest.mark.model
def test_smollm2(smollm2: Checkpoint) -> None:
    assert smollm2.parameters == 134_515_008
    assert smollm2.content_hash[:16] == "8c0291a819165bc6"  # named by calibrations and networks, so that it must not change
    assert smollm2.config == replace(SMOLLM2_135M, rms_norm_eps=9.999999747378752e-06, bos_token_id=1, eos_token_ids=(2,))
    tokenizer, model = smollm2.tokenizer(), smollm2.dense_model()
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
    answer = model.generate(prompt, max_new_tokens=12, do_sample=False)[0, prompt.shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "The capital of France is Paris."


@pytest.mark.slow
@pytest.mark.model
def test_smollm2_equals_the_gguf_file_and_what_transformers_reads(smollm2: Checkpoint) -> None:
    from transformers import AutoModelForCausalLM

    from neuromorphic_llm.models.fetch import cache_folder

    home = cache_folder() / "smollm2-135m"
    gguf = next(home.glob("*.gguf"))
    assert load_checkpoint(gguf).content_hash == smollm2.content_hash
    peer = AutoModelForCausalLM.from_pretrained(home, gguf_file=gguf.name, dtype=torch.float32).state_dict()
    assert set(peer) == set(smollm2.tensors)
    assert all(torch.equal(peer[name], tensor) for name, tensor in smollm2.tensors.items())


def test_quantised_integers_are_refused(write: Callable[..., Path], small: Checkpoint) -> None:
    folder = write()
    save_file({name: tensor.to(torch.int8) for name, tensor in small.tensors.items()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"is torch\.int8, not floating point; choose a checkpoint that is not quantised"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["PreTrainedTokenizerFast", "TokenizersBackend"])
@pytest.mark.parametrize("model", ["nano", "random-tiny"])
def test_a_tokenizer_of_the_general_class_is_the_one_that_transformers_finds(model: str, name: str, tmp_path: Path) -> None:
    files = load_checkpoint(model).tokenizer_files
    settings = json.loads(files["tokenizer_config.json"]) | {"tokenizer_class": name, "chat_template": "{{ messages[0].content }}!"}
    files = {**files, "tokenizer_config.json": json.dumps(settings).encode()}
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    ours, theirs = load_tokenizer(files), AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(ours, type(theirs)) and type(ours).__name__ == type(theirs).__name__
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    ids = theirs("Once upon a time , it's <|endoftext|>")["input_ids"]
    assert ours("Once upon a time , it's <|endoftext|>")["input_ids"] == ids
    assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    chat = [[{"role": "user", "content": "A boat"}]]
    assert ours.apply_chat_template(*chat, tokenize=False) == theirs.apply_chat_template(*chat, tokenize=False) == "A boat!"
    assert ours.special_tokens_map == theirs.special_tokens_map and ours.model_max_length == theirs.model_max_length


def sharded(folder: Path, name: str) -> Path:
    """The folder with an index that names this file for every tensor."""
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = {"weight_map": {"model.norm.weight": name, "lm_head.weight": "part.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/ABSOLUTE", "..", "", "a/part.safetensors", "./part.safetensors", "a\0b", "a" * 300]
)
def test_a_shard_index_names_files_of_its_folder(name: str, write: Callable[..., Path], tmp_path: Path) -> None:
    """Though the file is there and holds the tensor."""
    folder = sharded(write(), name.replace("/ABSOLUTE", str(tmp_path / "outside.safetensors")))
    (folder / "a").mkdir()
    for place in (tmp_path / "outside.safetensors", folder / "a" / "part.safetensors"):
        place.write_bytes((folder / "part.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"index\.json names the file '.*', which is not one of its folder; do not trust") as error:
        load_checkpoint(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
)
def test_links_that_lead_out_of_the_folder(name: str, write: Callable[..., Path], tmp_path: Path) -> None:
    """A checkpoint from elsewhere could make a network folder carry away any file of this machine."""
    folder = write()
    inside = folder / name
    if not inside.exists():
        inside.write_text("{}")
    inside.rename(tmp_path / "outside")
    inside.symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match=rf"{name} is a link to .*outside, outside its folder; copy the file there if you trust it"):
        load_checkpoint(folder)


def test_links_in_a_circle(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_checkpoint(folder)


def test_links_of_shards_lead_nowhere_either(write: Callable[..., Path], tmp_path: Path) -> None:
    folder = sharded(write(), "other.safetensors")
    (folder / "part.safetensors").rename(tmp_path / "outside")
    for name in ("part", "other"):
        (folder / f"{name}.safetensors").symlink_to("../outside")
    with pytest.raises(CheckpointError, match=r"other\.safetensors is a link to .*outside, outside its folder"):
        load_checkpoint(folder)


def test_links_of_a_hub_cache_are_followed(write: Callable[..., Path], small: Checkpoint, tmp_path: Path) -> None:
    """There every file of a snapshot is a link to a blob; and a folder may itself be reached by a link."""
    source = write()
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(source.iterdir()):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    (tmp_path / "link").symlink_to(snapshot)
    assert same(load_checkpoint(snapshot), small) and same(load_checkpoint(tmp_path / "link"), small)


@torch.no_grad()
def test_every_pair_may_have_its_own_factor(write: Callable[..., Path]) -> None:
    """LongRoPE with the same factors for all lengths; the scale of its tables follows from the contexts unless it is given."""
    from transformers import AutoModelForCausalLM

    factors = [1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]
    scaling = {**LONGROPE, "short_factor": factors, "long_factor": factors}
    ids = torch.arange(40)[None]
    for own in ({}, {"attention_factor": 1.1}, {"factor": 4.0}):
        folder = write(config={"rope_scaling": {**scaling, **own}})
        checkpoint = load_checkpoint(folder)
        expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        torch.testing.assert_close(FloatDecoder(checkpoint.canonical)(ids), expected(ids).logits, rtol=2e-5, atol=2e-5)
        rotary = expected.model.rotary_emb
        torch.testing.assert_close(checkpoint.canonical.tensors["rotary.frequencies"].float(), rotary.inv_freq, rtol=1e-6, atol=0)
        assert float(checkpoint.canonical.tensors["rotary.scale"]) == pytest.approx(rotary.attention_scaling)
