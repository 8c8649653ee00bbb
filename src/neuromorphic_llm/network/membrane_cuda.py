"""GPU kernel of membranes: products of the row blocks, their conversion and their sum in one pass (docs/reference/devices.md, Membrane)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.library import triton_op, wrap_triton

from neuromorphic_llm.devices.membrane import LARGEST_SHIFT, REPEAT_SHIFT

MOST_ROWS, LEAST_BITS = 512, 3
"""Rows of a block, whose sums stay below 2^14 * 127 * 512, and bits of a converter that keep all shifts of a conversion in int32."""

_OUTPUTS, _LEAST_ROWS, _MOST_ROWS = 64, 16, 64
"""A program takes a tile of so many outputs and, by how many there are, from the least to the most rows."""

# Triton looks up the names in annotations of kernels: theirs have none but tl.constexpr.


@triton.jit
def _converted(sums, shift, most, REPEATS: tl.constexpr, REPEAT_SHIFT: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Saturated conversions of the charge `sums`, shifted back."""
    converted = (sums + ((1 << shift) >> 1)) >> shift
    for _ in tl.static_range(REPEATS):
        shift = tl.where((converted > most) | (converted < -most - 1), shift + REPEAT_SHIFT, shift)
        converted = (sums + ((1 << shift) >> 1)) >> shift
    return tl.minimum(tl.maximum(converted, -most - 1), most) << shift


@triton.jit
def _read(  # type: ignore[no-untyped-def]
    planes_at, weight_at, exponents_at, ranges_at, out_at, rows, inputs, outputs, most,
    BLOCKS: tl.constexpr, BLOCK_ROWS: tl.constexpr, REPEATS: tl.constexpr,  # noqa: N803
    REPEAT_SHIFT: tl.constexpr, LARGEST_SHIFT: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, INPUTS)
    there, written = row < rows, output < outputs
    total = tl.zeros((ROWS, OUTPUTS), tl.int64)
    for block in range(BLOCKS):
        high = tl.zeros((ROWS, OUTPUTS), tl.int32)
        low = tl.zeros((ROWS, OUTPUTS), tl.int32)
        for first in range(0, BLOCK_ROWS, INPUTS):
            place = block * BLOCK_ROWS + first + column
            used = (first + column < BLOCK_ROWS) & (place < inputs)
            at = planes_at + row.to(tl.int64)[:, None] * inputs + place[None, :]
            low_at = planes_at + (rows + row).to(tl.int64)[:, None] * inputs + place[None, :]
            mask = there[:, None] & used[None, :]
            weight = tl.load(
                weight_at + output.to(tl.int64)[None, :] * inputs + place[:, None], mask=used[:, None] & written[None, :], other=0
            )
            high = tl.dot(tl.load(at, mask=mask, other=0), weight, high, out_dtype=tl.int32)
            low = tl.dot(tl.load(low_at, mask=mask, other=0), weight, low, out_dtype=tl.int32)
        exponents = tl.load(exponents_at + block * rows + row, mask=there, other=0)
        ranges = tl.load(ranges_at + block * outputs + output, mask=written, other=0).to(tl.int32)
        shift = tl.minimum(tl.maximum(exponents[:, None] + ranges[None, :], 0), LARGEST_SHIFT)
        total += _converted(128 * high + low, shift, most, REPEATS, REPEAT_SHIFT).to(tl.int64)
    mask = there[:, None] & written[None, :]
    tl.store(out_at + row.to(tl.int64)[:, None] * outputs + output[None, :], (total >> 7).to(tl.int32), mask=mask)
    tl.store(out_at + (rows + row).to(tl.int64)[:, None] * outputs + output[None, :], (total & 127).to(tl.int32), mask=mask)


@triton_op("neuromorphic_llm::read_membranes", mutates_args=())
def read_membranes(
    planes: torch.Tensor, weight: torch.Tensor, exponents: torch.Tensor, ranges: torch.Tensor, block_rows: int, bits: int, repeats: int
) -> torch.Tensor:
    """Accumulators of a site as int32 acc [2, rows, outputs] with the value 128 acc[0] + acc[1].

    planes int8 [2, rows, inputs], weight int8 [outputs, inputs]; exponents int32 [blocks, rows], to which ranges int8 [blocks, outputs]
    are added, of blocks of block_rows inputs, at most MOST_ROWS.
    """
    (_, rows, inputs), outputs = planes.shape, weight.shape[0]
    out = torch.empty((2, rows, outputs), dtype=torch.int32, device=planes.device)
    tile = min(max(triton.next_power_of_2(rows), _LEAST_ROWS), _MOST_ROWS)
    deep = min(max(triton.next_power_of_2(block_rows), 32), 128)
    grid = (triton.cdiv(outputs, _OUTPUTS), triton.cdiv(rows, tile))
    with torch.cuda.device(planes.device):
        wrap_triton(_read)[grid](
            planes.contiguous(), weight, exponents, ranges, out, rows, inputs, outputs, (1 << (bits - 1)) - 1,
            len(ranges), block_rows, repeats, REPEAT_SHIFT, LARGEST_SHIFT, tile, _OUTPUTS, deep,
        )  # fmt: skip
    return out
