"""4-bit weights with a multiplier per group of inputs (docs/reference/numerics.md, Group-scaled weights)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromorphic_llm.reference.weights import GROUP, LARGEST_GROUP_MULTIPLIER, LARGEST_GROUP_WEIGHT

_ROWS_AT_ONCE = 4096
_SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Scales of a row that are tried, over the one at which its largest group clips nothing."""

_STEPS = (1, 0, -1, -2, -3)
"""Multipliers of a group that are tried, beside the smallest one at which it clips nothing."""


def quantise_groups(weight: Tensor) -> tuple[NDArray[np.int8], NDArray[np.uint8], NDArray[np.float64]]:
    """Weights w4 * m of least squared error: (products int8 [outputs, inputs], m uint8 [outputs, groups], row scale [outputs]).

    Round to nearest; the row's scale and each group's m are searched.
    """
    parts = [_quantise_rows(rows) for rows in torch.split(weight, _ROWS_AT_ONCE)]
    products, multipliers, scales = (torch.cat(part) for part in zip(*parts, strict=True))
    return products[:, : weight.shape[1]].contiguous().numpy(), multipliers.numpy(), scales.double().numpy()


def _quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise as quantise_groups does, with rows padded to whole groups; weight [rows, inputs]."""
    padded = torch.nn.functional.pad(weight.float(), (0, -weight.shape[1] % GROUP)).view(len(weight), -1, GROUP)
    largest = padded.abs().amax(-1)
    full = largest.amax(-1) / (LARGEST_GROUP_WEIGHT * LARGEST_GROUP_MULTIPLIER)
    full = torch.where(full > 0, full, torch.ones_like(full))
    best_scale, best_error = full, torch.full_like(full, torch.inf)
    best_m = torch.ones_like(largest)
    for factor in _SHRINK:
        scale = full * factor
        m, errors = _multipliers(padded, largest, scale)
        error = errors.sum(-1)
        better = error < best_error
        best_error, best_scale = torch.where(better, error, best_error), torch.where(better, scale, best_scale)
        best_m = torch.where(better[:, None], m, best_m)
    digits = _digits(padded, best_m * best_scale[:, None])
    return (digits * best_m[..., None]).flatten(1).to(torch.int8), best_m.to(torch.uint8), best_scale


def _digits(groups: Tensor, step: Tensor) -> Tensor:
    """w4 of groups [rows, groups, GROUP] for steps [rows, groups]."""
    return (groups / step[..., None]).round_().clamp_(-LARGEST_GROUP_WEIGHT, LARGEST_GROUP_WEIGHT)


def _multipliers(groups: Tensor, largest: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Best multiplier of every group and its squared error, both [rows, groups], for the scales [rows]."""
    whole = (largest / (LARGEST_GROUP_WEIGHT * scale[:, None])).ceil()
    best_m, best_error = torch.ones_like(largest), torch.full_like(largest, torch.inf)
    for offset in _STEPS:
        m = (whole + offset).clamp_(1, LARGEST_GROUP_MULTIPLIER)
        step = m * scale[:, None]
        error = (groups - _digits(groups, step) * step[..., None]).square_().sum(-1)
        better = error < best_error
        best_m, best_error = torch.where(better, m, best_m), torch.where(better, error, best_error)
    return best_m, best_error
