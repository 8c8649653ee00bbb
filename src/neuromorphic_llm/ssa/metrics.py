"""Quality of a row of the table against the dense model (docs/reference/ssa.md, Figures)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neuromorphic_llm.evaluation.language_model import EncodedText, evaluate_text
from neuromorphic_llm.evaluation.scored_model import DenseModel, ScoredModel
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.ssa.replace import Places

_COSINE_WINDOWS = 4

HiddenStates = Callable[[Tensor], tuple[list[Tensor], Tensor]]
"""ids int64 [batch, n] -> (residual stream after each layer, hidden states before the head), each [batch, n, hidden]."""


@dataclass(frozen=True)
class Quality:
    """Figures of one row; cosines over the first windows only."""

    perplexity: float
    kl_to_dense: float  # nats per token
    token_accuracy: float
    cosine_loss: float
    layer_cosine: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self) | {"layer_cosine": list(self.layer_cosine)}


def model_states(model: Any) -> HiddenStates:
    """Hidden states of a transformers decoder."""
    places = Places(model)

    @torch.no_grad()
    def states(ids: Tensor) -> tuple[list[Tensor], Tensor]:
        found: list[Tensor] = []
        handles = [layer.register_forward_hook(lambda _m, _i, output: found.append(_first(output))) for layer in places.layers]
        try:
            body = getattr(model, places.family.body)
            last = body(input_ids=ids.to(next(model.parameters()).device), use_cache=False).last_hidden_state
        finally:
            for handle in handles:
                handle.remove()
        return found, last

    return states


def network_states(decoder: FunctionalDecoder, dense: Any) -> HiddenStates:
    """Hidden states of an integer network; its last norm is the dense model's in floating point.

    The integer stream of a decoder with LayerNorm is centred (families.md), which that norm does not see.
    """
    norm, device = Places(dense).final_norm, next(dense.parameters()).device

    @torch.no_grad()
    def states(ids: Tensor) -> tuple[list[Tensor], Tensor]:
        _, residual = decoder.forward(ids, return_hidden=True)
        real = residual.to(device).float() * 2.0**-decoder.weights.formats.residual
        return list(real), norm(real[-1])

    return states


def _first(output: Any) -> Tensor:
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden.detach()


def cosines(own: HiddenStates, dense: HiddenStates, batches: Sequence[Tensor]) -> tuple[list[float], float]:
    """Mean cosine over tokens of the residual stream after each layer, and of the hidden states before the head."""
    sums: list[float] = []
    tokens = 0
    for ids in batches:
        (own_layers, own_last), (dense_layers, dense_last) = own(ids), dense(ids)
        pairs = zip([*own_layers, own_last], [*dense_layers, dense_last], strict=True)
        found = [float(functional.cosine_similarity(a.double(), b.to(a.device).double(), dim=-1).sum()) for a, b in pairs]
        sums = [total + value for total, value in zip(sums or [0.0] * len(found), found, strict=True)]
        tokens += ids.numel()
    means = [total / tokens for total in sums]
    return means[:-1], means[-1]


def quality(
    model: ScoredModel,
    states: HiddenStates,
    dense: Any,
    text: EncodedText,
    window: int,
    batch: int = 1,
    on_text: Callable[[], None] = lambda: None,
) -> Quality:
    """Quality of `model` on windows of a text against the dense model; on_text is called before the one pass over the whole text."""
    some = [torch.tensor([ids]) for ids in text.windows(window)[:_COSINE_WINDOWS]]
    layers, last = cosines(states, model_states(dense), some)
    on_text()
    result = evaluate_text(model, text, window=window, batch=batch, against=DenseModel(dense))
    assert result.kl_to_dense is not None and result.top1_agreement is not None
    return Quality(result.perplexity, result.kl_to_dense, result.top1_agreement, 1 - last, tuple(layers))
