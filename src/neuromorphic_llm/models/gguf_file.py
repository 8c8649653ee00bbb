"""GGUF files as such: what a file is, its metadata and its dequantised tensors, whatever model they describe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import CheckpointError

GGUF_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_PART = re.compile(r".*-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_KINDS = {
    "adapter": "an adapter (LoRA); merge it into its model with llama-export-lora and give the result",
    "mmproj": "the image or audio part of a model; give the file of its language model",
    "imatrix": "an importance matrix; give the model's own file",
}
"""`general.type` other than a model -> what it is, and what to do."""


def is_gguf(path: Path) -> bool:
    """True if the file starts with the GGUF magic number."""
    with path.open("rb") as file:
        return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC


def open_gguf(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """(metadata without the tokenizer's lists, tensors in float32) of a GGUF file, both by their GGUF names.

    CheckpointError for a file that is damaged, of another byte order or version, a part of a split one, no model, or stored in a type that
    is not read.
    """
    import gguf

    _check_header(path)
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.ggml.token")}
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
        if found := re.search(r"(\d+)\)? is not a valid GGMLQuantizationType", str(error)):
            raise CheckpointError(f"{path}: its weights are in the type {found[1]}, which is not known; {_OTHER_TYPE}") from error
        raise _damaged(path, error) from error
    _check_kind(path, fields, [tensor.name for tensor in reader.tensors])
    stored = {}
    for tensor in reader.tensors:
        try:
            stored[tensor.name] = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            what = f"tensor {tensor.name!r} is in the type {tensor.tensor_type.name}, which is not read"
            raise CheckpointError(f"{path}: {what}; {_OTHER_TYPE}") from error
        except (OSError, ValueError, IndexError) as error:
            raise _damaged(path, error) from error
    return fields, stored


_OTHER_TYPE = "choose a file in F16, Q8_0, Q4_K or the like"


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is truncated or damaged ({type(error).__name__}: {error}); fetch the file again")


def _check_header(path: Path) -> None:
    """CheckpointError for a version that is not read and for the byte order of other machines."""
    with path.open("rb") as file:
        header = file.read(8)
    little, big = (int.from_bytes(header[4:], order) for order in ("little", "big"))
    if len(header) < 8 or little in _VERSIONS:
        return
    if little & 0xFFFF == 0 and 0 < big < 0x10000:
        raise CheckpointError(f"{path} is big-endian; convert it with gguf-convert-endian {path.name} little, which comes with gguf")
    raise CheckpointError(f"{path} is of GGUF version {little}; versions 2 and 3 are read: convert its model again")


def _check_kind(path: Path, fields: dict[str, Any], names: list[str]) -> None:
    """CheckpointError unless the file is a whole model."""
    part, parts = fields.get("split.no", 0), fields.get("split.count", 1)
    if isinstance(part, int) and isinstance(parts, int) and parts > 1:
        _refuse_part(path, part + 1, parts)
    kind = fields.get("general.type", "adapter" if "adapter.type" in fields else "model")
    if kind != "model":
        raise CheckpointError(f"{path} is {_KINDS.get(kind, f'of the kind {kind!r}; give the file of a model')}")
    if (named := _PART.fullmatch(path.name)) and int(named[2]) > 1:
        _refuse_part(path, int(named[1]), int(named[2]))
    if not names:
        raise CheckpointError(f"{path} holds no weights, only metadata and perhaps a vocabulary; give the file of a model")


def _refuse_part(path: Path, part: int, parts: int) -> None:
    what = f"is part {part} of {parts} of a split file"
    raise CheckpointError(f"{path} {what}; join the parts with llama-gguf-split --merge FIRST_PART WHOLE and give the whole")
