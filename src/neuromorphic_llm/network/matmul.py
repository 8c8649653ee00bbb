"""Exact integer matrix products at dense speed: two signed byte planes times 8-bit weights."""

from __future__ import annotations

from functools import cache

import torch


@cache
def int8_products_exact(device_type: str) -> bool:
    """True if this device's int8 product is exact for extreme values (some CPU kernels saturate 16-bit partial sums)."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-128, 128, (34, 1536), dtype=torch.int8, generator=generator)
    b = torch.randint(-127, 128, (64, 1536), dtype=torch.int8, generator=generator)
    a[0], b[0], a[1], b[1] = -128, -127, 127, 127
    try:
        product = torch._int_mm(a.to(device_type), b.to(device_type).t()).cpu()
    except RuntimeError:
        return False
    return bool(torch.equal(product.long(), a.long() @ b.long().t()))


def product(planes: torch.Tensor, weight: torch.Tensor, int8_exact: bool) -> torch.Tensor:
    """Products of both planes with the weights.

    planes int8 [2, rows, inputs], weight int8 [outputs, inputs]; returns int32 [2, rows, outputs], exact.
    int8_exact: int8_products_exact() of the device; float64 is used where it is false or the shape does not suit the int8 kernel.
    """
    flat = planes.reshape(-1, planes.shape[-1])
    if int8_exact and weight.shape[1] % 8 == 0 and weight.shape[0] % 8 == 0:
        rows = flat.shape[0]
        if flat.is_cuda and rows <= 16:  # the CUDA kernel wants more than 16 rows
            products = torch._int_mm(torch.nn.functional.pad(flat, (0, 0, 0, 32 - rows)), weight.t())[:rows]
        else:
            products = torch._int_mm(flat, weight.t())
        return products.view(2, -1, weight.shape[0])
    result = flat.double() @ weight.double().t()
    return result.to(torch.int32).reshape(2, -1, weight.shape[0])
