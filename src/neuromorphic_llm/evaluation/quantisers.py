"""Competitors of a spiking network: integer activations and input thresholding on the dense model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from neuromorphic_llm.errors import UsageError

Transform = Callable[[torch.Tensor], torch.Tensor]


def integer_activations(bits: int) -> Transform:
    """Round inputs [..., inputs] to `bits` bits, symmetric, with the largest magnitude of each token as full scale."""
    if not 2 <= bits <= 16:
        raise UsageError(f"bits must lie in 2..16, got {bits}")
    levels = 2 ** (bits - 1) - 1

    def transform(x: torch.Tensor) -> torch.Tensor:
        scale = (x.abs().amax(-1, keepdim=True) / levels).clamp_min(torch.finfo(x.dtype).tiny)
        rounded: torch.Tensor = (x / scale).round() * scale
        return rounded

    return transform


def largest_activations(keep: float) -> Transform:
    """Set all but the largest `keep` share of each token's inputs [..., inputs] to zero."""
    if not 0 < keep <= 1:
        raise UsageError(f"the share to keep must lie in (0, 1], got {keep}")

    def transform(x: torch.Tensor) -> torch.Tensor:
        count = max(round(keep * x.shape[-1]), 1)
        threshold = x.abs().topk(count, dim=-1).values[..., -1:]
        return torch.where(x.abs() >= threshold, x, torch.zeros_like(x))

    return transform


def eight_bit_weight(weight: torch.Tensor) -> torch.Tensor:
    """Weight [outputs, inputs] rounded to 8 bits with one scale per output channel."""
    scale = (weight.abs().amax(1, keepdim=True) / 127).clamp_min(torch.finfo(weight.dtype).tiny)
    return (weight / scale).round() * scale


def rounded_weight(_layer: torch.nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """eight_bit_weight of any layer."""
    return eight_bit_weight(weight)


@contextmanager
def quantised(
    model: torch.nn.Module,
    inputs_of: Callable[[torch.nn.Module], Transform],
    weight_of: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor] = rounded_weight,
) -> Iterator[None]:
    """Within the context every linear layer, the LM head included, has other weights and transformed inputs.

    inputs_of: transform of a layer's inputs; weight_of: weight [outputs, inputs] of a layer from its own.
    """
    from transformers.pytorch_utils import Conv1D  # the linear layer of GPT-2, with weights [inputs, outputs]

    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    weights = [module.weight for module in linears]

    def hook_of(transform: Transform) -> Callable[..., tuple[Any, ...]]:
        return lambda _module, inputs: (transform(inputs[0]), *inputs[1:])

    handles = [module.register_forward_pre_hook(hook_of(inputs_of(module))) for module in linears]
    try:
        for module in linears:
            weight = module.weight.detach()
            turned = isinstance(module, Conv1D)
            changed = weight_of(module, weight.T if turned else weight)
            module.weight = torch.nn.Parameter(changed.T if turned else changed, requires_grad=False)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, weight in zip(linears, weights, strict=True):
            module.weight = weight


def everywhere(transform: Transform) -> Callable[[torch.nn.Module], Transform]:
    """The same transform for every layer's inputs."""
    return lambda _layer: transform
