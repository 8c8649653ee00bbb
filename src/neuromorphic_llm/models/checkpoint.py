"""Checkpoints: a decoder's configuration, float32 weights and tokenizer, checked, whatever file they came from."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models import llama
from neuromorphic_llm.models.canonical import CanonicalDecoder, rotary_frequencies
from neuromorphic_llm.models.fetch import fetch_checkpoint, fetch_from_hub
from neuromorphic_llm.models.files import RawCheckpoint, is_gguf, read_folder, read_gguf
from neuromorphic_llm.models.registry import KNOWN_MODELS, did_you_mean, known_names
from neuromorphic_llm.models.tokenizer import BYTE_TOKENS, byte_tokenizer_files, load_tokenizer
from neuromorphic_llm.reference.weights import DecoderConfig

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Buffers that old checkpoints store although they follow from the configuration.
_IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


@dataclass(frozen=True)
class Checkpoint:
    """A decoder with float32 weights.

    `tensors` has the Hugging Face Llama names, linear weights [outputs, inputs]; `lm_head.weight` is there even when tied.
    """

    name: str
    config: DecoderConfig
    tensors: dict[str, torch.Tensor]
    tokenizer_files: dict[str, bytes]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the configuration, the tensors and the tokenizer: the same for a GGUF file and its copy as a folder."""
        digest = hashlib.sha256(json.dumps(self.config.to_json(), sort_keys=True).encode())
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
        rotary = {"rotary.frequencies": rotary_frequencies(self.config), "rotary.scale": torch.tensor(1.0, dtype=torch.float64)}
        return CanonicalDecoder(self.config, {**self.tensors, **rotary})

    @property
    def parameters(self) -> int:
        """Number of weights, a tied embedding counted once."""
        tied = self.tensors["lm_head.weight"].numel() if self.config.tie_embeddings else 0
        return sum(tensor.numel() for tensor in self.tensors.values()) - tied

    def tokenizer(self) -> Any:
        """The transformers tokenizer; CheckpointError if the checkpoint has none."""
        return load_tokenizer(self.tokenizer_files)

    def dense_model(self, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> LlamaForCausalLM:
        """The model in transformers, in eval mode, with its own copy of the weights."""
        from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        settings = llama.hugging_face_config(self.config)
        config = LlamaConfig(**settings)
        # Built without memory, so that 13B parameters are not first filled with random numbers.
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        names = [name for name in self.tensors if name != "lm_head.weight" or not self.config.tie_embeddings]
        state = {name: self.tensors[name].to(device=device, dtype=dtype, copy=True) for name in names}
        if self.config.tie_embeddings:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        model.load_state_dict(state, strict=True, assign=True)
        model.tie_weights()
        # Its frequencies are no part of the weights and were left without memory.
        model.model.rotary_emb = LlamaRotaryEmbedding(config).to(device)
        eos = list(self.config.eos_token_ids) or None
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=self.config.bos_token_id, eos_token_id=eos, pad_token_id=eos[0] if eos else None
        )
        model.requires_grad_(False)
        model.eval()  # type: ignore[no-untyped-call]
        return model


def load_checkpoint(argument: str | Path) -> Checkpoint:
    """Load a checkpoint: a known name (fetched if it is not cached), a Hugging Face folder, a GGUF file or a hub id.

    Raises CheckpointError saying what is wrong with it, where, and what to do.
    """
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
            raise CheckpointError(f"{path} is not a GGUF file; give a GGUF file, a Hugging Face folder or a known name: {known_names()}")
        return _checked(path.stem, read_gguf(path), str(path))
    if not isinstance(argument, Path) and _HUB_ID.fullmatch(text):
        return _checked(text, read_folder(fetch_from_hub(text)), text)
    raise CheckpointError(
        f"{text!r} is not a known model{did_you_mean(text)}, a folder, a GGUF file or a hub id; known models: {known_names()}"
    )


def _checked(name: str, raw: RawCheckpoint, where: str) -> Checkpoint:
    """The checkpoint if every tensor is there, has its shape and is finite."""
    config = llama.decoder_config(raw.config, where)
    shapes = llama.tensor_shapes(config)
    tensors = dict(raw.tensors)
    if config.tie_embeddings and "model.embed_tokens.weight" in tensors:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
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
        if tensor not in shapes and not _IGNORED.fullmatch(tensor):
            raise CheckpointError(f"{where}: tensor {tensor!r} is no part of a plain Llama decoder; choose a checkpoint without it")
    return Checkpoint(name, config, {tensor: tensors[tensor] for tensor in shapes}, raw.tokenizer_files)


def random_checkpoint(config: DecoderConfig, seed: int) -> Checkpoint:
    """Random weights, scaled so that activations keep their size; a byte-level tokenizer if the vocabulary has room for it.

    Linear weights are normal with variance 1 / inputs, norms near 1.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in llama.tensor_shapes(config).items():
        if name == "lm_head.weight" and config.tie_embeddings:
            tensors[name] = tensors["model.embed_tokens.weight"]
            continue
        noise = torch.randn(shape, generator=generator)
        tensors[name] = 1.0 + 0.1 * noise if len(shape) == 1 else noise / math.sqrt(shape[1])
    files = byte_tokenizer_files(config.vocab_size) if config.vocab_size > BYTE_TOKENS else {}
    return Checkpoint(f"random-{seed}", config, tensors, files)
