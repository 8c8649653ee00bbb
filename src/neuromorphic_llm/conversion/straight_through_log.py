"""The code first-spike-log in floating point, differentiable (docs/reference/conversion.md, Fine-tuning).

Two operators of torch, the code and its gradients, so that a compiled decoder contains them as they are; on a GPU each is compiled by
itself. As part of a decoder layer torch 2.11 compiled the gradients wrongly for GPUs (wrong numbers, and prices' of a wrong shape). Scales
are powers of two, so every step is exact but the comparison with the dead zone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from neuromorphic_llm.conversion.straight_through import LEAST_PRICE, STRAIGHT, Surrogate
from neuromorphic_llm.spikes.first_spike_log import WEIGHTS

_LEAST_QUOTIENT = 1e-30


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


def _encode(x: Tensor, unit: Tensor, price: Tensor, phases: int, steps: int, half: bool) -> tuple[Tensor, Tensor]:
    """(coded x, in bfloat16 if `half`, number of spikes) of x float32 [.., inputs], with its units [.., 1] and prices [1, inputs]."""
    coded = torch.where(x * x > price, _level(x.abs() / unit, phases, steps) * unit, 0.0)
    return (torch.sign(x) * coded).to(torch.bfloat16 if half else torch.float32), (coded > 0).float().sum()


def _differentiate(
    x: Tensor, unit: Tensor, price: Tensor, coded: Tensor, spikes: Tensor, steps: int, masked: bool, activity: bool
) -> tuple[Tensor, Tensor]:
    """Gradients (of x, of price) from those of the coded x and of the number of spikes; the definition is on the page."""
    change, sign, magnitude = coded.float(), torch.sign(x), x.abs()
    least = unit * (WEIGHTS[steps][0] / 2)
    zone = price.clamp_min(LEAST_PRICE).sqrt()
    threshold = torch.maximum(zone, least)
    near = (magnitude - threshold).abs() < 0.5 * threshold
    passes = near | ((x * x > price) & (magnitude >= least))
    for_x = torch.where(passes, change, 0.0) if masked else change.clone()
    if activity:
        for_x = for_x + torch.where(near, spikes * sign / threshold, 0.0)
    by_price = torch.where(near & (zone >= least), (change * sign + spikes / zone) / (2 * zone), 0.0)
    return for_x, -by_price.flatten(0, -2).sum(0, keepdim=True)


@cache
def _fused(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """The function, compiled by itself on its first call."""
    return torch.compile(function, dynamic=False)


@custom_op("neuromorphic_llm::log_levels", mutates_args=())
def _code(x: Tensor, unit: Tensor, price: Tensor, phases: int, steps: int, half: bool) -> tuple[Tensor, Tensor]:
    return (_fused(_encode) if x.is_cuda else _encode)(x, unit, price, phases, steps, half)


@_code.register_fake
def _code_shapes(x: Tensor, unit: Tensor, price: Tensor, phases: int, steps: int, half: bool) -> tuple[Tensor, Tensor]:
    return torch.empty(x.shape, dtype=torch.bfloat16 if half else torch.float32, device=x.device), x.new_empty(())


@custom_op("neuromorphic_llm::log_levels_gradients", mutates_args=())
def _gradients(
    x: Tensor, unit: Tensor, price: Tensor, coded: Tensor, spikes: Tensor, steps: int, masked: bool, activity: bool
) -> tuple[Tensor, Tensor]:
    function = _fused(_differentiate) if x.is_cuda else _differentiate
    return function(x, unit, price, coded, spikes, steps, masked, activity)


@_gradients.register_fake
def _gradients_shapes(
    x: Tensor, unit: Tensor, price: Tensor, coded: Tensor, spikes: Tensor, steps: int, masked: bool, activity: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(price)


class _Levels(torch.autograd.Function):
    """The code, with the gradients of the operator above."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, price: Tensor, phases: int, steps: int, half: bool, masked: bool, activity: bool
    ) -> tuple[Tensor, Tensor]:
        unit = _unit(x, WEIGHTS[steps][-1] << (phases - 1))
        ctx.save_for_backward(x, unit, price)
        ctx.options = steps, masked, activity
        coded: tuple[Tensor, Tensor] = _code(x, unit, price, phases, steps, half)
        return coded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        coded, spikes = gradients
        for_x, for_price = _gradients(*ctx.saved_tensors, coded.contiguous(), spikes, *ctx.options)
        return for_x, for_price, None, None, None, None, None


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
