"""The converted feed-forward block: inputs of its linear layers as rate codes (docs/reference/ssa.md, Feed-forward block)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LEAST_MAXIMUM = 1e-6


class _StraightThrough(torch.autograd.Function):
    """round(x) clipped to -limit .. limit; the gradient of the identity inside, 0 outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: int) -> Tensor:
        ctx.save_for_backward(x.abs() <= limit)
        return torch.floor(x + 0.5).clamp(-limit, limit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


def rate_spikes(x: Tensor, largest: Tensor, steps: int) -> Tensor:
    """Signed spikes over `steps` steps of integrate-and-fire neurons with input x and threshold `largest` [inputs]; whole numbers."""
    spikes: Tensor = _StraightThrough.apply(x * (steps / largest), steps)  # type: ignore[no-untyped-call]
    return spikes


class RateCodedLinear(nn.Module):
    """A linear layer whose input passes a rate code while `enabled`; `spikes` and `values` count while `counting`."""

    largest: Tensor

    def __init__(self, linear: nn.Module, largest: Tensor, steps: int) -> None:
        super().__init__()
        self.linear, self.steps = linear, steps
        self.enabled, self.counting = True, False
        self.spikes: Tensor | int = 0
        self.values = 0
        self.register_buffer("largest", largest.clamp_min(_LEAST_MAXIMUM))

    def forward(self, x: Tensor) -> Tensor:
        """[.., inputs] -> [.., outputs]."""
        if self.enabled:
            spikes = rate_spikes(x, self.largest, self.steps)
            if self.counting:
                self.spikes = self.spikes + spikes.detach().abs().sum(dtype=torch.float64)
                self.values += x.numel()
            x = spikes * (self.largest / self.steps)
        result: Tensor = self.linear(x)
        return result
