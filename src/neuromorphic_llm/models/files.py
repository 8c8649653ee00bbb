"""Reading checkpoints from disk: Hugging Face folders (safetensors) and GGUF files, both as Hugging Face names in float32."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from neuromorphic_llm.artefact import METADATA
from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.families import FAMILIES
from neuromorphic_llm.models.gguf_families import SPELLINGS, read_family
from neuromorphic_llm.models.gguf_file import open_gguf
from neuromorphic_llm.models.llama import ARCHITECTURE
from neuromorphic_llm.models.text_tokens import with_gguf_beginning
from neuromorphic_llm.models.tokenizer import gguf_tokenizer_files, read_tokenizer_files, with_class
from neuromorphic_llm.text_file import LIMITS, FileRefusedError, read_bytes

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_LONGEST_NAME = 255
"""Bytes of a file's name that file systems allow."""


@dataclass(frozen=True)
class RawCheckpoint:
    """A checkpoint as its files say, not yet checked against its configuration."""

    config: dict[str, Any]  # Hugging Face configuration
    tensors: dict[str, torch.Tensor]  # float32, the family's Hugging Face names
    tokenizer_files: dict[str, bytes]
    buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    """Masks and rotary tables that older files hold although the class computes them, as stored."""


def _unsupported(where: Path, found: str) -> CheckpointError:
    return CheckpointError(f"{where}: architecture {found} is not supported; supported: {FAMILIES}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path, LIMITS["json"]))
    except (OSError, ValueError, RecursionError, FileRefusedError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); fetch the checkpoint again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object; fetch the checkpoint again")
    return content


def own_file(folder: Path, name: str) -> Path:
    """The path of a file in a checkpoint's folder; CheckpointError for a link that leads out of it.

    Names and links may come from whoever made the checkpoint. Only a hub cache's links are followed: from `snapshots/REVISION` to `blobs`.
    """
    path, home = folder / name, folder.resolve()
    if path.is_symlink():
        try:
            target = path.resolve()
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path} is a link that leads nowhere; fetch the checkpoint again") from error
        in_blobs = home.parent.name == "snapshots" and target.is_relative_to(home.parent.parent / "blobs")
        if not target.is_relative_to(home) and not in_blobs:
            raise CheckpointError(f"{path} is a link to {target}, outside its folder; copy the file there if you trust it")
    return path


def read_folder(folder: Path) -> RawCheckpoint:
    """Read a Hugging Face folder; CheckpointError for a missing or damaged file and an unsupported architecture."""
    if own_file(folder, "adapter_config.json").is_file():
        raise CheckpointError(f"{folder} holds an adapter (adapter_config.json); merge it into its model and give the result")
    if not own_file(folder, "config.json").is_file():
        converted = ", but a network or program of this package" if (folder / METADATA).is_file() else ""
        raise CheckpointError(f"{folder} holds no config.json{converted}; give a Hugging Face checkpoint folder or a GGUF file")
    config = _read_json(folder / "config.json")
    architectures = config.get("architectures") or [f"of model type {config.get('model_type')!r}"]
    if not isinstance(architectures, list) or not isinstance(architectures[0], str):
        expected = f'a list of names such as ["{ARCHITECTURE}"]'
        raise CheckpointError(f"{folder}: architectures must be {expected}, got {architectures!r}; correct its config.json")
    if architectures[0] not in FAMILIES:
        raise _unsupported(folder, architectures[0])
    family = FAMILIES[architectures[0]]
    if config.get("model_type") not in (None, family.model_type):
        # transformers goes by the model type, whose class may leave tensors unread and compute something else.
        what = f"model_type {config['model_type']!r} is not that of {family.architecture}, {family.model_type!r}"
        raise CheckpointError(f"{folder}: {what}; correct its config.json")
    if config.get("transformers_weights") not in (None, WEIGHTS):
        raise CheckpointError(f"{folder}: weights under another name (transformers_weights) are not read; name the file {WEIGHTS}")
    generation = own_file(folder, "generation_config.json")
    if generation.is_file() and (eos := _read_json(generation).get("eos_token_id")) is not None:
        # Chat models list the end of a turn only here.
        config["eos_token_id"] = eos
    tensors, buffers = _read_weights(folder, family.ignored)
    tokenizer = read_tokenizer_files(folder, own_file)
    if architectures[0] != ARCHITECTURE:  # what a tokenizer without a class is taken for anyway
        tokenizer = with_class(tokenizer, family.tokenizer_class)
    return RawCheckpoint(config, tensors, tokenizer, buffers)


