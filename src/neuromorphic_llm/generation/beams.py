"""Beam search as in transformers, over any engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from neuromorphic_llm.generation.choice import GenerationConfig, log_probabilities
from neuromorphic_llm.generation.engine import Engine

_Finished = list[tuple[float, list[int]]]


def beam_search(
    engine: Engine, prompt: Sequence[int], config: GenerationConfig, progress: Callable[[int, int], None] | None = None
) -> list[int]:
    """New tokens of the best beam.

    Every step looks at enough candidates to go on with `num_beams` of them; one of the best `num_beams` that ends is finished and
    scored by sum / length^penalty.
    """
    beams, eos = config.num_beams, set(config.eos_token_ids)
    candidates = max(2, 1 + len(eos)) * beams
    sequences = engine.sequences(beams, len(prompt) + config.max_new_tokens)
    logits = next(sequences.prefill([0], [prompt]))
    sequences.fork([0] * beams)
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: _Finished = []
    for step in range(config.max_new_tokens):
        log_probability = log_probabilities(engine.weights, logits)
        totals = torch.tensor([[score] for score, _ in alive], dtype=torch.float64, device=log_probability.device)
        scores = log_probability + totals
        best = scores.flatten().topk(min(candidates, scores.numel()))
        following: list[tuple[float, list[int], int]] = []
        for rank, (score, index) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            parent, token = divmod(index, scores.shape[1])
            tokens = [*alive[parent][1], token]
            if token in eos and rank < beams:
                finished.append((score / len(tokens) ** config.length_penalty, tokens))
            elif token not in eos and len(following) < beams:
                following.append((score, tokens, parent))
        finished = sorted(finished, key=lambda item: -item[0])[:beams]
        alive = [(score, tokens) for score, tokens, _ in following]
        if progress:
            progress(step + 1, config.max_new_tokens)
        if not alive or step + 1 == config.max_new_tokens or _settled(finished, alive[0], config):
            break
        sequences.fork([parent for _, _, parent in following] + [0] * (beams - len(following)))
        logits = sequences.step(range(len(alive)), [tokens[-1] for _, tokens in alive])
    finished += [(score / len(tokens) ** config.length_penalty, tokens) for score, tokens in alive]
    return max(finished, key=lambda item: item[0])[1]


def _settled(finished: _Finished, best: tuple[float, list[int]], config: GenerationConfig) -> bool:
    """No beam that goes on is better now than the finished ones."""
    score, tokens = best
    return len(finished) == config.num_beams and finished[-1][0] >= score / len(tokens) ** config.length_penalty
