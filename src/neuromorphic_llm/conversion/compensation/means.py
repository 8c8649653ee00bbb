"""Channel means taken out of the attention output by the bias of the values: probabilities sum to one, so nothing is left to compute.

v - m gives the attention output o - m, which is smaller where a channel has a mean; W m goes into the bias of the output projection.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuromorphic_llm.conversion.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.reference.config import DecoderConfig


class _Means(Observer):
    """Sums of the attention output [heads * head_dim] of every layer."""

    def __init__(self, config: DecoderConfig) -> None:
        self.config = config
        self.sums: dict[int, Tensor] = {}
        self.tokens = 0

    def site(self, index: int, x: Tensor) -> Tensor:
        site = self.config.sites[index]
        if site.input_fraction == "attention":
            self.sums[site.stage] = self.sums.get(site.stage, torch.zeros((), dtype=torch.float64)) + x.double().sum((0, 1)).cpu()
        return x


@torch.no_grad()
def centred_values(canonical: CanonicalDecoder, windows: Sequence[Sequence[int]], device: str, seed: int) -> CanonicalDecoder:
    """The same decoder with a mean-free attention output; query heads that share values share the mean. `seed` is not used."""
    config, decoder, means = canonical.config, FloatDecoder(canonical, device=device), _Means(canonical.config)
    for window in windows:
        decoder.hidden(torch.tensor([list(window)]), means)
        means.tokens += len(window)
    tensors = dict(canonical.tensors)
    for layer, total in means.sums.items():
        prefix = f"model.layers.{layer}.self_attn."
        by_head = (total / means.tokens).view(config.kv_heads, -1, config.head_dim).mean(1)
        taken = by_head.repeat_interleave(config.heads // config.kv_heads, 0).flatten()
        back = tensors[prefix + "o_proj.weight"].double() @ taken
        tensors[prefix + "v_proj.bias"] = _added(tensors.get(prefix + "v_proj.bias"), -by_head.flatten())
        tensors[prefix + "o_proj.bias"] = _added(tensors.get(prefix + "o_proj.bias"), back)
    return CanonicalDecoder(config, tensors)


def _added(bias: Tensor | None, change: Tensor) -> Tensor:
    return (change if bias is None else bias.double() + change).float()
