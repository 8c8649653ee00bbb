"""The decoder's order of operations written by hand: an oracle that knows no graph (docs/reference/numerics.md, families.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from neuromorphic_llm.reference.attention import LayerCache, attend
from neuromorphic_llm.reference.fixed_point import Integers, saturate
from neuromorphic_llm.reference.gate import activated, gated_product
from neuromorphic_llm.reference.linear import accumulate, scale_output
from neuromorphic_llm.reference.norm import epsilon_term, head_epsilon_term, rms_norm
from neuromorphic_llm.reference.rotary import rotate
from neuromorphic_llm.reference.soft_cap import apply_soft_cap, score_cap, soft_cap
from neuromorphic_llm.reference.weights import DecoderWeights, LayerWeights, LinearWeights
from neuromorphic_llm.spikes.dense import quantise_dense


@dataclass
class WrittenDecoder:
    """Runs a whole sequence; `hidden` is the residual stream after each layer, `accumulators` those of every site in order."""

    weights: DecoderWeights
    hidden: list[Integers] = field(default_factory=list)
    accumulators: list[Integers] = field(default_factory=list)

    def forward(self, tokens: Sequence[int]) -> Integers:
        """Logits [tokens, vocab]."""
        weights, config, formats = self.weights, self.weights.config, self.weights.formats
        r = weights.embedding[np.asarray(tokens)].astype(np.int64) << formats.embedding_shift
        if weights.positions is not None:
            r = saturate(r + (weights.positions[: len(tokens)].astype(np.int64) << formats.embedding_shift), 32)
        for number, layer in enumerate(weights.layers):
            o = self.attention(number, layer, r)
            d = self.feed_forward(layer, r if config.parallel_residual else saturate(r + o, 32))
            r = saturate(saturate(r + o, 32) + d, 32)
            self.hidden.append(r)
        logits = self.linear(self.norm(r, weights.final_gain), weights.head)
        cap = soft_cap(config.logit_softcap, formats.logit)
        return logits if cap is None else apply_soft_cap(logits, cap)

    def attention(self, number: int, layer: LayerWeights, r: Integers) -> Integers:
        """Output of a layer's attention, [tokens, hidden]."""
        weights, config, formats, tokens = self.weights, self.weights.config, self.weights.formats, len(r)
        heads = self.linear(self.norm(r, layer.attention_gain), layer.qkv).reshape(tokens, -1, config.head_dim)
        q, k, v = np.split(heads, [config.heads, config.heads + config.kv_heads], axis=1)
        if config.query_key_norm:
            q, k = self.head_norm(q, layer.query_gain), self.head_norm(k, layer.key_gain)
        local = config.local_rotary and config.window(number)
        tables = (weights.local_rope_cos, weights.local_rope_sin) if local else (weights.rope_cos, weights.rope_sin)
        cos, sin = (table[:tokens] for table in tables if table is not None)
        cache = LayerCache.empty(tokens, config.kv_heads, config.head_dim)
        cache.write(0, rotate(k, cos, sin), v, layer.value_base, layer.get("key_offset"))
        o, _ = attend(
            rotate(q, cos, sin),
            cache,
            0,
            layer.query_stop,
            layer.value_base,
            formats,
            weights.code,
            spiking=layer.attention_spiking,
            window=config.window(number),
            cap=score_cap(config.attention_softcap),
        )
        return self.output_norm(self.linear(o.reshape(tokens, -1), layer.output), layer.get("attention_output_gain"))

    def feed_forward(self, layer: LayerWeights, r: Integers) -> Integers:
        """Output of a layer's feed-forward, [tokens, hidden]."""
        config, formats = self.weights.config, self.weights.formats
        y = self.linear(self.norm(r, layer.feed_forward_gain), layer.gate_up)
        activation = gated_product if config.gated else activated
        h = activation(y, formats.gate, layer.hidden_fraction, config.activation)
        return self.output_norm(self.linear(h, layer.down), layer.get("feed_forward_output_gain"))

    def norm(self, r: Integers, gain: Integers) -> Integers:
        """RMSNorm of the residual stream."""
        return rms_norm(r, gain, epsilon_term(self.weights.config, self.weights.formats), self.weights.formats)

    def head_norm(self, x: Integers, gain: Integers) -> Integers:
        """RMSNorm of each head, at its own fraction."""
        formats = self.weights.formats
        epsilon = head_epsilon_term(self.weights.config, formats)
        return rms_norm(x.reshape(-1, x.shape[-1]), gain, epsilon, formats, formats.qkv).reshape(x.shape)

    def output_norm(self, x: Integers, gain: Integers | None) -> Integers:
        """RMSNorm of what a branch adds to the residual stream, at its own fraction; x itself without a gain."""
        formats = self.weights.formats
        return x if gain is None else rms_norm(x, gain, epsilon_term(self.weights.config, formats), formats, formats.residual)

    def linear(self, x: Integers, site: LinearWeights) -> Integers:
        """Output of a crossbar site."""
        coded = self.weights.code.spike_code().quantise(x, site.stop) if site.spiking else quantise_dense(x)
        self.accumulators.append(accumulate(coded, site))
        return scale_output(self.accumulators[-1], coded.exponent, site)
