"""Float weights of the crossbar sites of a canonical decoder, and what their outputs are as integers."""

from __future__ import annotations

import torch
from torch import Tensor

from neuromorphic_llm.conversion.float_decoder import LOG2_E
from neuromorphic_llm.models.canonical import SITE_PROJECTIONS, CanonicalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights


def site_weight(canonical: CanonicalDecoder, site: int) -> Tensor:
    """Weights [outputs, inputs] of a site, float64, stacked as the site has them."""
    described = canonical.config.sites[site]
    if described is canonical.config.head:
        return canonical.tensors["lm_head.weight"].double()
    names = [f"model.layers.{described.stage}.{linear}.weight" for linear in SITE_PROJECTIONS[described.role]]
    return torch.cat([canonical.tensors[name] for name in names if name in canonical.tensors]).double()


def output_factor(weights: DecoderWeights, site: int) -> Tensor:
    """Factor from W x, x the integers that enter a site, to its integer outputs: float64 [outputs]."""
    config = weights.config
    shift = weights.output_fraction(site) - weights.input_fraction(site)
    factor = torch.full((config.sites[site].shape[1],), 2.0**shift, dtype=torch.float64)
    if config.sites[site].role == "qkv" and not config.query_key_norm:  # which has the scale of the scores in its gain
        factor[: config.heads * config.head_dim] *= LOG2_E * config.query_scale
    return factor
