"""The integer decoder: the definition that every simulator and the chip are held to (docs/reference/numerics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.reference.attention import AttentionActivity, LayerCache, attend
from neuromorphic_llm.reference.fixed_point import Integers, saturate
from neuromorphic_llm.reference.gate import gated_product
from neuromorphic_llm.reference.linear import accumulate, scale_output
from neuromorphic_llm.reference.norm import epsilon_term, rms_norm
from neuromorphic_llm.reference.rotary import rotate
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.spikes.code import Coded, SpikeTrain
from neuromorphic_llm.spikes.dense import quantise_dense
from neuromorphic_llm.spikes.registry import get_code


@dataclass
class Cache:
    """Keys and values of one sequence."""

    layers: list[LayerCache]
    length: int = 0


@dataclass(frozen=True)
class SiteRecord:
    """What happened at one crossbar site, for the tokens of one step."""

    coded: Coded  # spikes per input, integers, exponents and phases; no spikes and phases at a site that does not spike
    train: SpikeTrain | None = field(default=None, repr=False)  # full records of spiking sites only
    accumulators: Integers | None = field(default=None, repr=False)  # [tokens, outputs], full records only
    output: Integers | None = field(default=None, repr=False)  # [tokens, outputs] at the site's output fraction, full records only


@dataclass(frozen=True)
class Record:
    """Spikes of one step: sites in order of index, attention per layer, and the residual stream after each layer."""

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
    """Runs DecoderWeights in integers, exactly as defined; sequences one at a time, tokens of a step vectorised."""

    def __init__(self, weights: DecoderWeights) -> None:
        self.weights = weights
        self.code = get_code(weights.code.name, weights.code.phases)
        self._epsilon = epsilon_term(weights.config, weights.formats)

    def new_cache(self) -> Cache:
        """An empty key/value cache for one sequence of at most `max_positions` tokens."""
        return Cache([LayerCache.empty(self.weights.config) for _ in range(self.weights.config.layers)])

    def step(self, tokens: Sequence[int], cache: Cache, *, all_logits: bool = True, full: bool = False) -> StepResult:
        """Process the next tokens of a sequence and extend its cache.

        With `all_logits` false the head runs for the last token only; `full` keeps spike trains, accumulators and outputs.
        UsageError for no tokens or one outside the vocabulary, SimulationError if the context is full.
        """
        self._check(tokens, cache)
        weights, config, formats = self.weights, self.weights.config, self.weights.formats
        rows = slice(cache.length, cache.length + len(tokens))
        sites: list[SiteRecord] = []
        attention: list[AttentionActivity] = []
        hidden: list[Integers] = []
        r = weights.embedding[np.asarray(tokens)].astype(np.int64) << formats.embedding_shift
        for layer, layer_cache in zip(weights.layers, cache.layers, strict=True):
            y = self._linear(len(sites), rms_norm(r, layer.attention_gain, self._epsilon, formats), sites, full)
            heads = y.reshape(len(tokens), config.heads + 2 * config.kv_heads, config.head_dim)
            q, k, v = np.split(heads, [config.heads, config.heads + config.kv_heads], axis=1)
            cos, sin = weights.rope_cos[rows], weights.rope_sin[rows]
            layer_cache.write(cache.length, rotate(k, cos, sin), v, layer.value_base)
            o, activity = attend(rotate(q, cos, sin), layer_cache, cache.length, layer, config, formats, weights.code)
            attention.append(activity)
            r = saturate(r + self._linear(len(sites), o.reshape(len(tokens), -1), sites, full), 32)
            y = self._linear(len(sites), rms_norm(r, layer.feed_forward_gain, self._epsilon, formats), sites, full)
            h = gated_product(y, formats.gate, layer.hidden_fraction)
            r = saturate(r + self._linear(len(sites), h, sites, full), 32)
            hidden.append(r)
        wanted = r if all_logits else r[-1:]
        logits = self._linear(len(sites), rms_norm(wanted, weights.final_gain, self._epsilon, formats), sites, full)
        record = Record(len(tokens), cache.length, tuple(sites), tuple(attention), tuple(hidden))
        cache.length += len(tokens)
        return StepResult(logits.astype(np.int32), record)

    def forward(self, tokens: Sequence[int]) -> NDArray[np.int32]:
        """Logits of a whole sequence, [tokens, vocab]."""
        return self.step(tokens, self.new_cache()).logits

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

    def _linear(self, index: int, x: Integers, sites: list[SiteRecord], full: bool) -> Integers:
        """Code x, multiply, scale, and append the site's record."""
        site, name = self.weights.site(index), self.weights.config.site_name(index)
        coded = self.code.quantise(x, site.stop) if site.spiking else quantise_dense(x)
        accumulators = accumulate(coded, site, name)
        y = scale_output(accumulators, coded.exponent, site)
        if full:
            train = self.code.encode(x, site.stop) if site.spiking else None
            sites.append(SiteRecord(coded, train, accumulators, y))
        else:
            sites.append(SiteRecord(coded))
        return y

    def _check(self, tokens: Sequence[int], cache: Cache) -> None:
        config = self.weights.config
        if not len(tokens):
            raise UsageError("no tokens to process; give at least one")
        if min(tokens) < 0 or max(tokens) >= config.vocab_size:
            raise UsageError(f"token ids must lie in 0..{config.vocab_size - 1}, got {min(tokens)}..{max(tokens)}")
        if cache.length + len(tokens) > config.max_positions:
            raise SimulationError(
                f"{cache.length + len(tokens)} tokens exceed the context of {config.max_positions} positions; shorten the prompt"
            )
