"""State that a training keeps between runs: tensors with a JSON object, and a log; damage is told in one line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.places import refuse_inside_artefact
from neuromorphic_llm.text_file import write_text

_LAST_STEPS = 100


def damaged(path: Path, why: object, advice: str = "remove it to begin anew") -> ConversionError:
    """The error for a file that cannot be what a training wrote."""
    return ConversionError(f"{path} is damaged ({why}); {advice}")


def check_folder(folder: Path, own: str, option: str) -> None:
    """ConversionError if there are other files in the folder and not `own`, by which a training's folder is known; OSError if no folder.

    What a write that was cut leaves has `own` in its name.
    """
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if own not in names and any(own not in name for name in names):
        raise ConversionError(f"{folder} holds other files; choose an empty folder or a new one for {option}")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], key: str = "about") -> None:
    """Write tensors and a JSON object, as metadata `key`; a file there is replaced as a whole. ConversionError if it cannot."""
    refuse_inside_artefact(path)
    waiting = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, waiting, {key: json.dumps(about)})
        waiting.replace(path)
    except (OSError, SafetensorError) as error:
        raise ConversionError(f"{path} cannot be written ({error}); make space or choose another folder") from error
    finally:
        waiting.unlink(missing_ok=True)


def load_tensors(path: Path, key: str = "about", advice: str = "remove it to begin anew") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, JSON object) of save_tensors; ConversionError with the advice if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[key])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except KeyError as error:
        raise damaged(path, f"it has no metadata {key!r}", advice) from error
    except (OSError, SafetensorError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path, error, advice) from error
    if not isinstance(about, dict):
        raise damaged(path, f"its metadata {key!r} is no JSON object", advice)
    return tensors, about


def check_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, Iterable[int]]) -> None:
    """ValueError naming the tensor unless these and no others are there, as finite floating-point numbers."""
    for name in [*shapes, *tensors]:
        if name not in tensors:
            raise ValueError(f"it lacks {name}")
        if name not in shapes:
            raise ValueError(f"{name} does not belong there")
        if tuple(tensors[name].shape) != tuple(shapes[name]):
            raise ValueError(f"{name} has the shape {list(tensors[name].shape)}, not {list(shapes[name])}")
        if not tensors[name].is_floating_point() or not bool(torch.isfinite(tensors[name]).all()):
            raise ValueError(f"{name} has values that are no finite numbers")


def check_number(about: Mapping[str, Any], name: str) -> float:
    """The number of that name; ValueError unless it is finite and not negative."""
    value = about.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number that is not negative, got {value!r}")
    return value


def moments_of(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Moments of the optimizer's parameters, by PREFIX INDEX . NAME."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}{index}.{name}": value.clone() for index, moments in state.items() for name, value in moments.items()}


def restore_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Give back moments_of; a parameter that never had a gradient has none. ValueError if those of one are not whole or do not fit."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found = {name: value for name, value in tensors.items() if name.startswith(prefix)}
    indices = {name.removeprefix(prefix).partition(".")[0] for name in found}
    kinds = ("step", "exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.AdamW) else ("momentum_buffer",)
    given = {index: parameter for index, parameter in enumerate(parameters) if str(index) in indices}
    shapes = {f"{prefix}{index}.{kind}": () if kind == "step" else p.shape for index, p in given.items() for kind in kinds}
    check_tensors(found, shapes)
    state = {index: {kind: found[f"{prefix}{index}.{kind}"] for kind in kinds} for index in given}
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


class TrainingLog:
    """One JSON object per line; lines after the training step that a run goes on from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        entries = _entries(path) if step and path.is_file() else []
        kept = [line for line, entry in entries if entry["step"] < step or (entry["step"] == step and "loss" in entry)]
        self._losses: list[float] = [entry["loss"] for _, entry in entries if entry["step"] <= step and entry.get("loss") is not None]
        write_text(path, "".join(line + "\n" for line in kept))
        self._path = path

    def write(self, entry: dict[str, Any]) -> None:
        """Append a line."""
        # A step that diverges has no finite figures; JSON has no word for them.
        finite = {key: value if math.isfinite(value) else None for key, value in entry.items()}
        if finite.get("loss") is not None:
            self._losses.append(entry["loss"])
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")

    def last_loss(self) -> float | None:
        """Mean over the last hundred steps; None if there were none."""
        last = self._losses[-_LAST_STEPS:]
        return sum(last) / len(last) if last else None


def _entries(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Lines and what they hold, without a last line that was cut; ConversionError for one that no training wrote."""
    number = 0
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if lines and not lines[-1].endswith("}"):
            del lines[-1]
        entries = []
        for line in lines:
            number += 1
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError("no JSON object")
            check_number(entry, "step")
            if entry.get("loss") is not None:
                check_number({"loss": abs(entry["loss"])}, "loss")  # rounding makes a loss near zero negative
            entries.append((line, entry))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        where = f"line {number}: " if number else ""
        raise damaged(path, f"{where}{error}", "remove it to go on without the lines so far") from error
    return entries
