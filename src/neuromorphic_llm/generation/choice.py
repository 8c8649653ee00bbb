"""Choice of the next token: the largest logit, or a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.generation.engine import Logits
from neuromorphic_llm.options import check_numbers
from neuromorphic_llm.reference.weights import DecoderWeights

if TYPE_CHECKING:
    import torch

Choice = Callable[[Logits], list[int]]
"""Next token of every row of logits."""


def check_length(max_new_tokens: object) -> None:
    """UsageError unless so many tokens can be generated."""
    if not isinstance(max_new_tokens, Integral) or max_new_tokens < 1:
        raise UsageError(f"max_new_tokens must be an integer of at least 1, got {max_new_tokens!r}")


@dataclass(frozen=True)
class GenerationConfig:
    """Options of a generation; names and defaults as in transformers. Raises UsageError naming the option."""

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
        check_length(self.max_new_tokens)
        check_numbers(self, UsageError)
        if not self.temperature > 0:
            raise UsageError(f"temperature must be above 0, got {self.temperature}; for greedy decoding leave sampling off")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UsageError(f"top_k must not be negative and top_p must lie in (0, 1], got {self.top_k} and {self.top_p}")
        if self.num_beams < 1 or (self.num_beams > 1 and self.do_sample):
            raise UsageError(f"num_beams must be at least 1, and beam search cannot sample, got {self.num_beams}; leave one of both out")

    @property
    def greedy(self) -> bool:
        """The largest logit each time."""
        return not self.do_sample and self.num_beams == 1


def log_probabilities(weights: DecoderWeights, logits: Logits) -> torch.Tensor:
    """Natural log probabilities, float64, of integer logits [..., vocab] of a network."""
    import torch

    return (torch.as_tensor(logits).double() * 2.0**-weights.formats.logit).log_softmax(-1)


def largest(logits: Logits) -> list[int]:
    """Index of the largest logit of every row, the lowest among equals."""
    if isinstance(logits, np.ndarray):
        tokens: list[int] = logits.argmax(-1).tolist()
        return tokens
    import torch

    # argmax of torch leaves ties open, so the index is part of the key.
    index = torch.arange(logits.shape[-1], device=logits.device)
    first: list[int] = torch.where(logits == logits.amax(-1, keepdim=True), index, logits.shape[-1]).amin(-1).tolist()
    return first


def sampler(weights: DecoderWeights, config: GenerationConfig, device: torch.device | str = "cpu") -> Choice:
    """Samples of the distribution that `config` makes of logits on a device; one random stream for all rows."""
    import torch
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers = LogitsProcessorList()
    if config.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        warpers.append(TopKLogitsWarper(config.top_k))
    if config.top_p < 1.0:
        warpers.append(TopPLogitsWarper(config.top_p))
    generator = torch.Generator(device=device).manual_seed(config.seed)

    def choose(logits: Logits) -> list[int]:
        scores = log_probabilities(weights, logits)
        empty = torch.zeros(scores.shape[0], 0, dtype=torch.long, device=scores.device)
        kept: torch.Tensor = warpers(empty, scores)  # type: ignore[arg-type]
        drawn: list[int] = torch.multinomial(kept.softmax(-1), 1, generator=generator).squeeze(1).tolist()
        return drawn

    return choose
