"""Checkpoints: a decoder's configuration, float32 weights and tokenizer, checked, whatever file they came from."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neuromorphic_llm.errors import CheckpointError, UsageError
from neuromorphic_llm.models.attention_biases import without_idle_biases
from neuromorphic_llm.models.canonical import CanonicalDecoder, rotary_frequencies
from neuromorphic_llm.models.dense import build_dense_model
from neuromorphic_llm.models.duplicates import check_buffers, tie_head, under_one_name
from neuromorphic_llm.models.entries import Entries
from neuromorphic_llm.models.families import FAMILIES
from neuromorphic_llm.models.family import Family
from neuromorphic_llm.models.fetch import fetch_checkpoint, fetch_from_hub
from neuromorphic_llm.models.files import RawCheckpoint, read_folder, read_gguf
from neuromorphic_llm.models.gguf_file import is_gguf
from neuromorphic_llm.models.llama import ARCHITECTURE
from neuromorphic_llm.models.llama import hugging_face_config as llama_settings
from neuromorphic_llm.models.registry import KNOWN_MODELS, did_you_mean
from neuromorphic_llm.models.tokenizer import BYTE_TOKENS, byte_tokenizer_files, load_tokenizer
from neuromorphic_llm.reference.config import DecoderConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Checkpoint:
    """A decoder with float32 weights.

    `config` is that of the canonical decoder, `tensors` has the family's Hugging Face names; `lm_head.weight` is there even when tied.
    """

    name: str
    config: DecoderConfig
    tensors: dict[str, torch.Tensor]
    tokenizer_files: dict[str, bytes]
    settings: Mapping[str, Any] | None = None  # Hugging Face configuration; None: a plain Llama decoder, which `config` describes

    @property
    def hugging_face_config(self) -> Mapping[str, Any]:
        """The family's own configuration."""
        return llama_settings(self.config) if self.settings is None else self.settings

    @property
    def family(self) -> Family:
        """The family that the checkpoint belongs to."""
        return FAMILIES[self.hugging_face_config["architectures"][0]]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the configuration, the tensors and the tokenizer: the same for a GGUF file and its copy as a folder."""
        digest = hashlib.sha256(json.dumps(self.config.to_json(), sort_keys=True).encode())
        if self.settings is not None and not self._is_plain_llama():
            entries = self.family.read(self.hugging_face_config, self.name)[2]
            digest.update(json.dumps([self.family.architecture, entries.read], sort_keys=True).encode())
        for name in sorted(self.tensors):
            if name == "lm_head.weight" and self.config.tie_embeddings:
                continue
            digest.update(name.encode())
            digest.update(self.tensors[name].contiguous().numpy().data)
        for name in sorted(self.tokenizer_files):
            digest.update(name.encode())
            digest.update(self.tokenizer_files[name])
        return digest.hexdigest()

    @cached_property
    def canonical(self) -> CanonicalDecoder:
        """The decoder that every family is brought to (docs/reference/families.md)."""
        entries = Entries(self.hugging_face_config, self.name)
        return CanonicalDecoder(self.config, without_idle_biases(self.config, self.family.canonical(entries, self.config, self.tensors)))

    def _is_plain_llama(self) -> bool:
        """Configuration and tensors say everything."""
        if self.family.architecture != ARCHITECTURE:
            return False
        tensors = self.canonical.tensors
        return torch.equal(tensors["rotary.frequencies"], rotary_frequencies(self.config)) and float(tensors["rotary.scale"]) == 1.0

    @property
    def parameters(self) -> int:
        """Number of weights, a tied embedding counted once."""
        tied = self.tensors["lm_head.weight"].numel() if self.config.tie_embeddings else 0
        return sum(tensor.numel() for tensor in self.tensors.values()) - tied

    def tokenizer(self) -> Any:
        """The transformers tokenizer; CheckpointError if the checkpoint has none."""
        return load_tokenizer(self.tokenizer_files, self.name, self.config.vocab_size)

    def dense_model(self, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> PreTrainedModel:
        """The family's own model in transformers, in eval mode, with its own copy of the weights."""
        return build_dense_model(self.family, self.hugging_face_config, self.config, self.tensors, dtype, device)


