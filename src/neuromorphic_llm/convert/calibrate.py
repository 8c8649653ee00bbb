"""Calibration: ranges and sensitivities of a dense model on text, an object of its own that can be saved and loaded.

The sensitivity of an input x_i of a crossbar site is the diagonal of the Fisher information,

    F_i = E[ (d log p(y) / d x_i)^2 ],   y drawn from the model's own prediction,

summed over all predictions that x_i influences. An error e_i of x_i raises the expected Kullback-Leibler divergence of the
predictions by F_i e_i^2 / 2 (natural logarithm, second order), so F tells how much a spike is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.artefact import load_artefact, save_artefact
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.reference.weights import DecoderConfig

FORMAT = "neuromorphic-llm-calibration"
VERSION = 1
_SCALARS = ("checkpoint_hash", "tokens", "residual_max", "qkv_max", "attention_max", "gate_max", "logit_max")

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

    def save(self, folder: Path | str) -> str:
        """Write the calibration as an artefact folder; returns its content hash."""
        arrays: dict[str, NDArray[Any]] = {f"sensitivity.{index}": array for index, array in enumerate(self.sensitivity)}
        arrays |= {"query_sensitivity": self.query_sensitivity, "hidden_max": self.hidden_max, "value_max": self.value_max}
        scalars = {name: getattr(self, name) for name in _SCALARS}
        return save_artefact(folder, format_name=FORMAT, version=VERSION, metadata=scalars, arrays=arrays)

    @classmethod
    def load(cls, folder: Path | str) -> Calibration:
        """Load a calibration folder; ArtefactError if it is damaged."""
        metadata, arrays = load_artefact(folder, format_name=FORMAT, version=VERSION)
        count = sum(name.startswith("sensitivity.") for name in arrays)
        return cls(
            **{name: metadata[name] for name in _SCALARS},
            sensitivity=tuple(arrays[f"sensitivity.{index}"] for index in range(count)),
            query_sensitivity=arrays["query_sensitivity"],
            hidden_max=arrays["hidden_max"],
            value_max=arrays["value_max"],
        )


class _Recorder:
    """Hooks on a Llama model that keep the inputs of its linear layers and the largest values of what the chip will hold."""

    def __init__(self, model: torch.nn.Module, config: DecoderConfig) -> None:
        self.config = config
        self.inputs: dict[int, torch.Tensor] = {}
        self.queries: dict[int, torch.Tensor] = {}
        self.maxima: dict[str, float] = {"residual": 0.0, "qkv": 0.0, "attention": 0.0, "gate": 0.0, "logit": 0.0}
        self.hidden_max = np.zeros(config.layers)
        self.value_max = np.zeros((config.layers, config.kv_heads))
        self._handles: list[Any] = []
        body: Any = model.model
        for number, layer in enumerate(body.layers):
            attention, feed_forward = layer.self_attn, layer.mlp
            self._keep(attention.q_proj, 4 * number)
            self._keep(attention.o_proj, 4 * number + 1, "attention")
            self._keep(feed_forward.gate_proj, 4 * number + 2)
            self._keep(feed_forward.down_proj, 4 * number + 3, number)
            self._handles.append(attention.q_proj.register_forward_hook(self._query(number)))
            self._handles.append(attention.k_proj.register_forward_hook(self._range("qkv")))
            self._handles.append(attention.v_proj.register_forward_hook(self._value(number)))
            self._handles.append(feed_forward.gate_proj.register_forward_hook(self._range("gate")))
            self._handles.append(feed_forward.up_proj.register_forward_hook(self._range("gate")))
            self._handles.append(layer.register_forward_hook(self._range("residual")))
        self._keep(model.lm_head, config.sites - 1)  # type: ignore[arg-type]
        self._handles.append(model.lm_head.register_forward_hook(self._range("logit")))  # type: ignore[union-attr]

    def _keep(self, module: torch.nn.Module, site: int, limit: str | int | None = None) -> None:
        def hook(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            x = arguments[0]
            if x.requires_grad:
                x.retain_grad()
            self.inputs[site] = x
            if isinstance(limit, str):
                self.maxima[limit] = max(self.maxima[limit], float(x.detach().abs().max()))
            elif limit is not None:
                self.hidden_max[limit] = max(self.hidden_max[limit], float(x.detach().abs().max()))

        self._handles.append(module.register_forward_pre_hook(hook))

    def _range(self, name: str) -> Callable[..., None]:
        def hook(_: torch.nn.Module, __: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            self.maxima[name] = max(self.maxima[name], float(tensor.detach().abs().max()))

        return hook

    def _query(self, number: int) -> Callable[..., None]:
        def hook(_: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
            if output.requires_grad:
                output.retain_grad()
            self.queries[number] = output
            self.maxima["qkv"] = max(self.maxima["qkv"], float(output.detach().abs().max()))

        return hook

    def _value(self, number: int) -> Callable[..., None]:
        def hook(_: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
            by_head = output.detach().reshape(-1, self.config.kv_heads, self.config.head_dim).abs().amax((0, 2)).double().cpu().numpy()
            self.value_max[number] = np.maximum(self.value_max[number], by_head)
            self.maxima["qkv"] = max(self.maxima["qkv"], float(by_head.max()))

        return hook

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def calibrate(
    model: torch.nn.Module,
    config: DecoderConfig,
    windows: Sequence[Sequence[int]],
    *,
    checkpoint_hash: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Run the dense Llama `model` forward and backward over token windows and collect ranges and sensitivities.

    Raises ConversionError if the text is too short or the model gives non-finite predictions.
    """
    windows = [list(window) for window in windows if len(window) >= 2]
    if not windows:
        raise ConversionError("the calibration text is too short: at least two tokens are needed")
    device = next(model.parameters()).device
    generator = torch.Generator(device=device).manual_seed(seed)
    squares = [torch.zeros(config.site_shape(index)[0], dtype=torch.float64, device=device) for index in range(config.sites)]
    query = torch.zeros(config.layers, config.heads, config.head_dim, dtype=torch.float64, device=device)
    recorder = _Recorder(model, config)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    try:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for done, window in enumerate(windows):
            _one_window(model, torch.tensor([window], device=device), recorder, generator, squares, query)
            if progress:
                progress("calibrate", done + 1, len(windows))
    finally:
        recorder.close()
        for parameter, flag in zip(model.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)
    tokens = sum(len(window) for window in windows)
    scale = float(np.log2(np.e) / np.sqrt(config.head_dim))  # the chip's query is scaled, so its sensitivity is divided twice
    pairs = query.view(config.layers, config.heads, 2, config.head_dim // 2)
    rotated = pairs.mean(2, keepdim=True).expand_as(pairs).reshape(query.shape) / (tokens * scale**2)
    return Calibration(
        checkpoint_hash=checkpoint_hash,
        tokens=tokens,
        sensitivity=tuple((total / tokens).cpu().numpy() for total in squares),
        query_sensitivity=rotated.cpu().numpy(),
        residual_max=recorder.maxima["residual"],
        qkv_max=recorder.maxima["qkv"],
        attention_max=recorder.maxima["attention"],
        gate_max=recorder.maxima["gate"],
        logit_max=recorder.maxima["logit"],
        hidden_max=recorder.hidden_max,
        value_max=recorder.value_max,
    )


def _one_window(
    model: torch.nn.Module, ids: torch.Tensor, recorder: _Recorder, generator: torch.Generator,
    squares: list[torch.Tensor], query: torch.Tensor,
) -> None:  # fmt: skip
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)  # type: ignore[operator]
    logits = model(inputs_embeds=embedded, use_cache=False).logits[0].float()
    if not bool(torch.isfinite(logits).all()):
        raise ConversionError("the dense model gives non-finite predictions on the calibration text; its weights are damaged")
    log_probability = logits.log_softmax(-1)
    drawn = torch.multinomial(log_probability.detach().exp(), 1, generator=generator)
    log_probability.gather(1, drawn).sum().backward()
    for site, x in recorder.inputs.items():
        if x.grad is not None:
            squares[site] += x.grad.double().square().sum((0, 1))
    for number, q in recorder.queries.items():
        if q.grad is not None:
            query[number] += q.grad.double().square().sum((0, 1)).view(query.shape[1:])
    recorder.inputs.clear()
    recorder.queries.clear()
