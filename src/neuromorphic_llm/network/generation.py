"""Generation with the functional simulation: greedy, sampling and ordinary beam search over ragged batches of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from neuromorphic_llm.errors import UsageError

if TYPE_CHECKING:
    from neuromorphic_llm.network.cache import KeyValueCache
    from neuromorphic_llm.network.functional import FunctionalDecoder

_PREFILL_ROWS = 16384
"""Tokens that a GPU takes at once."""

Progress = Callable[[int, int], None]
"""Called with (tokens generated per sequence, limit)."""


@dataclass(frozen=True)
class GenerationConfig:
    """How to choose tokens; names and defaults as in transformers. Raises UsageError naming the option."""

    max_new_tokens: int = 64
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    eos_token_ids: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.temperature > 0:
            raise UsageError(f"temperature must be above 0, got {self.temperature}; for greedy decoding leave sampling off")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UsageError(f"top_k must not be negative and top_p must lie in (0, 1], got {self.top_k} and {self.top_p}")
        if self.num_beams < 1 or (self.num_beams > 1 and self.do_sample):
            raise UsageError("num_beams must be at least 1, and beam search cannot sample")


def log_probabilities(decoder: FunctionalDecoder, logits: torch.Tensor) -> torch.Tensor:
    """Natural log probabilities, float64, of integer logits [..., vocab]."""
    return (logits.double() * 2.0**-decoder.weights.formats.logit).log_softmax(-1)


def generate(
    decoder: FunctionalDecoder,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    progress: Progress | None = None,
    on_token: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """New tokens of every prompt, the end-of-sequence token included where it was reached.

    Prompts may have different lengths; each result is what the prompt alone would give, except that sampling draws from one random stream.
    `on_token` is called with the prompt's index and every new token as soon as it is known, but by beam search, which knows it at the end.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise UsageError("empty prompt: give at least one token")
    if config.num_beams > 1:
        return [_beam_search(decoder, prompt, config, progress) for prompt in prompts]
    choose = _sampler(decoder, config) if config.do_sample else _greedy
    cache = decoder.new_cache(len(prompts), max(map(len, prompts)) + config.max_new_tokens)
    chosen = _prefill(decoder, prompts, cache, choose)
    results: list[list[int]] = [[] for _ in prompts]
    rows, active = list(range(len(prompts))), set(range(len(prompts)))  # cache slots in the order of `chosen`; those still going on
    # Compiled decoding wants one shape, so there the rows of ended sequences stay, as padding.
    shrink = decoder.device.type == "cpu"
    for step in range(config.max_new_tokens):
        for slot, token in zip(rows, chosen.tolist(), strict=True):
            if slot in active:
                results[slot].append(token)
                if on_token:
                    on_token(slot, token)
                if token in config.eos_token_ids:
                    active.discard(slot)
        if progress:
            progress(step + 1, config.max_new_tokens)
        if not active or step + 1 == config.max_new_tokens:
            break
        if shrink and len(active) < len(rows):
            kept = [row for row, slot in enumerate(rows) if slot in active]
            chosen, rows = chosen[kept], [rows[row] for row in kept]
        valid = [int(slot in active) for slot in rows] if len(active) < len(rows) else None
        logits = decoder.forward(chosen.unsqueeze(1), cache, slots=rows, valid=valid, last_only=True)
        chosen = choose(logits[:, -1])
    return results


def _prefill(
    decoder: FunctionalDecoder, prompts: Sequence[Sequence[int]], cache: KeyValueCache, choose: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """First new token of every prompt, int64 [prompts]. A GPU takes several at once, padded to the longest; a CPU gains nothing by it."""
    longest = max(map(len, prompts))
    at_once = 1 if decoder.device.type == "cpu" else max(_PREFILL_ROWS // longest, 1)
    first = []
    for start in range(0, len(prompts), at_once):
        group = prompts[start : start + at_once]
        width = len(group[0]) if len(group) == 1 else longest
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in group])
        slots = range(start, start + len(group))
        valid = None if len(group) == 1 else [len(prompt) for prompt in group]
        logits = decoder.forward(ids, cache, slots=slots, valid=valid, last_only=True)
        first.append(choose(logits[:, -1]))
    return torch.cat(first)


def _greedy(logits: torch.Tensor) -> torch.Tensor:
    """Largest logit, lowest index among equals (argmax leaves ties open, so the index is part of the key)."""
    largest = logits.amax(-1, keepdim=True)
    index = torch.arange(logits.shape[-1], device=logits.device)
    return torch.where(logits == largest, index, logits.shape[-1]).amin(-1)


def _sampler(decoder: FunctionalDecoder, config: GenerationConfig) -> Callable[[torch.Tensor], torch.Tensor]:
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers = LogitsProcessorList()
    if config.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        warpers.append(TopKLogitsWarper(config.top_k))
    if config.top_p < 1.0:
        warpers.append(TopPLogitsWarper(config.top_p))
    generator = torch.Generator(device=decoder.device).manual_seed(config.seed)

    def choose(logits: torch.Tensor) -> torch.Tensor:
        scores = log_probabilities(decoder, logits)
        empty = torch.zeros(logits.shape[0], 0, dtype=torch.long, device=logits.device)
        kept: torch.Tensor = warpers(empty, scores)  # type: ignore[arg-type]
        return torch.multinomial(kept.softmax(-1), 1, generator=generator).squeeze(1)

    return choose


def _beam_search(decoder: FunctionalDecoder, prompt: Sequence[int], config: GenerationConfig, progress: Progress | None) -> list[int]:
    """Beam search as in transformers.

    Every step looks at enough candidates to go on with `num_beams` of them; one of the best `num_beams` that ends is finished and
    scored by sum / length^penalty.
    """
    beams, eos = config.num_beams, set(config.eos_token_ids)
    candidates = max(2, 1 + len(eos)) * beams
    cache = decoder.new_cache(beams, len(prompt) + config.max_new_tokens)
    logits = decoder.forward(torch.tensor([list(prompt)]), cache, slots=[0], last_only=True)
    cache.reorder([0] * beams)
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for step in range(config.max_new_tokens):
        totals = torch.tensor([[score] for score, _ in alive], dtype=torch.float64, device=logits.device)
        scores = log_probabilities(decoder, logits[:, -1]) + totals
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
        if (
            not alive
            or step + 1 == config.max_new_tokens
            or (len(finished) == beams and finished[-1][0] >= alive[0][0] / len(alive[0][1]) ** config.length_penalty)
        ):
            break
        cache.reorder([parent for _, _, parent in following] + [0] * (beams - len(following)))
        ids = torch.tensor([[tokens[-1]] for _, tokens in alive])
        logits = decoder.forward(ids, cache, slots=list(range(len(alive))), last_only=True)
    finished += [(score / len(tokens) ** config.length_penalty, tokens) for score, tokens in alive]
    return max(finished, key=lambda item: item[0])[1]
