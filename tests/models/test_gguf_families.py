"""GGUF files of the other families: the same checkpoint as the folder, the same weights as transformers reads, nothing ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import family_model, saved
from gguf_models import CHANGES, write_gguf

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.checkpoint import load_checkpoint


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
        ("qwen2", {"expert_count": 4}, r"metadata qwen2\.expert_count = 4 is not supported"),
        ("qwen2", {"rope__scaling__type": "yarn", "rope__scaling__attn_factor": 0.5}, r"qwen2\.rope\.scaling\.attn_factor = 0\.5 is not"),
        ("qwen2", {"rope__scaling__type": "longrope"}, "rope scaling 'longrope' is not supported"),
        ("qwen2", {"attention__value_length": 12}, r"attention\.value_length is not the head size 10"),
        ("qwen3", {"rope__dimension_count": 7}, r"rope\.dimension_count is not the head size 14"),
        ("qwen3", {"block_count": ...}, r"the metadata lacks 'qwen3\.block_count'"),
        ("gemma2", {"embedding_length": ...}, r"the metadata lacks 'gemma2\.embedding_length'"),
        ("gemma3", {"block_count": 4}, r"tensor 'model\.layers\.3\.input_layernorm\.weight' is missing"),
        ("gpt2", {"attention__head_count": 3}, "must be a multiple of n_head"),
        ("gptneox", {"rope__dimension_count": ...}, r"the metadata lacks gptneox\.rope\.dimension_count"),
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
