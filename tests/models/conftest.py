"""Small checkpoints on disk, in both formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from neuromorphic_llm.models.checkpoint import Checkpoint, random_checkpoint
from neuromorphic_llm.models.files import RawCheckpoint, write_folder
from neuromorphic_llm.models.llama import hugging_face_config
from neuromorphic_llm.reference.config import DecoderConfig

SMALL = DecoderConfig(
    vocab_size=260,
    hidden_size=64,
    intermediate_size=96,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=16,
    max_positions=64,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    tie_embeddings=False,
    bos_token_id=None,
    eos_token_ids=(256,),
)


@pytest.fixture(scope="session")
def small() -> Checkpoint:
    return random_checkpoint(SMALL, seed=1)


@pytest.fixture
def write(tmp_path: Path, small: Checkpoint) -> Callable[..., Path]:
    """Writes the small checkpoint as a folder, with changes: `write(config={...}, tensors={...})`; a tensor None is left out."""

    def write_changed(config: dict[str, Any] | None = None, tensors: dict[str, torch.Tensor | None] | None = None) -> Path:
        changed = {**small.tensors, **(tensors or {})}
        kept = {name: tensor for name, tensor in changed.items() if tensor is not None}
        folder = tmp_path / "model"
        write_folder(RawCheckpoint({**hugging_face_config(SMALL), **(config or {})}, kept, small.tokenizer_files), folder)
        return folder

    return write_changed


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key projection in GGUF's order: row 2 j + s of a head is row s * head_dim / 2 + j of ours."""
    rows, inputs = weight.shape
    head_dim = rows // heads
    order = [head * head_dim + s * head_dim // 2 + j for head in range(heads) for j in range(head_dim // 2) for s in range(2)]
    return weight[order].reshape(rows, inputs)


@pytest.fixture
def gguf_file(tmp_path: Path, small: Checkpoint) -> Callable[..., Path]:
    """Writes the small checkpoint as a float32 GGUF file, with changed metadata: `gguf_file(architecture="bloom")`."""

    def write_gguf(architecture: str = "llama") -> Path:
        path = tmp_path / "small.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_embedding_length(SMALL.hidden_size)
        writer.add_feed_forward_length(SMALL.intermediate_size)
        writer.add_block_count(SMALL.layers)
        writer.add_head_count(SMALL.heads)
        writer.add_head_count_kv(SMALL.kv_heads)
        writer.add_context_length(SMALL.max_positions)
        writer.add_layer_norm_rms_eps(SMALL.rms_norm_eps)
        writer.add_rope_freq_base(SMALL.rope_theta)
        writer.add_eos_token_id(256)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, SMALL.layers)
        for name, weight in small.tensors.items():
            heads = SMALL.heads if ".q_proj." in name else SMALL.kv_heads
            stored = interleaved(weight, heads) if ".q_proj." in name or ".k_proj." in name else weight
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), stored.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write_gguf
