"""The integer decoder: the definition that every simulator and the chip are held to (docs/reference/numerics.md).

Its order of operations is that of the graph (build_graph), its arithmetic that of the reference functions (interpreter.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.graph.ir import Graph
from neuromorphic_llm.reference.attention import AttentionActivity
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.fixed_point import Integers
from neuromorphic_llm.reference.interpreter import Cache, SiteRecord, Step, check_tokens, run_graph
from neuromorphic_llm.reference.weights import DecoderWeights


@dataclass(frozen=True)
class Record:
    """Spikes of one step: sites and attention in order of execution, and the residual stream after each layer."""

    tokens: int
    position: int  # of the first token
    sites: tuple[SiteRecord, ...]
    attention: tuple[AttentionActivity, ...]
    hidden: tuple[Integers, ...]  # per layer [tokens, hidden]


@dataclass(frozen=True)
class StepResult:
    """Logits at fraction `formats.logit` and the record of one step."""

    logits: NDArray[np.int32]  # [tokens, vocab], or [1, vocab] of the last token
    record: Record


class IntegerDecoder:
    """Interprets the graph of DecoderWeights, exactly as defined; sequences one at a time, tokens of a step vectorised.

    `graph` is build_graph(weights) by default; one that a compiler pass has rewritten gives the same results.
    """

    def __init__(self, weights: DecoderWeights, graph: Graph | None = None) -> None:
        self.weights = weights
        self.code = weights.code.spike_code()
        self.graph = build_graph(weights) if graph is None else graph

    def new_cache(self) -> Cache:
        """Empty state of one sequence of at most `max_positions` tokens."""
        return Cache()

    def step(self, tokens: Sequence[int], cache: Cache, *, all_logits: bool = True, full: bool = False) -> StepResult:
        """Process the next tokens of a sequence and extend its cache.

        With `all_logits` false the head runs for the last token only; `full` keeps spike trains, accumulators and outputs.
        UsageError for no tokens or one outside the vocabulary, SimulationError if the context is full.
        """
        check_tokens(tokens, cache.length, self.weights)
        step = Step(self.weights, np.asarray(tokens, np.int64), cache, full)
        position = step.position
        ends = run_graph(self.graph, step, all_logits=all_logits)
        assert step.logits is not None  # of the graph's argmax
        sites = tuple(step.sites[site.name] for site in self.weights.config.sites if site.name in step.sites)
        hidden = tuple(ends[layer] for layer in range(self.weights.config.layers))
        return StepResult(step.logits.astype(np.int32), Record(len(tokens), position, sites, tuple(step.attention), hidden))

    def forward(self, tokens: Sequence[int]) -> NDArray[np.int32]:
        """Logits of a whole sequence, [tokens, vocab]."""
        return self.step(tokens, self.new_cache()).logits

    def sequences(self, count: int, length: int) -> IntegerSequences:  # noqa: ARG002 - caches hold the whole context
        """State for `count` sequences, as token choice drives them (generation/engine.py)."""
        return IntegerSequences(self, [self.new_cache() for _ in range(count)])

    def generate_greedy(self, prompt: Sequence[int], new_tokens: int) -> list[int]:
        """The next `new_tokens` token ids, each the largest logit, the lowest index among equals."""
        cache = self.new_cache()
        chosen: list[int] = []
        pending = list(prompt)
        for _ in range(new_tokens):
            logits = self.step(pending, cache, all_logits=False).logits
            pending = [int(logits[-1].argmax())]
            chosen += pending
        return chosen


class IntegerSequences:
    """One cache per slot."""

    def __init__(self, decoder: IntegerDecoder, caches: list[Cache]) -> None:
        self._decoder, self._caches = decoder, caches

    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> Iterator[NDArray[np.int32]]:
        """Logits int32 [1, vocab] after each prompt."""
        for slot, prompt in zip(slots, prompts, strict=True):
            yield self._decoder.step(prompt, self._caches[slot], all_logits=False).logits

    def step(self, slots: Sequence[int], tokens: Sequence[int]) -> NDArray[np.int32]:
        """Logits int32 [slots, vocab] after one more token in each of the slots."""
        return np.concatenate(list(self.prefill(slots, [[token] for token in tokens])))

    def fork(self, order: Sequence[int]) -> None:
        """Slot i becomes a copy of the former slot order[i]."""
        self._caches = [deepcopy(self._caches[place]) for place in order]
