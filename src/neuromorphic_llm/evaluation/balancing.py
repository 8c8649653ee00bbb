"""The dense model as an INT8 accelerator would run it: weights and activations balanced on a calibration text (SmoothQuant).

Xiao and others, 2023: inputs are divided by, and weights multiplied with, s_j = max |x_j|^a / max |w_j|^(1 - a) of input channel j, which
changes no product but makes inputs easier to round. Layers that share their input share s, so that it can be folded into what comes
before them. Here a is chosen for each input by the squared error of the products, and weights are clipped where that lowers theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from neuromorphic_llm.evaluation.quantisers import integer_activations, quantised

STRENGTHS = (0.0, 0.35, 0.5, 0.65, 0.8)
"""Exponents a that are tried; 0 stands for no balancing."""
CLIPS = (1.0, 0.9, 0.8)
"""Full scales of a weight row that are tried, over its largest magnitude."""
_KEPT = 256
"""Tokens whose inputs are kept to measure errors on."""
_ROWS = 2048
"""Outputs of a layer that errors are measured on, evenly chosen: the LM head has more than all else together."""
_SMALL = 1e-5
"""Least magnitude of a channel: one that is never used must not divide by zero."""


@dataclass
class SharedInput:
    """Linear layers with the same input, the largest magnitude of its channels, and some of its tokens [tokens, inputs]."""

    layers: list[torch.nn.Module]
    largest: torch.Tensor
    sample: list[torch.Tensor] = field(default_factory=list)


def row_weight(layer: torch.nn.Module) -> torch.Tensor:
    """Weight [outputs, inputs] of a linear layer, GPT-2's included."""
    weight: torch.Tensor = layer.weight.detach()  # type: ignore[operator]
    return weight if isinstance(layer, torch.nn.Linear) else weight.T


@torch.no_grad()
def observe(model: Any, layers: Sequence[torch.nn.Module], windows: Sequence[Sequence[int]]) -> list[SharedInput]:
    """Run the windows and note what every layer is given."""
    shared: dict[int, SharedInput] = {}
    given: dict[int, tuple[torch.Tensor, int]] = {}  # of this pass, by identity; holds it so that no other takes its place

    def hook(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0]
        first = given.setdefault(id(x), (x, id(layer)))[1]
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        if id(layer) not in shared:
            if first in shared and first != id(layer):
                shared[first].layers.append(layer)
                shared[id(layer)] = shared[first]
                return
            shared[id(layer)] = SharedInput([layer], rows.abs().amax(0))
        own = shared[id(layer)]
        if own.layers[0] is layer:
            own.largest = torch.maximum(own.largest, rows.abs().amax(0))
            own.sample.append(rows[:: max(1, len(rows) * len(windows) // _KEPT)])

    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        for window in windows:
            given.clear()
            model(input_ids=torch.tensor([list(window)], device=next(model.parameters()).device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return list({id(each): each for each in shared.values()}.values())


def clipped_weight(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Weight [outputs, inputs] rounded with one scale per output, of CLIPS the one with the least squared error of the row."""
    levels = 2 ** (bits - 1) - 1
    largest = weight.abs().amax(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    best, error = weight, torch.full((len(weight), 1), torch.inf, device=weight.device)
    for clip in CLIPS:
        scale = largest * clip / levels
        rounded = (weight / scale).round().clamp(-levels, levels) * scale
        missed = (rounded - weight).square().sum(1, keepdim=True)
        best, error = torch.where(missed < error, rounded, best), torch.minimum(missed, error)
    return best


@torch.no_grad()
def channel_scales(group: SharedInput, bits: int) -> torch.Tensor:
    """Divisors of the input's channels [inputs], those of STRENGTHS with the least error of the products, rounded to 8-bit weights."""
    transform = integer_activations(bits)
    sample = torch.cat(group.sample)
    weights = [row_weight(layer).float() for layer in group.layers]
    heaviest = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0).clamp_min(_SMALL)
    weights = [weight[:: math.ceil(len(weight) / _ROWS)] for weight in weights]
    exact = [sample @ weight.T for weight in weights]

    def scales(strength: float) -> torch.Tensor:
        if strength == 0.0:
            return torch.ones_like(heaviest)
        raw = group.largest.clamp_min(_SMALL) ** strength / heaviest ** (1 - strength)
        return raw / raw.log().mean().exp()

    def error(strength: float) -> float:
        divisor = scales(strength)
        x = transform(sample / divisor)
        products = zip(weights, exact, strict=True)
        return sum(float((x @ _rounded(weight * divisor).T - wanted).square().sum()) for weight, wanted in products)

    return scales(min(STRENGTHS, key=error))


def _rounded(weight: torch.Tensor) -> torch.Tensor:
    scale = (weight.abs().amax(1, keepdim=True) / 127).clamp_min(torch.finfo(weight.dtype).tiny)
    return (weight / scale).round() * scale


@contextmanager
def balanced(model: Any, windows: Sequence[Sequence[int]], bits: int) -> Iterator[None]:
    """Within the context every linear layer, the head included, has clipped 8-bit weights and balanced inputs of `bits` bits per token."""
    from transformers.pytorch_utils import Conv1D

    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    divisors: dict[int, torch.Tensor] = {}
    for group in observe(model, layers, windows):
        divisor = channel_scales(group, bits)
        divisors |= {id(layer): divisor for layer in group.layers}
    transform = integer_activations(bits)

    def inputs_of(layer: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        divisor = divisors[id(layer)]
        return lambda x: transform(x.float() / divisor).mul(divisor).to(x.dtype)

    def weight_of(layer: torch.nn.Module, weight: torch.Tensor) -> torch.Tensor:
        divisor = divisors[id(layer)]
        return (clipped_weight(weight.float() * divisor, 8) / divisor).to(weight.dtype)

    with quantised(model, inputs_of, weight_of):
        yield
