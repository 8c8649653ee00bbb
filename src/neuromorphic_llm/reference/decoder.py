"""The integer decoder: the definition that every simulator and the chip are held to (docs/reference/numerics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.reference.attention import AttentionActivity, LayerCache, attend
from neuromorphic_llm.reference.fixed_point import Integers, saturate
from neuromorphic_llm.reference.gate import activated, gated_product
from neuromorphic_llm.reference.linear import accumulate, scale_output
from neuromorphic_llm.reference.norm import epsilon_term, head_epsilon_term, rms_norm
from neuromorphic_llm.reference.rotary import rotate
from neuromorphic_llm.reference.soft_cap import apply_soft_cap, logit_cap
from neuromorphic_llm.reference.weights import DecoderWeights, LayerWeights
from neuromorphic_llm.spikes.code import Coded, SpikeTrain
from neuromorphic_llm.spikes.dense import quantise_dense


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


@dataclass
class _Step:
    """What a step is about, and what it has recorded so far."""

    tokens: int
    position: int
    full: bool
    sites: list[SiteRecord] = field(default_factory=list)
    attention: list[AttentionActivity] = field(default_factory=list)
    hidden: list[Integers] = field(default_factory=list)


class IntegerDecoder:
    """Runs DecoderWeights in integers, exactly as defined; sequences one at a time, tokens of a step vectorised."""

    def __init__(self, weights: DecoderWeights) -> None:
        self.weights = weights
        self.code = weights.code.spike_code()
        self._epsilon = epsilon_term(weights.config, weights.formats)
        self._head_epsilon = head_epsilon_term(weights.config, weights.formats)

    def new_cache(self) -> Cache:
        """An empty key/value cache for one sequence of at most `max_positions` tokens."""
        return Cache([LayerCache.empty(self.weights.config) for _ in range(self.weights.config.layers)])

    def step(self, tokens: Sequence[int], cache: Cache, *, all_logits: bool = True, full: bool = False) -> StepResult:
        """Process the next tokens of a sequence and extend its cache.

        With `all_logits` false the head runs for the last token only; `full` keeps spike trains, accumulators and outputs.
        UsageError for no tokens or one outside the vocabulary, SimulationError if the context is full.
        """
        self._check(tokens, cache)
        weights, formats = self.weights, self.weights.formats
        rows = slice(cache.length, cache.length + len(tokens))
        step = _Step(len(tokens), cache.length, full)
        r = weights.embedding[np.asarray(tokens)].astype(np.int64) << formats.embedding_shift
        if weights.positions is not None:
            r = saturate(r + (weights.positions[rows].astype(np.int64) << formats.embedding_shift), 32)
        for number, layer in enumerate(weights.layers):
            o = self._attention(number, r, cache.layers[number], step)
            f = r if weights.config.parallel_residual else saturate(r + o, 32)
            d = self._feed_forward(layer, f, step)
            # Parallel: the sum with the attention's output comes first here too.
            r = saturate(saturate(r + o, 32) + d, 32)
            step.hidden.append(r)
        wanted = r if all_logits else r[-1:]
        logits = self._linear(rms_norm(wanted, weights.final_gain, self._epsilon, formats), step)
        cap = logit_cap(weights.config, formats)
        logits = logits if cap is None else apply_soft_cap(logits, cap)
        record = Record(len(tokens), cache.length, tuple(step.sites), tuple(step.attention), tuple(step.hidden))
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

    def _attention(self, number: int, r: Integers, layer_cache: LayerCache, step: _Step) -> Integers:
        """Output of the attention of layer `number` for the residual stream r, [tokens, hidden]; extends the cache."""
        weights, config, formats = self.weights, self.weights.config, self.weights.formats
        layer = weights.layers[number]
        y = self._linear(rms_norm(r, layer.attention_gain, self._epsilon, formats), step)
        heads = y.reshape(step.tokens, config.heads + 2 * config.kv_heads, config.head_dim)
        q, k, v = np.split(heads, [config.heads, config.heads + config.kv_heads], axis=1)
        q, k = self._head_norm(q, layer.query_gain), self._head_norm(k, layer.key_gain)
        cos, sin = (table[step.position : step.position + step.tokens] for table in weights.rope(number))
        layer_cache.write(step.position, rotate(k, cos, sin), v, layer.value_base, layer.key_offset)
        q = rotate(q, cos, sin)
        o, activity = attend(q, layer_cache, step.position, layer, config, formats, weights.code, config.window(number))
        step.attention.append(activity)
        return self._output_norm(self._linear(o.reshape(step.tokens, -1), step), layer.attention_output_gain)

    def _feed_forward(self, layer: LayerWeights, r: Integers, step: _Step) -> Integers:
        """Output of the feed-forward for the residual stream r, [tokens, hidden]."""
        config, formats = self.weights.config, self.weights.formats
        y = self._linear(rms_norm(r, layer.feed_forward_gain, self._epsilon, formats), step)
        activation = gated_product if config.gated else activated
        h = activation(y, formats.gate, layer.hidden_fraction, config.activation)
        return self._output_norm(self._linear(h, step), layer.feed_forward_output_gain)

    def _head_norm(self, x: Integers, gain: NDArray[np.int32] | None) -> Integers:
        """RMSNorm of each head of x [tokens, heads, head_dim], at its own fraction; x itself without a gain."""
        if gain is None:
            return x
        formats = self.weights.formats
        return rms_norm(x.reshape(-1, x.shape[-1]), gain, self._head_epsilon, formats, formats.qkv).reshape(x.shape)

    def _output_norm(self, x: Integers, gain: NDArray[np.int32] | None) -> Integers:
        """RMSNorm of what a branch adds to the residual stream, [tokens, hidden], at its own fraction; x itself without a gain."""
        formats = self.weights.formats
        return x if gain is None else rms_norm(x, gain, self._epsilon, formats, formats.residual)

    def _linear(self, x: Integers, step: _Step) -> Integers:
        """Code x, the input of the next site, multiply, scale, and append the site's record."""
        index = len(step.sites)
        site, name = self.weights.site(index), self.weights.config.site_name(index)
        coded = self.code.quantise(x, site.stop) if site.spiking else quantise_dense(x)
        accumulators = accumulate(coded, site, name)
        y = scale_output(accumulators, coded.exponent, site)
        if step.full:
            train = self.code.encode(x, site.stop) if site.spiking else None
            step.sites.append(SiteRecord(coded, train, accumulators, y))
        else:
            step.sites.append(SiteRecord(coded))
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
