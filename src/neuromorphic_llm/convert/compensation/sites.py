"""Float weights of the crossbar sites of a canonical decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.reference.weights import SITES

_STACKED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


def site_weight(canonical: CanonicalDecoder, site: int) -> Tensor:
    """Weights [outputs, inputs] of a site, float64, stacked as the site has them."""
    if site == canonical.config.sites - 1:
        return canonical.tensors["lm_head.weight"].double()
    names = [f"model.layers.{site // 4}.{linear}.weight" for linear in _STACKED[SITES[site % 4]]]
    return torch.cat([canonical.tensors[name] for name in names if name in canonical.tensors]).double()
