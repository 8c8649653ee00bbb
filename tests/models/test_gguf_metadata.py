"""GGUF files as llama.cpp reads them: metadata that count, metadata that are refused by name, and files that are no whole model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from family_models import family_model
from gguf_models import CHANGES, write_gguf
from llama_cpp_cases import CASES, PROMPT, RECORDED, write_case

from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.errors import CheckpointError, NeuromorphicLLMWarning
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.models.files import read_gguf, write_folder

PREDICTED: dict[str, dict[str, float]] = json.loads(RECORDED.read_text())


def test_every_case_is_recorded_and_changes_predictions() -> None:
    """Those whose metadata mean nothing predict what the plain file does."""
    assert list(PREDICTED) == list(CASES)
    plain = [name for name in PREDICTED if name.startswith("llama") and PREDICTED[name] == PREDICTED["llama"]]
    assert plain == [
        "llama",
        "llama factor, type none",
        "llama factor 0 and scale_linear",
        "llama yarn, no factor",
        "llama rope_freqs of ones",
        "llama no freq_base",
        "llama harmless",
    ]


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_predictions_are_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    """Log probabilities of the likeliest next tokens; llama.cpp keeps keys and values in 16 bits."""
    path = write_case(name, tmp_path / "case.gguf")
    checkpoint = load_checkpoint(path)
    ids = torch.tensor([PROMPT])
    dense = checkpoint.dense_model()(ids).logits
    torch.testing.assert_close(FloatDecoder(checkpoint.canonical)(ids), dense, rtol=5e-5, atol=5e-5)
    ours = dense[0, -1].log_softmax(-1)
    for token, expected in PREDICTED[name].items():
        assert float(ours[int(token)]) == pytest.approx(expected, abs=0.01)
    # The folder that a fetch makes of the file is the same model, for transformers too.
    write_folder(read_gguf(path), tmp_path / "folder")
    from transformers import AutoModelForCausalLM

    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained(tmp_path / "folder")(ids).logits, dense)
    assert load_checkpoint(tmp_path / "folder").content_hash == checkpoint.content_hash


@torch.no_grad()
def test_rope_freqs_of_llama_3(tmp_path: Path) -> None:
    """The converter writes what the scaling llama3 divides frequencies by; transformers' model of that scaling predicts the same."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    model = family_model("llama3", hidden_act="silu")
    scaled = ROPE_INIT_FUNCTIONS["llama3"](model.config, "cpu")[0].double()
    plain = 5000.0 ** -(torch.arange(0, 10, 2, dtype=torch.float64) / 10)
    assert float((plain / scaled).max()) > 3.9
    factors = (plain / scaled).float().numpy()
    path = write_gguf("llama", model, tmp_path / "model.gguf", {"rope_freqs.weight": factors}, interleaved=5)
    checkpoint, ids = load_checkpoint(path), torch.tensor([PROMPT])
    torch.testing.assert_close(checkpoint.dense_model()(ids).logits, model(ids).logits, rtol=2e-5, atol=2e-5)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(name: str = "llama", file: str = "model.gguf", **changes: Any) -> Path:
        return write_gguf(name, family_model(name, **CHANGES[name]), tmp_path / file, **changes)

    return written


FOREIGN: dict[str, Any] = {
    "attention.scale": 0.1,
    "attention.sliding_window": 3,
    "attention.causal": False,
    "attention.clamp_kqv": 0.1,
    "attention.max_alibi_bias": 8.0,
    "attention.layer_norm_epsilon": 0.5,
    "attention.key_length_mla": 8,
    "attn_logit_softcapping": 1.0,
    "final_logit_softcapping": 1.0,
    "logit_scale": 0.1,
    "residual_scale": 0.1,
    "embedding_scale": 0.1,
    "use_parallel_residual": True,
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_feed_forward_length": 64,
    "leading_dense_block_count": 1,
    "nextn_predict_layers": 1,
    "pooling_type": 1,
    "rope.dimension_sections": [1, 2, 4, 0],
    "rope.freq_base_swa": 50.0,
    "rope.scaling.alpha": 4.0,
    "rope.scaling.attn_factor": 0.5,
    "rope.scaling.yarn_log_multiplier": 0.7,
    "rope.scaling.yarn_ext_factor": 0.5,
    "rope.scaling.yarn_beta_fast": 8.0,
    "rope.scaling.yarn_beta_slow": 2.0,
    "swiglu_clamp_exp": [0.1, 0.2, 0.1],
    "something_new": "yes",
}
"""Keys that no Llama decoder has."""


