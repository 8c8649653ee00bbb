"""Spike raster: which inputs of a layer's crossbar sites fire in which phase, for one token."""

from __future__ import annotations

import torch

from neuromorphic_llm.evaluation.scored_model import SpikingModel
from neuromorphic_llm.network.operations import CodedRows


def spike_raster(model: SpikingModel, ids: torch.Tensor, layer: int) -> dict[str, list[list[int]]]:
    """Digits, [phases][inputs] by site name, of the last token of ids int64 [1, n] in one layer."""
    decoder = model.decoder
    code = decoder.weights.code.spike_code()
    raster: dict[str, list[list[int]]] = {}

    def observe(index: int, x: torch.Tensor, _coded: CodedRows) -> None:
        site = decoder.weights.site(index)
        if decoder.weights.config.sites[index].stage == layer and site.spiking:
            train = code.encode(x[-1:].cpu().numpy(), site.stop)
            raster[decoder.config.sites[index].name] = train.digits[:, 0, :].tolist()

    decoder.observer = observe
    try:
        decoder.forward(ids, last_only=True)
    finally:
        decoder.observer = None
    return raster
