"""Small random checkpoints of both families, and windows of tokens for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.models.tokenizer import byte_tokenizer_files

VOCABULARY = 260


def llama() -> Any:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=256, eos_token_id=256)
    )


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def checkpoint_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 64 positions with random weights, large enough that attention matters."""
    folder = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = {"llama": llama, "gpt2": gpt2}[request.param]()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim == 2 and "wpe" not in name:
                    weight.mul_(4)
    model.save_pretrained(folder)
    for name, content in byte_tokenizer_files(VOCABULARY).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def checkpoint(checkpoint_folder: Path) -> Checkpoint:
    """That model."""
    return load_checkpoint(checkpoint_folder)


@pytest.fixture
def dense(checkpoint: Checkpoint) -> Any:
    """The transformers model."""
    return checkpoint.dense_model()


@pytest.fixture
def windows() -> torch.Tensor:
    """int64 [6, 12]."""
    return torch.randint(VOCABULARY, (6, 12), generator=torch.Generator().manual_seed(1))
