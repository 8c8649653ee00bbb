"""Reading checkpoints from disk: Hugging Face folders (safetensors) and GGUF files, both as Hugging Face names in float32."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.families import FAMILIES, supported
from neuromorphic_llm.models.gguf_families import SPELLINGS, read_family
from neuromorphic_llm.models.llama import ARCHITECTURE
from neuromorphic_llm.models.llama_gguf import GGUF_ARCHITECTURE, read_llama
from neuromorphic_llm.models.tokenizer import gguf_tokenizer_files, read_tokenizer_files, with_class

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True)
class RawCheckpoint:
    """A checkpoint as its files say, not yet checked against its configuration."""

    config: dict[str, Any]  # Hugging Face configuration
    tensors: dict[str, torch.Tensor]  # float32, the family's Hugging Face names
    tokenizer_files: dict[str, bytes]


def _unsupported(where: Path, found: str) -> CheckpointError:
    return CheckpointError(f"{where}: architecture {found} is not supported; supported: {supported()}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); fetch the checkpoint again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object; fetch the checkpoint again")
    return content


def read_folder(folder: Path) -> RawCheckpoint:
    """Read a Hugging Face folder; CheckpointError for a missing or damaged file and an unsupported architecture."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json; give a Hugging Face checkpoint folder or a GGUF file")
    config = _read_json(folder / "config.json")
    architectures = config.get("architectures") or [f"of model type {config.get('model_type')!r}"]
    if not isinstance(architectures, list) or not isinstance(architectures[0], str):
        expected = f'a list of names such as ["{ARCHITECTURE}"]'
        raise CheckpointError(f"{folder}: architectures must be {expected}, got {architectures!r}; correct its config.json")
    if architectures[0] not in FAMILIES:
        raise _unsupported(folder, architectures[0])
    generation = folder / "generation_config.json"
    if generation.is_file() and (eos := _read_json(generation).get("eos_token_id")) is not None:
        # Chat models list the end of a turn only here.
        config["eos_token_id"] = eos
    tensors: dict[str, torch.Tensor] = {}
    for path in _weight_files(folder):
        tensors |= _read_safetensors(path)
    tokenizer = read_tokenizer_files(folder)
    if architectures[0] != ARCHITECTURE:  # what a tokenizer without a class is taken for anyway
        tokenizer = with_class(tokenizer, FAMILIES[architectures[0]].tokenizer_class)
    return RawCheckpoint(config, tensors, tokenizer)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        shards = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise CheckpointError(f"{folder / INDEX} has no weight_map; fetch the checkpoint again")
        return [folder / name for name in sorted(set(shards.values()))]
    if not (folder / WEIGHTS).is_file() and (folder / "pytorch_model.bin").is_file():
        raise CheckpointError(f"{folder} holds only pytorch_model.bin, which is not read because it can run code; save it as safetensors")
    return [folder / WEIGHTS]


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a file in float32; 8-bit matrices [outputs, inputs] times their scales [outputs], stored as `NAME_scale`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}); fetch the checkpoint again") from error
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


def is_gguf(path: Path) -> bool:
    """Whether the file starts as a GGUF file does."""
    with path.open("rb") as file:
        return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC


def read_gguf(path: Path) -> RawCheckpoint:
    """Read a GGUF file, dequantised to float32; CheckpointError for a damaged file and an unsupported architecture."""
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.ggml.token")}
        architecture = fields.get("general.architecture")
        if architecture != GGUF_ARCHITECTURE and architecture not in SPELLINGS:
            raise _unsupported(path, f"{architecture!r} (GGUF)")
        stored = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
        read = read_llama if architecture == GGUF_ARCHITECTURE else read_family
        config, weights = read(fields, stored, str(path))
        # The reader maps the file: copy, so that the tensors outlive it.
        tensors = {name: torch.from_numpy(weight.astype("float32", order="C", copy=True)) for name, weight in weights.items()}
    except CheckpointError:
        raise
    except (OSError, ValueError, IndexError, KeyError, NotImplementedError, UnicodeDecodeError, OverflowError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({type(error).__name__}: {error}); fetch the file again") from error
    splitting = str(fields.get("tokenizer.ggml.pre", ""))
    tokenizer = gguf_tokenizer_files(path, splitting) if "tokenizer.ggml.model" in fields else {}
    return RawCheckpoint(config, tensors, tokenizer)


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
