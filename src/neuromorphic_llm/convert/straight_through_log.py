"""The code first-spike-log in floating point, differentiable (docs/reference/conversion.md, Fine-tuning).

Elementwise operations of torch throughout, which a compiled decoder fuses by itself. Scales are powers of two, so every step is exact but
the comparison with the dead zone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neuromorphic_llm.convert.straight_through import STRAIGHT, Surrogate
from neuromorphic_llm.spikes.first_spike_log import WEIGHTS

_LEAST_QUOTIENT, _LEAST_PRICE = 1e-30, 1e-30


def _power_below(x: Tensor) -> Tensor:
    """Largest power of two that is not above x > 0, float32."""
    return ((x.view(torch.int32) >> 23) << 23).view(torch.float32)


def _unit(x: Tensor, largest: int) -> Tensor:
    """Smallest power of two u with largest * u >= max |x|, [.., 1], of x float32 [.., inputs]."""
    quotient = (x.detach().abs().amax(-1, keepdim=True) / largest).clamp_min(_LEAST_QUOTIENT)
    below = _power_below(quotient)
    return torch.where(below < quotient, 2 * below, below)


def _level(y: Tensor, phases: int, steps: int) -> Tensor:
    """The level nearest to y >= 0, 0 below half of the least one."""
    weights = WEIGHTS[steps]
    octave = _power_below((y / weights[0]).clamp(1.0, 2.0 ** (phases - 1)))
    within = 2 * y / octave
    level = torch.full_like(y, weights[0])
    for below, above in zip(weights, (*weights[1:], 2 * weights[0]), strict=True):
        level = level + (above - below) * (within >= below + above).float()
    level = (level * octave).clamp(max=weights[-1] * 2.0 ** (phases - 1))
    return torch.where(2 * y >= weights[0], level, 0.0)


class _Levels(torch.autograd.Function):
    """The code, with the gradients of the page."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, price: Tensor, phases: int, steps: int, half: bool, masked: bool, activity: bool
    ) -> tuple[Tensor, Tensor]:
        weights = WEIGHTS[steps]
        magnitude = x.abs()
        unit = _unit(x, weights[-1] << (phases - 1))
        coded = torch.where(x * x > price, _level(magnitude / unit, phases, steps) * unit, 0.0)
        ctx.save_for_backward(x, price, unit * (weights[0] / 2))
        ctx.options = masked, activity
        return (torch.sign(x) * coded).to(torch.bfloat16 if half else torch.float32), (coded > 0).float().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        change, spikes = gradients
        x, price, least = ctx.saved_tensors
        masked, activity = ctx.options
        change, sign, magnitude = change.float(), torch.sign(x), x.abs()
        zone = price.clamp_min(_LEAST_PRICE).sqrt()
        threshold = torch.maximum(zone, least)
        near = (magnitude - threshold).abs() < 0.5 * threshold
        passes = near | ((x * x > price) & (magnitude >= least))
        for_x = torch.where(passes, change, 0.0) if masked else change
        if activity:
            for_x = for_x + torch.where(near, spikes * sign / threshold, 0.0)
        by_price = torch.where(near & (zone >= least), (change * sign + spikes / zone) / (2 * zone), 0.0)
        return for_x, -by_price.flatten(0, -2).sum(0, keepdim=True), None, None, None, None, None


def coded_levels(
    x: Tensor, price: Tensor, phases: int, steps: int, surrogate: Surrogate = STRAIGHT, half: bool = False
) -> tuple[Tensor, Tensor]:
    """Code first-spike-log of x float32 [.., inputs] with prices R [1, inputs] in units of x squared: (coded x, number of spikes).

    Differentiable in x and price; levels have at most six bits, so bfloat16 (`half`) holds them exactly. Equal to codes.md as long as the
    least level lies above x's own rounding.
    """
    result: tuple[Tensor, Tensor] = _Levels.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), price, phases, steps, half, surrogate.masked, surrogate.activity
    )
    return result
