"""What a spiking network competes with: integer activations and input thresholding on the dense model."""

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


@contextmanager
def quantised(model: torch.nn.Module, transform: Transform) -> Iterator[None]:
    """Within the context every linear layer, the LM head included, has 8-bit weights and transformed inputs."""
    from transformers.pytorch_utils import Conv1D  # the linear layer of GPT-2, with weights [inputs, outputs]

    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    weights = [module.weight for module in linears]

    def hook(_module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (transform(inputs[0]), *inputs[1:])

    handles = [module.register_forward_pre_hook(hook) for module in linears]
    try:
        for module in linears:
            weight = module.weight.detach()
            rounded = eight_bit_weight(weight.T).T if isinstance(module, Conv1D) else eight_bit_weight(weight)
            module.weight = torch.nn.Parameter(rounded, requires_grad=False)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, weight in zip(linears, weights, strict=True):
            module.weight = weight