def load_checkpoint(argument: str | Path) -> Checkpoint:
    """Load a checkpoint: a known name (fetched if it is not cached), a Hugging Face folder, a GGUF file or a hub id.

    Raises CheckpointError saying what is wrong with it, where, and what to do; UsageError for what is no name or path.
    """
    if not isinstance(argument, str | Path):
        raise UsageError(f"a model is a known name, a folder, a file or a hub id, got {type(argument).__name__}; give its name or path")
    text = str(argument)
    if text in KNOWN_MODELS and not isinstance(argument, Path):
        random_config = KNOWN_MODELS[text].random_config
        if random_config is not None:
            return replace(random_checkpoint(random_config, seed=0), name=text)
        return _checked(text, read_folder(fetch_checkpoint(text)), f"{text} (run nmllm fetch {text} to check it)")
    path = Path(argument).expanduser()
    if path.is_dir():
        return _checked(path.resolve().name, read_folder(path), str(path))
    if path.is_file():
        if not is_gguf(path):
            raise CheckpointError(f"{path} is not a GGUF file; give a GGUF file, a Hugging Face folder or a known name: {KNOWN_MODELS}")
        return _checked(path.stem, read_gguf(path), str(path))
    if not isinstance(argument, Path) and _HUB_ID.fullmatch(text):
        return _checked(text, read_folder(fetch_from_hub(text)), text)
    raise CheckpointError(
        f"{text!r} is not a known model{did_you_mean(text)}, a folder, a GGUF file or a hub id; known models: {KNOWN_MODELS}"
    )


def _checked(name: str, raw: RawCheckpoint, where: str) -> Checkpoint:
    """The checkpoint if every tensor is there, has its shape and is finite."""
    family = FAMILIES[raw.config["architectures"][0]]
    config, shapes, entries = family.read(raw.config, where)
    settings, tensors = raw.config, under_one_name(family, shapes, raw.tensors, where)
    if config.tie_embeddings and not tie_head(family, tensors, where):
        config, settings = replace(config, tie_embeddings=False), {**settings, "tie_word_embeddings": False}
    for tensor, shape in shapes.items():
        if tensor not in tensors:
            raise CheckpointError(f"{where}: tensor {tensor!r} is missing; the checkpoint is incomplete, fetch it again")
        if tuple(tensors[tensor].shape) != shape:
            found = list(tensors[tensor].shape)
            raise CheckpointError(f"{where}: tensor {tensor!r} has shape {found}, its configuration says {list(shape)}; fetch it again")
        # A sum is finite only if all its terms are (or it overflows, which weights of any sense do not).
        if not torch.isfinite(tensors[tensor].sum()):
            raise CheckpointError(f"{where}: tensor {tensor!r} holds NaN or infinite weights; the checkpoint is damaged")
    for tensor in tensors:
        if tensor not in shapes:
            what = f"is no part of the {family.architecture} that its configuration describes"
            raise CheckpointError(f"{where}: tensor {tensor!r} {what}; choose a checkpoint without it")
    check_buffers(raw.buffers, family.frequencies(entries, config), where)
    return Checkpoint(name, config, {tensor: tensors[tensor] for tensor in shapes}, raw.tokenizer_files, settings)


def random_checkpoint(config: DecoderConfig, seed: int) -> Checkpoint:
    """Random weights, scaled so that activations keep their size; a byte-level tokenizer if the vocabulary has room for it.

    Linear weights are normal with variance 1 / inputs, norms near 1.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in FAMILIES[ARCHITECTURE].read(llama_settings(config), "random checkpoint")[1].items():
        if name == "lm_head.weight" and config.tie_embeddings:
            tensors[name] = tensors["model.embed_tokens.weight"]
            continue
        noise = torch.randn(shape, generator=generator)
        tensors[name] = 1.0 + 0.1 * noise if len(shape) == 1 else noise / math.sqrt(shape[1])
    files = byte_tokenizer_files(config.vocab_size) if config.vocab_size > BYTE_TOKENS else {}
    return Checkpoint(f"random-{seed}", config, tensors, files)
