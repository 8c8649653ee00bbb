"""Cosine similarity of the residual streams of the spiking network and the dense model, layer by layer."""

from __future__ import annotations

import torch

from neuromorphic_llm.errors import DataError
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel


def cosine_per_layer(dense: DenseModel, spiking: SpikingModel, ids: torch.Tensor) -> list[float]:
    """Mean cosine similarity over tokens of the residual stream after each layer, for ids int64 [batch, n].

    Raises DataError if the models have different shapes.
    """
    layers = dense.model.model.layers
    config = spiking.decoder.config
    if len(layers) != config.layers or dense.model.config.hidden_size != config.hidden_size:
        raise DataError("the dense model and the spiking network have different shapes; compare a network with its own checkpoint")
    captured: list[torch.Tensor] = []

    def capture(_module: object, _inputs: object, output: object) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        assert isinstance(hidden, torch.Tensor)
        captured.append(hidden.detach().double().cpu())

    handles = [layer.register_forward_hook(capture) for layer in layers]
    try:
        dense.logits(ids)
    finally:
        for handle in handles:
            handle.remove()
    _, hidden = spiking.decoder.forward(ids, return_hidden=True)
    return [
        float(torch.nn.functional.cosine_similarity(reference, own.double().cpu(), dim=-1).mean())
        for reference, own in zip(captured, hidden, strict=True)
    ]
