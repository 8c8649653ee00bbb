"""Text that a dense model writes itself, for distillation: sampled at temperature 1 from the starts of given texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from neuromorphic_llm.models.checkpoint import Checkpoint

START_TOKENS = 4


@torch.no_grad()
def own_text(
    checkpoint: Checkpoint,
    starts: Sequence[Sequence[int]],
    tokens: int,
    *,
    length: int,
    batch: int,
    device: torch.device,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """At least `tokens` tokens int64 [sequences, length], each sequence beginning with the first four tokens of one of `starts`.

    A sequence goes on after an end-of-sequence token.
    """
    from transformers import GenerationConfig

    model: Any = checkpoint.dense_model(torch.bfloat16 if device.type == "cuda" else torch.float32, device)
    # All of the distribution: transformers' defaults leave out its tail, and end at its end token.
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=None, pad_token_id=0
    )
    beginnings = torch.tensor([list(start[:START_TOKENS]) for start in starts if len(start) >= START_TOKENS], device=device)
    written = []
    rounds = math.ceil(tokens / (batch * length))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for number in range(rounds):
            chosen = beginnings[torch.randint(len(beginnings), (batch,), device=device)]
            sequences: Any = model.generate(input_ids=chosen, attention_mask=torch.ones_like(chosen), max_length=length)
            written.append(sequences.cpu())
            if progress:
                progress(number + 1, rounds)
    return torch.cat(written)
