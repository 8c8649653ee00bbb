"""GGUF files of the other families: the same checkpoint as the folder, the same weights as transformers reads, nothing ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from family_models import family_model, saved

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.checkpoint import load_checkpoint

# What GGUF files cannot say, or say by the size of the model, is as in the published ones.
CHANGES: dict[str, dict[str, Any]] = {
    "llama": {},  # with biases
    "qwen2": {"use_sliding_window": False},
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 14, "attention_bias": False},
    "gemma3": {
        "query_pre_attn_scalar": 14,
        "layer_types": None,
        "final_logit_softcapping": None,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
        },
    },
    "gpt2": {"scale_attn_by_inverse_layer_idx": False},
    "gptneox": {},
}


def metadata(name: str, config: Any) -> dict[str, Any]:
    """Metadata of a model as llama.cpp's converter names it, without the architecture."""
    entries = {
        "context_length": config.max_position_embeddings,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "attention.head_count": config.num_attention_heads,
        "vocab_size": config.vocab_size,
    }
    if name == "gpt2":
        return {**entries, "feed_forward_length": config.n_inner or 4 * config.n_embd, "attention.layer_norm_epsilon": 1e-5}
    entries["feed_forward_length"] = config.intermediate_size
    if name == "gptneox":
        return {
            **entries,
            "rope.dimension_count": 4,
            "rope.freq_base": 900.0,
            "attention.layer_norm_epsilon": 1e-5,
            "use_parallel_residual": True,
        }
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    entries |= {"attention.head_count_kv": config.num_key_value_heads, "attention.layer_norm_rms_epsilon": config.rms_norm_eps}
    entries |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    if name.startswith("gemma"):
        entries |= {"attention.sliding_window": config.sliding_window}
    if name == "gemma2":
        entries |= {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
    if name == "gemma3":
        return entries | {"rope.freq_base": 1e6, "rope.freq_base_swa": 700.0, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    return {**entries, "rope.freq_base": config.rope_parameters["rope_theta"]}


def stored(name: str, key: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight in the layout of GGUF files."""
    if name.startswith("gemma") and key.endswith("norm.weight"):
        return weight + 1.0
    if name == "gpt2" and any(part in key for part in ("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return weight.T.contiguous()
    if name == "llama" and (".q_proj." in key or ".k_proj." in key):
        return weight.unflatten(0, (-1, 2, 7)).transpose(1, 2).flatten(0, 2)  # halves of a head of 14 interleaved
    if name == "gptneox" and "query_key_value" in key:
        heads = weight.unflatten(0, (3, 3, 16))  # heads, then q, k, v
        return torch.cat([heads[:, part].flatten(0, 1) for part in range(3)])
    return weight


def write_gguf(name: str, model: Any, path: Path, **changes: Any) -> Path:
    """The model as a float32 GGUF file with changed metadata; `...` leaves an entry out."""
    writer = gguf.GGUFWriter(path, name)
    for key, value in {**metadata(name, model.config), **{key.replace("__", "."): value for key, value in changes.items()}}.items():
        if value is not ...:
            add = {int: writer.add_uint32, float: writer.add_float32, bool: writer.add_bool, str: writer.add_string}[type(value)]
            add(f"{name}.{key}", value)
    writer.add_token_list([str(token) for token in range(model.config.vocab_size)])
    writer.add_eos_token_id(256)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[name.upper()], model.config.num_hidden_layers)
    tied = model.config.tie_word_embeddings
    for key, weight in model.state_dict().items():
        if key != "lm_head.weight" or not tied:
            writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")) or "output.weight", stored(name, key, weight).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", CHANGES)
def test_the_file_equals_the_folder(name: str, tmp_path: Path) -> None:
    model = family_model(name, **CHANGES[name])
    folder, file = load_checkpoint(saved(model, tmp_path / "folder")), load_checkpoint(write_gguf(name, model, tmp_path / f"{name}.gguf"))
    for key, tensor in folder.tensors.items():
        # Gemma's gains are stored plus one.
        torch.testing.assert_close(file.tensors[key], tensor, rtol=0, atol=1.2e-7 if name.startswith("gemma") else 0)
    ours, theirs = file.config.to_json(), folder.config.to_json()
    assert ours.pop("rms_norm_eps") == pytest.approx(theirs.pop("rms_norm_eps"))
    assert ours == theirs
    for key in ("rotary.frequencies", "rotary.scale", "rotary.local_frequencies"):
        assert (key in file.canonical.tensors) == (key in folder.canonical.tensors)
        assert key not in file.canonical.tensors or torch.equal(file.canonical.tensors[key], folder.canonical.tensors[key])
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]])
    torch.testing.assert_close(file.dense_model()(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes"),
    # transformers takes GPT-2's own sizes for what it does not read.
    [("qwen2", {}), ("gemma2", {}), ("gpt2", {"n_positions": 1024, "n_inner": None})],
)
def test_transformers_reads_the_same(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = family_model(name, **{**CHANGES[name], **changes})
    path = write_gguf(name, model, tmp_path / f"{name}.gguf")
    peer = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32).state_dict()
    ours = load_checkpoint(path).tensors
    assert set(peer) == set(ours)
    assert all(torch.equal(peer[key], tensor) for key, tensor in ours.items())


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(name: str, **changes: Any) -> Path:
        return write_gguf(name, family_model(name, **CHANGES[name]), tmp_path / f"{name}.gguf", **changes)

    return written


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("qwen2", {"expert_count": 4}, r"metadata qwen2\.expert_count is not supported"),
        ("qwen2", {"rope__scaling__type": "yarn", "rope__scaling__attn_factor": 0.5}, r"qwen2\.rope\.scaling\.attn_factor is not"),
        ("qwen2", {"rope__scaling__type": "longrope"}, "rope scaling 'longrope' is not supported"),
        ("qwen2", {"attention__value_length": 12}, r"attention\.value_length is not the head size 10"),
        ("qwen3", {"rope__dimension_count": 7}, r"rope\.dimension_count is not the head size 14"),
        ("qwen3", {"block_count": ...}, "the configuration lacks 'num_hidden_layers'"),
        ("gemma2", {"embedding_length": ...}, "the metadata lacks 'hidden_size'"),
        ("gemma3", {"block_count": 4}, r"tensor 'model\.layers\.3\.input_layernorm\.weight' is missing"),
        ("gpt2", {"attention__head_count": 3}, "must be a multiple of n_head"),
        ("gptneox", {"rope__dimension_count": ...}, "the metadata lacks 'rope.dimension_count'"),
        ("gptneox", {"rope__dimension_count": 5}, "rotary_pct must leave an even number"),
    ],
)
def test_refused_metadata(name: str, changes: dict[str, Any], message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(write(name, **changes))
    assert f"{name}.gguf" in str(error.value) and "\n" not in str(error.value)


def test_rotary_scaling(write: Callable[..., Path]) -> None:
    plain, linear = (
        load_checkpoint(write("qwen2")),
        load_checkpoint(write("qwen2", rope__scaling__type="linear", rope__scaling__factor=4.0)),
    )
    frequencies = [checkpoint.canonical.tensors["rotary.frequencies"] for checkpoint in (plain, linear)]
    assert torch.equal(frequencies[0], frequencies[1] * 4) and plain.content_hash != linear.content_hash
    yarn = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__scaling__original_context_length": 32}
    assert float(load_checkpoint(write("qwen2", **yarn)).canonical.tensors["rotary.scale"]) == pytest.approx(
        0.1 * torch.log(torch.tensor(4.0)) + 1
    )
