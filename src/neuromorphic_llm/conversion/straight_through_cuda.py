"""GPU kernels of the differentiable signed-digit code: equal to the loops of straight_through.py (tests/gpu)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS, _COLUMNS, _WARPS = 32, 64, 8
"""A program codes a tile of so many rows and inputs."""

# Triton looks up the names in annotations of kernels: theirs have none but tl.constexpr.


@triton.jit
def _tile(x_at, top_at, price_at, rows, inputs, tables, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """(offsets, inside, x, weight, price) of this program's tile."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = (row < rows)[:, None] & (column < inputs)[None, :]
    offsets = row.to(tl.int64)[:, None] * inputs + column[None, :]
    x = tl.load(x_at + offsets, mask=inside, other=0.0)
    weight = tl.load(top_at + row, mask=row < rows, other=1.0)[:, None]
    price = tl.load(price_at + (row % tables)[:, None] * inputs + column[None, :], mask=inside, other=0.0)
    return offsets, inside, x, weight, price


@triton.jit
def _inverse(weight):  # type: ignore[no-untyped-def]
    """1 / weight of powers of two, exactly."""
    return ((254 << 23) - weight.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)


@triton.jit
def _needed(weight, price, inside, PHASES: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Phases after which no input of the tile fires or is near its threshold.

    The phase before leaves |v| <= max(1.5 w, w + R / (4 w)), so that one of weight w fires only if 2 w^2 > R and is near only if
    3 w^2 > R: j phases after the first, j < log4(3 w^2 / R). Differences of float32's bits give log4 to a tenth.
    """
    difference = (weight * weight).to(tl.int32, bitcast=True) - price.to(tl.int32, bitcast=True)
    phases = tl.where(inside, (difference >> 24) + 2, 1)
    return tl.minimum(tl.maximum(tl.max(tl.max(phases, 1), 0), 1), PHASES)


@triton.jit
def _encode(  # type: ignore[no-untyped-def]
    x_at, top_at, price_at, coded_at, spikes_at, rows, inputs, tables,
    PHASES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    offsets, inside, x, weight, price = _tile(x_at, top_at, price_at, rows, inputs, tables, ROWS, COLUMNS)
    rest, inverse, spikes = x, _inverse(weight), tl.zeros_like(x)
    for _ in range(_needed(weight, price, inside, PHASES)):
        magnitude = tl.abs(rest)
        fires = (magnitude >= 0.75 * weight) & (2 * magnitude > weight + price * inverse)
        rest = tl.where(fires, tl.where(rest > 0, rest - weight, rest + weight), rest)
        spikes += tl.where(fires, 1.0, 0.0)
        weight, inverse = weight * 0.5, inverse * 2
    tl.store(coded_at + offsets, (x - rest).to(coded_at.dtype.element_ty), mask=inside)
    tl.store(spikes_at + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0), tl.sum(tl.sum(spikes, 1), 0))


@triton.jit
def _differentiate(  # type: ignore[no-untyped-def]
    x_at, top_at, price_at, coded_at, spikes_at, for_x_at, for_price_at, rows, inputs,
    tables, PHASES: tl.constexpr, MASKED: tl.constexpr, ACTIVITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    offsets, inside, x, weight, price = _tile(x_at, top_at, price_at, rows, inputs, tables, ROWS, COLUMNS)
    change = tl.load(coded_at + offsets, mask=inside, other=0.0).to(tl.float32)
    per_spike = tl.load(spikes_at)
    rest, inverse, slope, for_price = x, _inverse(weight), tl.zeros_like(x), tl.zeros_like(x)
    passes = tl.zeros_like(x)
    for _ in range(_needed(weight, price, inside, PHASES)):
        magnitude = tl.abs(rest)
        above = magnitude >= 0.75 * weight
        threshold = weight + price * inverse
        fires = above & (2 * magnitude > threshold)
        near = above & (tl.abs(2 * magnitude - threshold) < 0.5 * weight)
        sign = tl.where(rest > 0, 1.0, -1.0)
        for_price -= tl.where(near, (change * sign + per_spike * inverse) * inverse, 0.0)
        slope += tl.where(near, 2 * sign * inverse, 0.0)
        passes = tl.where(fires | near, 1.0, passes)
        rest = tl.where(fires, rest - sign * weight, rest)
        weight, inverse = weight * 0.5, inverse * 2
    if MASKED:
        change *= passes
    if ACTIVITY:
        change += per_spike * slope
    tl.store(for_x_at + offsets, change, mask=inside)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    tl.store(for_price_at + tl.program_id(1).to(tl.int64) * inputs + column, tl.sum(for_price, 0), mask=column < inputs)


def _grid(x: Tensor) -> tuple[int, tuple[int, int]]:
    rows = x.numel() // x.shape[-1]
    return rows, (triton.cdiv(x.shape[-1], _COLUMNS), triton.cdiv(rows, _ROWS))


def encode(x: Tensor, top: Tensor, price: Tensor, phases: int, half: bool) -> tuple[Tensor, Tensor]:
    """See straight_through.coded."""
    rows, grid = _grid(x)
    coded = torch.empty_like(x, dtype=torch.bfloat16 if half else torch.float32)
    spikes = torch.empty(grid[0] * grid[1], device=x.device)
    _encode[grid](
        x, top.contiguous(), price.contiguous(), coded, spikes, rows, x.shape[-1], len(price), phases, _ROWS, _COLUMNS, num_warps=_WARPS
    )
    return coded, spikes.sum()


def gradients(
    x: Tensor, top: Tensor, price: Tensor, coded: Tensor, spikes: Tensor, phases: int, masked: bool, activity: bool
) -> tuple[Tensor, Tensor]:
    """See straight_through.coded; prices of several tables get no gradient (zeros)."""
    rows, grid = _grid(x)
    for_x = torch.empty_like(x)
    for_price = torch.empty(grid[1], x.shape[-1], device=x.device)
    _differentiate[grid](
        x, top.contiguous(), price.contiguous(), coded, spikes.float().contiguous(), for_x, for_price, rows, x.shape[-1], len(price),
        phases, masked, activity, _ROWS, _COLUMNS, num_warps=_WARPS,
    )  # fmt: skip
    return for_x, for_price.sum(0, keepdim=True) if len(price) == 1 else torch.zeros_like(price)
