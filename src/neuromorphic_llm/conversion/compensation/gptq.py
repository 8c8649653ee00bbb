"""Rounding of weights against the covariance of their inputs (Frantar et al., GPTQ, arXiv 2210.17323).

For W and H = sum x x^T over the inputs x, columns are rounded one after the other, those with the largest diagonal of H first; the error of
each is taken up by the columns that are still to come, by the rows of the Cholesky factor of H^-1. That lowers sum |(W - W^) x|^2 below
what rounding to nearest leaves.
"""

from __future__ import annotations

import torch
from torch import Tensor

_DAMPING = 0.01
_BLOCK = 64
_LARGEST = 127


def rounded_against(weight: Tensor, moments: Tensor) -> Tensor:
    """Integers -127..127 as float64 [outputs, inputs] for weights in units of their step and H = moments [inputs, inputs], both float64.

    Inputs that never fire are rounded to nearest; H is damped by a hundredth of the mean of its diagonal.
    """
    inputs = weight.shape[1]
    diagonal = moments.diagonal()
    if not bool(diagonal.any()):
        return weight.round().clamp(-_LARGEST, _LARGEST)
    order = diagonal.argsort(descending=True, stable=True)
    damped = moments[order][:, order] + _DAMPING * diagonal.mean() * torch.eye(inputs, dtype=moments.dtype, device=moments.device)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    rest = weight[:, order].T.contiguous()  # [inputs, outputs]: a column of the weights lies together
    rounded = torch.empty_like(rest)
    for first in range(0, inputs, _BLOCK):
        last = min(first + _BLOCK, inputs)
        errors = torch.empty_like(rest[first:last])
        for column in range(first, last):
            rounded[column] = rest[column].round().clamp_(-_LARGEST, _LARGEST)
            error = errors[column - first]
            torch.sub(rest[column], rounded[column], out=error).div_(factor[column, column])
            rest[column:last].addr_(factor[column, column:last], error, alpha=-1)
        rest[last:].addmm_(factor[first:last, last:].T, errors, alpha=-1)
    result = torch.empty_like(weight)
    result[:, order] = rounded.T
    return result
