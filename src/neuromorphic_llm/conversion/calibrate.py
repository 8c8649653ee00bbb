"""Calibration: ranges and sensitivities of a canonical decoder on text, an object of its own that can be saved and loaded.

The sensitivity of an input x_i of a crossbar site is the diagonal of the Fisher information,

    F_i = E[ (d log p(y) / d x_i)^2 ],   y drawn from the model's own prediction,

summed over all predictions that x_i influences. An error e_i of x_i raises the expected Kullback-Leibler divergence of the
predictions by F_i e_i^2 / 2 (natural logarithm, second order), so F tells how much a spike is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromorphic_llm.artefact import load_artefact, save_artefact
from neuromorphic_llm.conversion.allocation.prices import LARGEST, Allocation, real_tensor, restored, stored
from neuromorphic_llm.conversion.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.conversion.key_offsets import KeyStatistics, KeySums
from neuromorphic_llm.errors import ArtefactError, ConversionError
from neuromorphic_llm.models.canonical import frequencies_name
from neuromorphic_llm.reference.config import DecoderConfig

FORMAT = "neuromorphic-llm-calibration"
VERSION = 1
_MAXIMA = ("residual_max", "qkv_max", "attention_max", "gate_max", "logit_max", "projection_max")
_LATER = ("projection_max",)
"""Fields that calibrations of earlier versions lack."""
_SCALARS = ("checkpoint_hash", "tokens", *_MAXIMA)

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


@dataclass(frozen=True)
class Calibration:
    """Ranges and sensitivities of one checkpoint on one text."""

    checkpoint_hash: str
    tokens: int
    sensitivity: tuple[NDArray[np.float64], ...]  # per site [inputs]
    query_sensitivity: NDArray[np.float64]  # [layers, heads, head_dim], of the scaled, rotated query
    residual_max: float
    qkv_max: float
    attention_max: float
    gate_max: float
    logit_max: float
    hidden_max: NDArray[np.float64]  # [layers]
    value_max: NDArray[np.float64]  # [layers, kv_heads]
    projection_max: float = 0.0  # of projections in front of output norms; 0: there are none
    keys: KeyStatistics | None = None  # calibrations of earlier versions lack it
    allocations: Mapping[str, Allocation] = field(default_factory=dict)  # by method, found by a search

    def save(self, folder: Path | str) -> str:
        """Write the calibration as an artefact folder; returns its content hash."""
        arrays: dict[str, NDArray[Any]] = {f"sensitivity.{index}": array for index, array in enumerate(self.sensitivity)}
        arrays |= {"query_sensitivity": self.query_sensitivity, "hidden_max": self.hidden_max, "value_max": self.value_max}
        scalars = {name: getattr(self, name) for name in _SCALARS}
        if self.allocations:
            scalars["allocations"], more = stored(self.allocations)
            arrays |= more
        if self.keys is not None:
            arrays |= self.keys.arrays()
        return save_artefact(folder, format_name=FORMAT, version=VERSION, metadata=scalars, arrays=arrays)

    @classmethod
    def load(cls, folder: Path | str) -> Calibration:
        """Load a calibration folder; ArtefactError naming the folder and the field if it is damaged or contradicts itself."""
        metadata, arrays = load_artefact(folder, format_name=FORMAT, version=VERSION)
        source = str(folder)
        layers, sizes = _stored_layers(arrays, source), _stored_sizes(arrays, source)
        shapes = {name: array.shape for name, array in arrays.items() if name in ("query_sensitivity", "value_max")}
        loaded = cls(
            checkpoint_hash=_text(metadata, "checkpoint_hash", source),
            tokens=_count(metadata, "tokens", source),
            **_magnitudes(metadata, source),
            sensitivity=tuple(real_tensor(arrays, f"sensitivity.{site}", (size,), source) for site, size in enumerate(sizes)),
            query_sensitivity=real_tensor(arrays, "query_sensitivity", shapes.get("query_sensitivity", ()), source),
            hidden_max=real_tensor(arrays, "hidden_max", (layers,), source),
            value_max=real_tensor(arrays, "value_max", shapes.get("value_max", ()), source),
            allocations=restored(metadata.get("allocations", {}), arrays, sizes, source),
        )
        if problem := _mismatch(loaded) or _contradiction(loaded):
            raise ArtefactError(f"{source}: {problem}; calibrate again")
        return replace(loaded, keys=KeyStatistics.restored(arrays, loaded.query_sensitivity.shape, loaded.value_max.shape, source))

    def check_checkpoint(self, config: DecoderConfig, checkpoint_hash: str) -> None:
        """ConversionError unless this calibration is of the checkpoint with this configuration and hash."""
        if self.checkpoint_hash != checkpoint_hash:
            raise ConversionError("the calibration was made for another checkpoint; calibrate this one")
        expected: dict[str, tuple[int, ...]] = {f"sensitivity.{site.index}": (site.inputs,) for site in config.sites}
        expected["query_sensitivity"] = (config.layers, config.heads, config.head_dim)
        expected |= {"hidden_max": (config.layers,), "value_max": (config.layers, config.kv_heads)}
        found = {f"sensitivity.{site}": array.shape for site, array in enumerate(self.sensitivity)}
        found |= {name: getattr(self, name).shape for name in ("query_sensitivity", "hidden_max", "value_max")}
        for name in [*expected, *found]:
            if found.get(name) != expected.get(name):
                shapes = f"{found.get(name, 'missing')}, expected {expected.get(name, 'none')}"
                raise ConversionError(f"tensor {name} of the calibration is {shapes} for this checkpoint; calibrate again")


def _stored_layers(arrays: Mapping[str, NDArray[Any]], source: str) -> int:
    """Number of layers, of which `hidden_max` has one entry each."""
    array = arrays.get("hidden_max")
    if array is None or array.ndim != 1 or not array.size:
        found = "missing" if array is None else f"{array.dtype} {array.shape}"
        raise ArtefactError(f"{source}: tensor hidden_max is {found}, expected float64 [layers]; calibrate again")
    return len(array)


def _stored_sizes(arrays: Mapping[str, NDArray[Any]], source: str) -> list[int]:
    """Inputs of every site."""
    sites = sum(name.startswith("sensitivity.") for name in arrays)
    names = [f"sensitivity.{site}" for site in range(sites)]
    for name in names:
        if name not in arrays or arrays[name].ndim != 1 or not arrays[name].size:
            found = f"{arrays[name].dtype} {arrays[name].shape}" if name in arrays else "missing"
            raise ArtefactError(f"{source}: tensor {name} is {found}, expected float64 [inputs]; calibrate again")
    return [len(arrays[name]) for name in names]


def _mismatch(loaded: Calibration) -> str | None:
    """Message about tensors that are not of one decoder; None if they are."""
    layers = len(loaded.hidden_max)
    for name, axes in (("query_sensitivity", 3), ("value_max", 2)):
        array = getattr(loaded, name)
        if array.ndim != axes or len(array) != layers or not array.size:
            return f"tensor {name} is {array.shape}, expected {axes} axes of which the first has {layers} layers"
    heads, kv_heads = loaded.query_sensitivity.shape[1], loaded.value_max.shape[1]
    if heads % kv_heads:
        return f"tensor value_max has {kv_heads} heads per layer, of which the {heads} of query_sensitivity are no multiple"
    hidden, intermediate = len(loaded.sensitivity[-1]), len(loaded.sensitivity[3])
    expected = [*[hidden, heads * loaded.query_sensitivity.shape[2], hidden, intermediate] * layers, hidden]
    for site, (array, size) in enumerate(zip(loaded.sensitivity, expected, strict=True)):
        if len(array) != size:
            return f"tensor sensitivity.{site} is {array.shape}, expected {(size,)} as the other tensors have it"
    return None


def _contradiction(loaded: Calibration) -> str | None:
    """Message about a range that is smaller than what it bounds; None if there is none.

    A zero alone is no mistake: inputs of a site may all be zero (ReLU), and whole parts of a pruned decoder. But then so is what they make.
    """
    if loaded.qkv_max < loaded.value_max.max():
        return f"field 'qkv_max' is {loaded.qkv_max:g}, below the {loaded.value_max.max():g} of value_max"
    some = any(array.any() for array in loaded.sensitivity)
    zeros = (
        ("qkv_max", loaded.qkv_max, "query_sensitivity", loaded.query_sensitivity.any()),
        ("value_max", loaded.value_max.any(), "attention_max", loaded.attention_max),
        ("gate_max", loaded.gate_max, "hidden_max", loaded.hidden_max.any()),
        ("logit_max", loaded.logit_max, "sensitivity", some),
        ("sensitivity", some, "query_sensitivity", loaded.query_sensitivity.any()),
        ("residual_max", loaded.residual_max, "logit_max", loaded.logit_max),
    )
    for name, value, other, follows in zeros:
        if follows and not value:
            return f"{name} is 0, and {other}, which follows from it, is not"
    return None


def _stored(metadata: Mapping[str, Any], name: str, source: str) -> Any:
    if name not in metadata:
        raise ArtefactError(f"{source}: field {name!r} is missing; calibrate again")
    return metadata[name]


def _text(metadata: Mapping[str, Any], name: str, source: str) -> str:
    value = _stored(metadata, name, source)
    if not isinstance(value, str):
        raise ArtefactError(f"{source}: field {name!r} is {value!r}, not a text; calibrate again")
    return value


def _count(metadata: Mapping[str, Any], name: str, source: str) -> int:
    value = _stored(metadata, name, source)
    if type(value) is not int or value < 1:
        raise ArtefactError(f"{source}: field {name!r} is {value!r}, not a positive integer; calibrate again")
    return value


def _magnitude(metadata: Mapping[str, Any], name: str, source: str) -> float:
    value = _stored(metadata, name, source)
    if type(value) not in (int, float) or not 0 <= value <= LARGEST:
        raise ArtefactError(f"{source}: field {name!r} is {value!r}, not a number in 0..{LARGEST:g}; calibrate again")
    return float(value)


def _magnitudes(metadata: Mapping[str, Any], source: str) -> Any:
    """The largest magnitudes that are there; those that earlier versions lack may be missing."""
    return {name: _magnitude(metadata, name, source) for name in _MAXIMA if name in metadata or name not in _LATER}


_RANGES = {
    "residual": "residual_max",
    "query": "qkv_max",
    "key": "qkv_max",
    "value": "qkv_max",
    "gate": "gate_max",
    "logit": "logit_max",
    "attention_output": "projection_max",
    "feed_forward_output": "projection_max",
}
"""Observed value -> the field of Calibration that bounds it."""


class _Recorder(Observer):
    """Keeps the inputs of the crossbar sites and the queries of one run, and the largest values of what the chip will hold."""

    def __init__(self, decoder: FloatDecoder) -> None:
        self.config = decoder.config
        self.inputs: dict[int, Tensor] = {}
        self.queries: dict[int, Tensor] = {}
        self.maxima = dict.fromkeys([*_RANGES.values(), "attention_max"], 0.0)
        self.hidden_max = np.zeros(self.config.layers)
        self.value_max = np.zeros((self.config.layers, self.config.kv_heads))
        self.keys = KeySums(decoder)

    def site(self, index: int, x: Tensor) -> Tensor:
        largest = float(x.detach().abs().max())
        site = self.config.sites[index]
        if site.input_fraction == "attention":
            self.maxima["attention_max"] = max(self.maxima["attention_max"], largest)
        elif site.input_fraction == "hidden_fraction":
            self.hidden_max[site.stage] = max(float(self.hidden_max[site.stage]), largest)
        self.inputs[index] = x if x.requires_grad else x.requires_grad_(True)
        return self.inputs[index]

    def query(self, layer: int, q: Tensor) -> Tensor:
        self.value("query", layer, q)
        self.keys.add_queries(layer, q)
        self.queries[layer] = q
        return q

    def value(self, name: str, layer: int, x: Tensor) -> None:
        # The embedding bounds the residual stream in front of the first layer, unless positions are added to it.
        if layer < 0 and name == "residual" and not self.config.learned_positions:
            return
        self.maxima[_RANGES[name]] = max(self.maxima[_RANGES[name]], float(x.detach().abs().max()))
        if name == "key" and x.ndim == 4:
            self.keys.add_keys(layer, x)
        if name == "value":
            by_head = x.detach().reshape(-1, self.config.kv_heads, self.config.head_dim).abs().amax((0, 2)).double().cpu().numpy()
            self.value_max[layer] = np.maximum(self.value_max[layer], by_head)


def calibrate(
    decoder: FloatDecoder,
    windows: Sequence[Sequence[int]],
    *,
    checkpoint_hash: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Run a decoder forward and backward over token windows and collect ranges and sensitivities.

    Raises ConversionError if the text is too short, a window does not fit the learned positions, or the predictions are not finite.
    """
    windows = [list(window) for window in windows if len(window) >= 2]
    if not windows:
        raise ConversionError("the calibration text is too short: at least two tokens are needed")
    config, longest = decoder.config, max(map(len, windows))
    if config.learned_positions and longest > config.max_positions:
        raise ConversionError(f"a calibration window of {longest} tokens exceeds the {config.max_positions} positions that the model knows")
    generator = torch.Generator(device=decoder.device).manual_seed(seed)
    squares = [torch.zeros(site.inputs, dtype=torch.float64, device=decoder.device) for site in config.sites]
    query = torch.zeros(config.layers, config.heads, config.head_dim, dtype=torch.float64, device=decoder.device)
    recorder = _Recorder(decoder)
    for done, window in enumerate(windows):
        _one_window(decoder, torch.tensor([window], device=decoder.device), recorder, generator, squares, query)
        if progress:
            progress("calibrate", done + 1, len(windows))
    tokens = sum(map(len, windows))
    return Calibration(
        checkpoint_hash=checkpoint_hash,
        tokens=tokens,
        keys=recorder.keys.statistics(tokens),
        sensitivity=tuple((total / tokens).cpu().numpy() for total in squares),
        query_sensitivity=_over_pairs(decoder, query / tokens).cpu().numpy(),
        hidden_max=recorder.hidden_max,
        value_max=recorder.value_max,
        residual_max=recorder.maxima["residual_max"],
        qkv_max=recorder.maxima["qkv_max"],
        attention_max=recorder.maxima["attention_max"],
        gate_max=recorder.maxima["gate_max"],
        logit_max=recorder.maxima["logit_max"],
        projection_max=recorder.maxima["projection_max"],
    )


