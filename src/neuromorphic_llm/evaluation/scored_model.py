"""One face for the dense model and the spiking network: logits, log-likelihoods of continuations and greedy generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from neuromorphic_llm.evaluation.likelihood import Continued, Progress, Score, batches, padded, scores
from neuromorphic_llm.evaluation.spiking_likelihood import spiking_scores
from neuromorphic_llm.evaluation.stop import chop
from neuromorphic_llm.network.functional import FunctionalDecoder


class ScoredModel(Protocol):
    """Interface of a model that evaluation scores."""

    vocab_size: int
    max_positions: int
    device: torch.device

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits of ids int64 [batch, n] as they are computed: [batch, n, vocab], times `scale` in real units."""
        ...

    @property
    def scale(self) -> float:
        """Real value of one unit of the logits."""
        ...

    def score(self, items: Sequence[Continued], progress: Progress | None = None) -> list[list[Score]]:
        """Scores of the continuations of each context; a context and a continuation without its last token fit the model."""
        ...

    def generate(
        self, prompts: Sequence[list[int]], max_new_tokens: int, stop: Sequence[int], on_token: Callable[[], None] | None = None
    ) -> list[list[int]]:
        """Greedy continuations of ragged prompts, each ended before a token of `stop`; on_token after every step."""
        ...


class SpikingModel:
    """A spiking network through its functional simulation."""

    def __init__(self, decoder: FunctionalDecoder) -> None:
        self.decoder = decoder
        self.vocab_size = decoder.config.vocab_size
        self.max_positions = decoder.weights.rope_cos.shape[0]
        self.device = decoder.device

    @property
    def scale(self) -> float:
        """Real value of one unit of the integer logits."""
        return float(2.0**-self.decoder.weights.formats.logit)

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Integer logits int32 [batch, n, vocab] of ids int64 [batch, n]."""
        return self.decoder.forward(ids)

    def score(self, items: Sequence[Continued], progress: Progress | None = None) -> list[list[Score]]:
        """Scores of the continuations of each context (spiking_likelihood.py)."""
        return spiking_scores(self.decoder, items, self.scale, progress)

    def generate(
        self, prompts: Sequence[list[int]], max_new_tokens: int, stop: Sequence[int], on_token: Callable[[], None] | None = None
    ) -> list[list[int]]:
        """Greedy continuations, all prompts in one batch; the lowest index wins among equal logits."""

        def progress(_done: int, _limit: int) -> None:
            if on_token:
                on_token()

        outputs = self.decoder.generate(prompts, max_new_tokens, eos_token_ids=tuple(stop), progress=progress)
        return [chop(tokens, stop) for tokens in outputs]


_MOST_TOKENS = {"cpu": 256, "cuda": 16384}
"""Padded tokens that the dense model takes at once for scores, by kind of device."""


class DenseModel:
    """A dense torch model of transformers."""

    scale = 1.0

    def __init__(self, model: Any) -> None:
        self.model = model
        self.vocab_size = int(model.config.vocab_size)
        self.max_positions = int(model.config.max_position_embeddings)
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [batch, n, vocab] of ids int64 [batch, n] in the model's own type."""
        logits: torch.Tensor = self.model(input_ids=ids.to(self.device), use_cache=False).logits
        return logits

    def score(self, items: Sequence[Continued], progress: Progress | None = None) -> list[list[Score]]:
        """Scores of the continuations of each context, every one run with its context, in batches of similar lengths."""
        results: dict[int, list[Score]] = {}
        for group in batches(items, _MOST_TOKENS[self.device.type]):
            batch = [items[index] for index in group]
            flat = iter(self._batch_scores(batch))
            results.update({index: [next(flat) for _ in item.continuations] for index, item in zip(group, batch, strict=True)})
            if progress:
                progress(sum(len(item.continuations) for item in batch))
        return [results[index] for index in range(len(items))]

    @torch.no_grad()
    def _batch_scores(self, batch: Sequence[Continued]) -> list[Score]:
        """Scores in the order of items and continuations; logits of the positions after the shortest context only."""
        sequences = [(item.context, continuation) for item in batch for continuation in item.continuations]
        width, first = max(item.tokens for item in batch), min(len(item.context) for item in batch) - 1
        # A position sees none after it, so that padding on the right needs no mask.
        ids = padded([[*context, *continuation[:-1]] for context, continuation in sequences], width).to(self.device)
        kept = torch.arange(first, width, device=self.device)
        logits = self.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits

        def logits_of(places: list[tuple[int, int]]) -> torch.Tensor:
            rows = [(number, len(sequences[number][0]) - 1 - first + token) for number, token in places]
            number, position = torch.tensor(rows).to(self.device).unbind(1)
            chosen: torch.Tensor = logits[number, position]
            return chosen

        return scores([continuation for _, continuation in sequences], logits_of, self.scale, self.device)

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[list[int]], max_new_tokens: int, stop: Sequence[int], on_token: Callable[[], None] | None = None
    ) -> list[list[int]]:
        """Greedy continuations by transformers' generate, ragged prompts padded on the left."""
        width, pad = max(map(len, prompts)), 0
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=self.device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=self.device)

        def note(*_: Any, **__: Any) -> torch.Tensor:
            if on_token:
                on_token()
            return torch.zeros(len(prompts), dtype=torch.bool, device=self.device)

        output = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=pad,
            eos_token_id=list(stop) or None,
            stopping_criteria=[note],
        )
        return [chop(tokens, stop) for tokens in output[:, width:].tolist()]