@pytest.mark.parametrize("key", FOREIGN)
@pytest.mark.parametrize("name", ["llama", "qwen3", "gptneox"])
def test_metadata_that_are_refused_by_name(name: str, key: str, write: Callable[..., Path]) -> None:
    if name == "gptneox" and key in ("use_parallel_residual", "attention.layer_norm_epsilon"):
        return
    with pytest.raises(CheckpointError, match=rf"metadata {name}\.{key.replace('.', '[.]')} = .* is not supported; choose") as error:
        load_checkpoint(write(name, **{key.replace(".", "__"): FOREIGN[key]}))
    assert "model.gguf" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"rope__scaling__type": "longrope"}, "rope scaling 'longrope' is not supported"),
        ("llama", {"rope__scaling__type": "dynamic"}, "rope scaling 'dynamic' is not supported"),
        ("llama", {"rope__scaling__factor": 0.5}, r"rope\.scaling\.factor must lie between 1 and 1e6, got 0\.5"),
        ("llama", {"rope__scale_linear": -2.0}, r"rope\.scaling\.factor must lie between 1 and 1e6, got -2\.0"),
        ("llama", {"rope__scaling__factor": float("nan")}, r"rope\.scaling\.factor must lie between 1 and 1e6, got nan"),
        ("llama", {"rope__scaling__factor": "four"}, "could not convert string to float: 'four'"),
        ("llama", {"rope__dimension_count": 8}, r"rope\.dimension_count is not the head size 14"),
        ("llama", {"attention__value_length": 8}, r"attention\.value_length is not the head size 14"),
        ("llama", {"attention__head_count": [4, 2, 4]}, r"num_attention_heads must be a positive integer, got \[4, 2, 4\]|not valid"),
        ("llama", {"attention__layer_norm_rms_epsilon": ...}, r"lacks 'llama\.attention\.layer_norm_rms_epsilon'"),
        ("llama", {"tensors": {"rope_freqs.weight": np.ones(5, "float32")}}, r"rope_freqs\.weight has the shape \[5\], not \[7\]"),
        ("llama", {"tensors": {"rope_freqs.weight": -np.ones(7, "float32")}}, r"rope_freqs\.weight must hold positive numbers"),
        ("llama", {"tensors": {"rope_freqs.weight": np.full(7, np.nan, "float32")}}, r"rope_freqs\.weight must hold positive numbers"),
        (
            "llama",
            {
                "tensors": {"rope_freqs.weight": np.arange(1, 8, dtype="float32")},
                "rope__scaling__type": "yarn",
                "rope__scaling__factor": 2.0,
            },
            r"rope_freqs\.weight together with rope scaling 'yarn' is not supported",
        ),
        ("llama", {"tensors": {"rope_factors_long.weight": np.ones(7, "float32")}}, r"tensor 'rope_factors_long\.weight' is no part"),
        ("llama", {"tensors": {"output.bias": np.ones(261, "float32")}}, r"tensor '(output|lm_head)\.bias' is no part"),
        ("llama", {"tensors": {"blk.0.attn_q.scale": np.ones(1, "float32")}}, r"tensor 'blk\.0\.attn_q\.scale' is no part"),
        ("llama", {"tensors": {"blk.0.attn_q_norm.weight": np.ones(14, "float32")}}, "is no part"),
        ("qwen2", {"tensors": {"rope_freqs.weight": np.ones(5, "float32")}}, r"tensor 'rope_freqs\.weight' is no part"),
        ("gemma2", {"rope__scaling__type": "none", "rope__scaling__factor": 2.0}, "a factor beside rope.scaling.type 'none'"),
        ("gemma3", {"attention__sliding_window_pattern": 2}, r"gemma3\.attention\.sliding_window_pattern = 2 is not supported"),
        ("gptneox", {"use_parallel_residual": ...}, r"lacks 'gptneox\.use_parallel_residual'"),
        ("llama", {"tensors": {"model.norm.weight": np.ones(40, "float32")}}, r"tensor 'model\.norm\.weight' has no name of GGUF files"),
        ("llama", {"tensors": {"norm.weight": np.ones(40, "float32")}}, r"'model\.norm\.weight' and differ"),
        ("gptneox", {"tensors": {"output.weight": None}}, r"tensor 'lm_head\.weight' is missing"),
    ],
)
def test_what_the_network_cannot_be(name: str, changes: dict[str, Any], message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(write(name, **changes))
    assert "model.gguf" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general": {"split.count": 3, "split.no": 1}}, r"is part 2 of 3 of a split file; join the parts with llama-gguf-split --merge"),
        ({"file": "model-00002-of-00003.gguf"}, "is part 2 of 3 of a split file"),
        ({"endian": gguf.GGUFEndian.BIG}, r"is big-endian; convert it with gguf-convert-endian model\.gguf little"),
        ({"general": {"general.type": "adapter", "adapter.type": "lora"}}, r"is an adapter \(LoRA\); merge it into its model"),
        ({"general": {"adapter.type": "lora"}}, r"is an adapter \(LoRA\)"),
        ({"general": {"general.type": "mmproj"}}, "is the image or audio part of a model; give the file of its language model"),
        ({"general": {"general.type": "imatrix"}}, "is an importance matrix; give the model's own file"),
        ({"general": {"general.type": "poem"}}, "is of the kind 'poem'; give the file of a model"),
        ({"vocabulary": "bert"}, "tokenizer 'bert' is not supported"),
        ({"vocabulary": "rwkv"}, "tokenizer 'rwkv' is not supported"),
    ],
)
def test_files_are_named_as_what_they_are(changes: dict[str, Any], message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(write(**changes))
    assert "model" in str(error.value) and "\n" not in str(error.value)


def test_one_part_of_one_is_whole(write: Callable[..., Path]) -> None:
    load_checkpoint(write(file="model-00001-of-00001.gguf", general={"split.count": 1, "split.no": 0, "general.type": "model"}))


def test_a_vocabulary_alone(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["a", "b"])
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(CheckpointError, match="holds no weights, only metadata and perhaps a vocabulary"):
        load_checkpoint(tmp_path / "vocabulary.gguf")


@pytest.mark.parametrize(
    ("version", "message"), [(1, "is of GGUF version 1; versions 2 and 3 are read"), (4, "version 4"), (0, "version 0"), (2, None)]
)
def test_versions(version: int, message: str | None, write: Callable[..., Path]) -> None:
    path = write()
    content = bytearray(path.read_bytes())
    content[4:8] = version.to_bytes(4, "little")
    path.write_bytes(content)
    if message is None:
        load_checkpoint(path)
        return
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def retyped(path: Path, kind: int) -> Path:
    """The file with the type of `output_norm.weight` (float32, 0) changed to another number."""
    content = path.read_bytes()
    at = content.index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8
    assert content[at : at + 4] == bytes(4)
    path.write_bytes(content[:at] + kind.to_bytes(4, "little") + content[at + 4 :])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (31, "its weights are in the type 31, which is not known; choose a file in F16, Q8_0, Q4_K or the like"),
        (4096, "its weights are in the type 4096, which is not known"),
        (26, r"tensor 'output_norm\.weight' is in the type I32, which is not read; choose a file in F16"),
    ],
)
def test_types_of_weights_that_are_not_read(kind: int, message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(retyped(write(), kind))


def test_ways_of_splitting_text_that_are_not_known(write: Callable[..., Path]) -> None:
    """The weights are right; that token ids may not be is said."""
    general = {"tokenizer.ggml.pre": "quantum", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": ["1 2"]}
    with pytest.warns(NeuromorphicLLMWarning, match=r"how its tokenizer splits text \('quantum'\) is not known; it is split as for GPT-2"):
        load_checkpoint(write(general=general))
    for pre in ("llama-bpe", "gpt-2", "smollm"):
        load_checkpoint(write(general={**general, "tokenizer.ggml.pre": pre}))