def _read_weights(folder: Path, ignored: re.Pattern[str]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(tensors in float32, buffers as stored) of all weight files; CheckpointError for a tensor that two files hold differently."""
    tensors: dict[str, torch.Tensor] = {}
    buffers: dict[str, torch.Tensor] = {}
    source: dict[str, str] = {}
    for path in _weight_files(folder):
        stored = _read_safetensors(path)
        buffers |= {name: stored.pop(name) for name in list(stored) if ignored.fullmatch(name)}
        for name, tensor in _as_float(stored, path).items():
            if name in tensors and not torch.equal(tensors[name], tensor):
                what = f"tensor {name!r} is in {source[name]} and, with other weights, in {path.name}"
                raise CheckpointError(f"{folder}: {what}; fetch the checkpoint again")
            tensors[name], source[name] = tensor, path.name
    return tensors, buffers


def _weight_files(folder: Path) -> list[Path]:
    """The whole file if there is one, as in transformers, otherwise those that the index names."""
    whole = own_file(folder, WEIGHTS)
    if not whole.is_file() and own_file(folder, INDEX).is_file():
        shards = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise CheckpointError(f"{folder / INDEX} has no weight_map; fetch the checkpoint again")
        for name in shards.values():
            if Path(name).name != name or name in ("", "..") or "\0" in name or len(name.encode(errors="replace")) > _LONGEST_NAME:
                what = f"names the file {name[:_LONGEST_NAME]!r}, which is not one of its folder"
                raise CheckpointError(f"{folder / INDEX} {what}; do not trust this checkpoint")
        return [own_file(folder, name) for name in sorted(set(shards.values()))]
    if not whole.is_file() and (folder / "pytorch_model.bin").is_file():
        raise CheckpointError(f"{folder} holds only pytorch_model.bin, which is not read because it can run code; save it as safetensors")
    return [whole]


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a file as stored; CheckpointError if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}); fetch the checkpoint again") from error


def _as_float(stored: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Tensors in float32; 8-bit matrices [outputs, inputs] times their scales [outputs], stored as `NAME_scale`."""
    tensors = dict(stored)
    for name in [name for name, tensor in tensors.items() if tensor.dtype == torch.int8 and f"{name}_scale" in tensors]:
        scale = tensors.pop(f"{name}_scale")
        if scale.numel() != len(tensors[name]):
            raise CheckpointError(f"{path}: tensor {name!r} has {len(tensors[name])} rows and {scale.numel()} scales; fetch it again")
        tensors[name] = tensors[name] * scale.float().reshape(-1, 1)
    for name, tensor in tensors.items():
        # Other integers are quantised weights: taken as they are, they would convert without complaint into another model.
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{path}: tensor {name!r} is {tensor.dtype}, not floating point; choose a checkpoint that is not quantised"
            )
    return {name: tensor.to(torch.float32) for name, tensor in tensors.items()}


def read_gguf(path: Path) -> RawCheckpoint:
    """Read a GGUF file, dequantised to float32; CheckpointError for a damaged file and an unsupported architecture."""
    fields, stored = open_gguf(path)
    architecture = fields.get("general.architecture")
    if architecture not in SPELLINGS:
        raise _unsupported(path, f"{architecture!r} (GGUF)")
    config, weights = read_family(fields, stored, str(path))
    # The reader maps the file: copy, so that the tensors outlive it.
    tensors = {name: torch.from_numpy(weight.astype("float32", order="C", copy=True)) for name, weight in weights.items()}
    tokenizer = gguf_tokenizer_files(path, fields)
    return RawCheckpoint(config, tensors, with_gguf_beginning(tokenizer, fields, str(path)) if tokenizer else {})


def write_folder(raw: RawCheckpoint, folder: Path) -> None:
    """Write a checkpoint as a Hugging Face folder, float32 so that no value changes."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**raw.config, "dtype": "float32"}, indent=1) + "\n")
    for name, content in raw.tokenizer_files.items():
        (folder / name).write_bytes(content)
    save_file(raw.tensors, folder / WEIGHTS, metadata={"format": "pt"})
    # safetensors makes private files; the cache may be shared.
    shutil.copymode(folder / "config.json", folder / WEIGHTS)
