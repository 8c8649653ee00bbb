"""The signed-digit code in floating point, differentiable (docs/reference/conversion.md, Fine-tuning).

Two operators of torch, the code and its gradients, so that a compiled decoder contains them as they are: a loop over the phases on the
CPU, one kernel each (straight_through_cuda.py) on a GPU. Weights are powers of two, so that every step but `2 |v| > w + R / w` is exact
and both compute the same float32 numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from neuromorphic_llm.spikes.signed_digit import fires

LEAST_MAXIMUM, LEAST_PRICE = 1e-20, 1e-30
"""Stand-ins for a maximum or a price of zero: divisible, and with a logarithm."""
_MANTISSA, _ONE_AND_A_HALF = (1 << 23) - 1, 1 << 22


@dataclass(frozen=True)
class Surrogate:
    """Surrogate of the derivative of the code.

    masked: the gradient passes inputs that fire or are near a threshold, not the others; without it, it passes all of them.
    activity: the number of spikes has a gradient for the inputs, not for the prices alone.
    """

    masked: bool = True
    activity: bool = True


STRAIGHT = Surrogate(masked=False, activity=False)


def top_weight(x: Tensor) -> Tensor:
    """Weight of the first phase [.., 1]: the smallest power of two w with 3 w >= 2 max |x|, of x float32 [.., inputs]."""
    bits = x.detach().abs().amax(-1, keepdim=True).clamp_min(LEAST_MAXIMUM).view(torch.int32)
    exponent = (bits >> 23) + ((bits & _MANTISSA) > _ONE_AND_A_HALF).to(torch.int32)
    return (exponent << 23).view(torch.float32)


def _phases(x: Tensor, top: Tensor, price: Tensor, phases: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(weight of the phase [rows, tables, 1], fires, remainder before it) of every phase."""
    rest, weight = x, top
    for _ in range(phases):
        fire = fires(rest.abs(), weight, price / weight)
        yield weight, fire, rest
        rest = torch.where(fire, rest - torch.sign(rest) * weight, rest)
        weight = weight * 0.5


def _by_table(x: Tensor, top: Tensor, price: Tensor) -> tuple[Tensor, Tensor]:
    """x and top as [rows, tables, inputs] and [rows, tables, 1]."""
    return x.reshape(-1, *price.shape), top.reshape(-1, len(price), 1)


@custom_op("neuromorphic_llm::signed_digits", mutates_args=(), device_types="cpu")
def _code(x: Tensor, top: Tensor, price: Tensor, phases: int, half: bool) -> tuple[Tensor, Tensor]:
    """(coded x, in bfloat16 if `half`, number of spikes) of x float32 [.., inputs].

    price [tables, inputs]: row r of x, all axes but the last taken together, has the prices of table r modulo tables.
    """
    coded = torch.zeros_like(x).view(-1, *price.shape)
    spikes = torch.zeros((), device=x.device)
    for weight, fire, rest in _phases(*_by_table(x, top, price), price, phases):
        coded += torch.where(fire, torch.sign(rest) * weight, 0.0)
        spikes += fire.sum()
    return coded.view_as(x).to(torch.bfloat16 if half else torch.float32), spikes


@_code.register_kernel("cuda")
def _code_cuda(x: Tensor, top: Tensor, price: Tensor, phases: int, half: bool) -> tuple[Tensor, Tensor]:
    from neuromorphic_llm.conversion.straight_through_cuda import encode

    return encode(x, top, price, phases, half)


@_code.register_fake
def _code_shapes(x: Tensor, top: Tensor, price: Tensor, phases: int, half: bool) -> tuple[Tensor, Tensor]:
    return torch.empty(x.shape, dtype=torch.bfloat16 if half else torch.float32, device=x.device), x.new_empty(())


@custom_op("neuromorphic_llm::signed_digits_gradients", mutates_args=(), device_types="cpu")
def _gradients(
    x: Tensor, top: Tensor, price: Tensor, coded: Tensor, spikes: Tensor, phases: int, masked: bool, activity: bool
) -> tuple[Tensor, Tensor]:
    """Gradients (of x, of price) from those of the coded x and of the number of spikes; the definition is on the page."""
    rows, weights = _by_table(x, top, price)
    change = coded.float().reshape(rows.shape)
    passes, slope, for_price = torch.zeros_like(rows, dtype=torch.bool), torch.zeros_like(rows), torch.zeros_like(rows)
    for weight, fire, rest in _phases(rows, weights, price, phases):
        magnitude = rest.abs()
        near = ((2 * magnitude - weight - price / weight).abs() < 0.5 * weight) & (magnitude >= 0.75 * weight)
        inverse = torch.where(near, 1 / weight, torch.zeros_like(rest))
        for_price = for_price - (change * torch.sign(rest) + spikes * inverse) * inverse
        slope = slope + 2 * torch.sign(rest) * inverse
        passes = passes | fire | near
    result = torch.where(passes, change, torch.zeros_like(change)) if masked else change.clone()
    result = result + spikes * slope if activity else result
    return result.view_as(x), for_price.sum(0)


@_gradients.register_kernel("cuda")
def _gradients_cuda(
    x: Tensor, top: Tensor, price: Tensor, coded: Tensor, spikes: Tensor, phases: int, masked: bool, activity: bool
) -> tuple[Tensor, Tensor]:
    from neuromorphic_llm.conversion.straight_through_cuda import gradients

    return gradients(x, top, price, coded, spikes, phases, masked, activity)


@_gradients.register_fake
def _gradients_shapes(
    x: Tensor, top: Tensor, price: Tensor, coded: Tensor, spikes: Tensor, phases: int, masked: bool, activity: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(price)


class _StraightThrough(torch.autograd.Function):
    """The code, with the gradients of the operator above."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, price: Tensor, phases: int, half: bool, masked: bool, activity: bool) -> tuple[Tensor, Tensor]:
        top = top_weight(x)
        ctx.save_for_backward(x, top, price)
        ctx.options = phases, masked, activity
        coded: tuple[Tensor, Tensor] = _code(x, top, price, phases, half)
        return coded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        coded, spikes = gradients
        for_x, for_price = _gradients(*ctx.saved_tensors, coded.contiguous(), spikes, *ctx.options)
        return for_x, for_price, None, None, None, None


def coded(x: Tensor, price: Tensor, phases: int, surrogate: Surrogate = STRAIGHT, half: bool = False) -> tuple[Tensor, Tensor]:
    """Signed-digit code of x float32 [.., inputs] with prices R [tables, inputs] in units of x squared: (coded x, number of spikes).

    Row r of x, all axes but the last taken together, has the prices of table r modulo tables. Differentiable in x and price. Equal to
    numerics.md as long as the last phase lies above x's own rounding.
    """
    result: tuple[Tensor, Tensor] = _StraightThrough.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), price, phases, half, surrogate.masked, surrogate.activity
    )
    return result