def _one_window(
    decoder: FloatDecoder, ids: Tensor, recorder: _Recorder, generator: torch.Generator, squares: list[Tensor], query: Tensor
) -> None:
    """Add the squared gradients of one window, int64 [1, tokens], to `squares` and `query`."""
    with torch.enable_grad():
        logits = decoder(ids, recorder)[0].to(torch.promote_types(decoder.dtype, torch.float32))
        if not bool(torch.isfinite(logits).all()):
            raise ConversionError("the model gives non-finite predictions on the calibration text; its weights are damaged")
        log_probability = logits.log_softmax(-1)
        drawn = torch.multinomial(log_probability.detach().exp(), 1, generator=generator)
        score = log_probability.gather(1, drawn).sum()
    seen = [*recorder.inputs.values(), *recorder.queries.values()]
    gradients = torch.autograd.grad(score, seen)
    for site, gradient in zip(recorder.inputs, gradients, strict=False):
        squares[site] += gradient.double().square().sum((0, 1))
    for layer, gradient in zip(recorder.queries, gradients[len(recorder.inputs) :], strict=True):
        query[layer] += gradient.double().square().sum((0, 2))
    recorder.inputs.clear()
    recorder.queries.clear()


def _over_pairs(decoder: FloatDecoder, query: Tensor) -> Tensor:
    """Sensitivities [layers, heads, head_dim], those of a rotated pair averaged: rotation moves a value between its two elements."""
    config, result = decoder.config, query.clone()
    for layer in (block.layer for block in config.attention_blocks):
        turns = decoder.weights[frequencies_name(config, layer)] != 0
        pairs = query[layer].view(config.heads, 2, -1)
        result[layer] = torch.where(turns, pairs.mean(1, keepdim=True), pairs).reshape(config.heads, -1)
    return result
