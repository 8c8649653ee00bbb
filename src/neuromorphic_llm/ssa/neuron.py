"""Leaky integrate-and-fire neurons with surrogate gradients (docs/reference/ssa.md, Neuron)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from neuromorphic_llm.ssa.config import SURROGATES, NeuronConfig


def sigmoid(x: Tensor, slope: float) -> Tensor:
    """Derivative of the sigmoid of steepness `slope`."""
    gate = torch.sigmoid(slope * x)
    return slope * gate * (1 - gate)


def atan(x: Tensor, slope: float) -> Tensor:
    """Derivative of a scaled arc tangent."""
    return 0.5 * slope / (1 + (0.5 * math.pi * slope * x).square())


def fast_sigmoid(x: Tensor, slope: float) -> Tensor:
    """Derivative of the fast sigmoid x / (1 + |x|)."""
    return (1 + slope * x.abs()).square().reciprocal()


class _Spike(torch.autograd.Function):
    """1 where the distance to the threshold is not negative; its derivative is the surrogate's."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, surrogate: str, slope: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.surrogate, ctx.slope = surrogate, slope
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (distance,) = ctx.saved_tensors
        return gradients[0] * SURROGATES[ctx.surrogate](distance, ctx.slope), None, None


def spike(distance: Tensor, config: NeuronConfig) -> Tensor:
    """Spikes (0 or 1) of the membrane's distance to the threshold, with the surrogate's gradient."""
    spikes: Tensor = _Spike.apply(distance, config.surrogate, config.slope)  # type: ignore[no-untyped-call]
    return spikes


def lif(current: Tensor, config: NeuronConfig, steps: int | None = None) -> Tensor:
    """Spike trains [steps, ..] of currents [steps, ..], or of one current [..] that is the same in each of `steps` steps."""
    constant = steps is not None
    count = current.shape[0] if steps is None else steps
    membrane = torch.zeros_like(current if constant else current[0])
    trains = []
    for step in range(count):
        membrane = config.leak * membrane + (current if constant else current[step])
        fired = spike(membrane - config.threshold, config)
        membrane = membrane - config.threshold * fired if config.reset == "soft" else membrane * (1 - fired)
        trains.append(fired)
    return torch.stack(trains)
