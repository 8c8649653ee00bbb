"""Functional simulation: the integer decoder at dense speed, batched, with exact spike counts (CPU and GPU)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import torch

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.network.cache import KeyValueCache, LayerCache
from neuromorphic_llm.network.cpu_operations import CpuOperations
from neuromorphic_llm.network.generation import GenerationConfig, Progress, generate
from neuromorphic_llm.network.operations import NO_WINDOW, AttentionResult, Coded, Operations, Rows, SiteTensors
from neuromorphic_llm.network.statistics import SpikeStatistics
from neuromorphic_llm.reference.norm import epsilon_term, head_epsilon_term
from neuromorphic_llm.reference.soft_cap import score_cap, soft_cap
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

COMPILE_AFTER_ROWS = 1 << 17
"""Rows that a GPU takes uncompiled before it compiles layers for many tokens at once too: that costs about as much time as these rows."""

Observer = Callable[[int, torch.Tensor, Coded], None]
"""Called with (site index, input int32 [rows, inputs], coded input) at every crossbar site."""


@dataclass
class _Layer:
    sites: list[SiteTensors]
    attention_gain: torch.Tensor
    query_stop: torch.Tensor
    value_base: torch.Tensor
    key_offset: torch.Tensor | None  # int32 [kv_heads, head_dim]
    feed_forward_gain: torch.Tensor
    hidden_fraction: torch.Tensor
    query_phases: int
    rope: tuple[torch.Tensor, torch.Tensor]
    window: torch.Tensor | None  # int64 scalar; None if no layer has one
    head_gains: tuple[torch.Tensor, torch.Tensor] | None  # of queries and keys
    output_gains: tuple[torch.Tensor, torch.Tensor] | None  # of attention and feed-forward


_LayerResult = tuple[torch.Tensor, list[torch.Tensor], AttentionResult]


class FunctionalDecoder:
    """The integer decoder of `weights` on a device.

    Batched, with a key/value cache; every integer equals the integer reference's. Results do not depend on batch or cache.
    """

    def __init__(self, weights: DecoderWeights, device: str | torch.device = "cpu", operations: Operations | None = None) -> None:
        self.weights, self.config = weights, weights.config
        self.device = torch.device(device)
        self.operations = operations or (CpuOperations() if self.device.type == "cpu" else Operations(self.device))
        self.statistics = SpikeStatistics(self.config)
        self.observer: Observer | None = None
        self.query_observer: Callable[[int, torch.Tensor], None] | None = None  # (layer, rotated queries [rows, heads, D])
        self._embedding = self._tensor(weights.embedding)
        self._positions = None if weights.positions is None else self._tensor(weights.positions)
        tables = {"local_rope" if block.local_rotary else "rope" for block in self.config.attention_blocks}
        ropes = {table: weights.rope(table) for table in tables}
        self._ropes = {table: (self._tensor(cos), self._tensor(sin)) for table, (cos, sin) in ropes.items()}
        self._layers = [self._layer_tensors(number) for number in range(self.config.layers)]
        self._head_site = self._site(weights.head)
        self._final_gain = self._tensor(weights.final_gain)
        formats = weights.formats
        self._epsilon, self._head_epsilon = epsilon_term(self.config, formats), head_epsilon_term(self.config, formats)
        self._gain_shift = 24 + formats.gain_fraction
        self._norm_shift = self._gain_shift - formats.norm
        self._score_cap, self._logit_cap = score_cap(self.config.attention_softcap), soft_cap(self.config.logit_softcap, formats.logit)
        code = weights.code
        self._signed_digit = code.name == "signed-digit"
        self._code = code.spike_code()
        self._eager_rows = 0
        self._compiled_layer = torch.compile(self._layer) if self.device.type == "cuda" and self._signed_digit else None

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _site(self, site: LinearWeights) -> SiteTensors:
        bias = None if site.bias is None else self._tensor(site.bias)
        shift = torch.tensor(site.shift, device=self.device)
        return SiteTensors(self._tensor(site.weight), self._tensor(site.multiplier), shift, self._tensor(site.stop), bias, site.spiking)

    def _layer_tensors(self, number: int) -> _Layer:
        layer = self.weights.layers[number]
        return _Layer(
            [self._site(self.weights.site(4 * number + position)) for position in range(4)],
            self._tensor(layer.attention_gain),
            self._tensor(layer.query_stop),
            self._tensor(layer.value_base),
            None if layer.get("key_offset") is None else self._tensor(layer.key_offset),
            self._tensor(layer.feed_forward_gain),
            torch.tensor(layer.hidden_fraction, device=self.device),
            self.weights.code.query_phases if layer.attention_spiking else 0,
            self._ropes["local_rope" if self.config.local_rotary and self.config.window(number) else "rope"],
            torch.tensor(self.config.window(number) or NO_WINDOW, device=self.device) if any(self.config.windows) else None,
            self._pair(layer.get("query_gain"), layer.get("key_gain")),
            self._pair(layer.get("attention_output_gain"), layer.get("feed_forward_output_gain")),
        )

    def site_tensors(self, index: int) -> SiteTensors:
        """Tensors of crossbar site `index`; who puts others in their place changes this decoder from then on."""
        return self._head_site if index == self.config.head.index else self._layers[index // 4].sites[index % 4]

    def _pair(self, first: np.ndarray | None, second: np.ndarray | None) -> tuple[torch.Tensor, torch.Tensor] | None:
        return None if first is None or second is None else (self._tensor(first), self._tensor(second))

    def new_cache(self, batch: int = 1, length: int = 0) -> KeyValueCache:
        """Empty cache for `batch` sequences, with room for `length` tokens (it grows by itself)."""
        return KeyValueCache(self.config, batch, self.device, length)

    @overload
    def forward(
        self, ids: torch.Tensor, cache: KeyValueCache | None = None, *, slots: Sequence[int] | None = None,
        valid: Sequence[int] | None = None, last_only: bool = False, return_hidden: Literal[False] = False,
    ) -> torch.Tensor: ...  # fmt: skip

    @overload
    def forward(
        self, ids: torch.Tensor, cache: KeyValueCache | None = None, *, slots: Sequence[int] | None = None,
        valid: Sequence[int] | None = None, last_only: bool = False, return_hidden: Literal[True],
    ) -> tuple[torch.Tensor, torch.Tensor]: ...  # fmt: skip

    @torch.no_grad()
    def forward(
        self,
        ids: torch.Tensor,
        cache: KeyValueCache | None = None,
        *,
        slots: Sequence[int] | None = None,
        valid: Sequence[int] | None = None,
        last_only: bool = False,
        return_hidden: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Logits int32 [batch, n or 1, vocab] (fraction formats.logit) of the next n tokens of each sequence.

        ids: int64 [batch, n]; `slots` names the cache sequences that the rows of ids continue (default: all). Of each row the first
        `valid` ids count (default: all; 0 for a sequence that has ended); the rest is padding, whose logits mean nothing and which later
        tokens overwrite in the cache. last_only gives the logits of the last valid token.
        With return_hidden also the residual stream after each layer, int32 [layers, batch, n, hidden].
        Raises SimulationError if the model's context is exceeded or an id is outside the vocabulary.
        """
        batch, n = ids.shape
        kept = _valid_rows(valid, n, self.device)
        hidden, residual = self._hidden(ids, cache, slots, valid, kept, return_hidden)
        if last_only and n > 1:
            last = [n - 1] * batch if valid is None else [max(count - 1, 0) for count in valid]
            hidden = hidden.view(batch, n, -1)[torch.arange(batch), last].contiguous()
            kept = _valid_rows(None if valid is None else [min(count, 1) for count in valid], 1, self.device)
        logits = self._head(hidden, kept).view(batch, -1, self.config.vocab_size)
        return (logits, torch.stack(residual).view(-1, batch, n, self.config.hidden_size)) if return_hidden else logits

    @torch.no_grad()
    def hidden(self, ids: torch.Tensor, cache: KeyValueCache, valid: Sequence[int]) -> torch.Tensor:
        """Residual stream after the last layer, int32 [batch, n, hidden]; arguments and errors as in forward. `head` makes logits of it."""
        batch, n = ids.shape
        return self._hidden(ids, cache, None, valid, _valid_rows(valid, n, self.device), False)[0].view(batch, n, -1)

    @torch.no_grad()
    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits int32 [rows, vocab] of rows of `hidden` int32 [rows, hidden]: for callers that want few of a window's logits."""
        return self._head(hidden.contiguous(), None)

    def compile_windows(self) -> None:
        """On the GPU compile layers for many tokens at once from the first call on: the caller knows that many will come."""
        self._eager_rows = COMPILE_AFTER_ROWS

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int = 64,
        *,
        progress: Progress | None = None,
        on_token: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> list[list[int]]:
        """New tokens of every prompt; options are the fields of generation.GenerationConfig, named as in transformers.

        End-of-sequence ids default to the model's own. `progress` and `on_token` are those of generation.generate.
        """
        options.setdefault("eos_token_ids", self.config.eos_token_ids)
        return generate(self, prompts, GenerationConfig(max_new_tokens=max_new_tokens, **options), progress, on_token)

    def _hidden(
        self,
        ids: torch.Tensor,
        cache: KeyValueCache | None,
        slots: Sequence[int] | None,
        valid: Sequence[int] | None,
        kept: torch.Tensor | None,
        keep: bool,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Residual stream after the last layer, int32 [rows, hidden], and copies after each layer if asked; rows `kept` are counted."""
        batch, n = ids.shape
        self.operations.prepare(batch * n)
        if ids.numel() == 0:
            raise SimulationError("empty prompt: give at least one token")
        if int(ids.min()) < 0 or int(ids.max()) >= self.config.vocab_size:
            raise SimulationError(f"token id outside the vocabulary of {self.config.vocab_size}")
        cache = cache or self.new_cache(batch, n)
        where = list(range(batch)) if slots is None else list(slots)
        growth = [n] * batch if valid is None else list(valid)
        longest = max(cache.lengths[index] + count for index, count in zip(where, growth, strict=True))
        context = self.weights.rope_cos.shape[0]
        if longest > context:
            raise SimulationError(f"{longest} tokens exceed the context of {context}; shorten the prompt or the answer")
        cache.reserve(min(max(cache.lengths[slot] for slot in where) + n, context))
        position = torch.cat([torch.arange(cache.lengths[slot], cache.lengths[slot] + n) for slot in where])
        position = position.clamp(max=context - 1).to(self.device)
        slot = torch.tensor(where).repeat_interleave(n).to(self.device)
        rows = Rows(position, slot, n, where == list(range(cache.slots)))
        r = self._embedded(ids.reshape(-1).to(self.device), position)
        residual = []
        run = self._layer if self.observer is not None else self._run_layer(batch, n)
        for number, layer in enumerate(self._layers):
            r, spikes, attention = run(layer, r, rows, cache.layers[number], 4 * number if self.observer is not None else 0)
            for site, count in enumerate(spikes):
                self.statistics.add_site(4 * number + site, count, kept)
            self.statistics.add_attention(number, attention, position, kept)
            if self.query_observer is not None:
                self.query_observer(number, attention.query)
            if keep:
                residual.append(r.clone())
        for index, new in zip(where, growth, strict=True):
            cache.lengths[index] += new
        self.statistics.tokens += sum(growth)
        return r, residual

    def _embedded(self, ids: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Residual stream int32 [rows, hidden] of tokens int64 [rows] at their positions."""
        shift = self.weights.formats.embedding_shift
        r = self._embedding[ids].int() << shift
        return r if self._positions is None else self.operations.add(r, self._positions[position].int() << shift)

    def _run_layer(self, batch: int, n: int) -> Callable[..., _LayerResult]:
        """_layer, on the GPU compiled for decoding, whose shapes repeat, and for windows once there have been many."""
        if self._compiled_layer is None:
            return self._layer
        if n > 1 and self._eager_rows < COMPILE_AFTER_ROWS:
            self._eager_rows += batch * n
            return self._layer
        return self._compiled_layer

    def _layer(self, layer: _Layer, r: torch.Tensor, rows: Rows, cache: LayerCache, first_site: int) -> _LayerResult:
        """One decoder layer: residual stream, spikes int64 [rows] of its four sites, attention counts."""
        ops, formats, bits = self.operations, self.weights.formats, self.weights.code.probability_bits
        spikes: list[torch.Tensor] = []

        def linear(position: int, x: torch.Tensor) -> torch.Tensor:
            y, count = self._linear(first_site + position, layer.sites[position], x)
            spikes.append(count)
            return y

        qkv = self._head_norms(layer, linear(0, ops.norm(r, layer.attention_gain, self._epsilon, self._norm_shift)))
        attention = ops.attention(
            qkv, layer.query_stop, layer.value_base, layer.rope, rows, cache, formats, layer.query_phases, bits,
            layer.window, self._score_cap, layer.key_offset,
        )  # fmt: skip
        o = self._output_norm(layer, 0, linear(1, attention.output))
        # Of a parallel residual the second norm reads what the first did; the sum may be made in its place afterwards.
        second = ops.norm(r, layer.feed_forward_gain, self._epsilon, self._norm_shift) if self.config.parallel_residual else None
        r = ops.add(r, o)
        if second is None:
            second = ops.norm(r, layer.feed_forward_gain, self._epsilon, self._norm_shift)
        activation = ops.gate if self.config.gated else ops.activate
        hidden = activation(linear(2, second), formats.gate, layer.hidden_fraction, self.config.activation)
        return ops.add(r, self._output_norm(layer, 1, linear(3, hidden))), spikes, attention

    def _head_norms(self, layer: _Layer, qkv: torch.Tensor) -> torch.Tensor:
        """qkv int32 [rows, (heads + 2 kv_heads) * D] with every head of q and k normalised, where the layer has gains for that."""
        if layer.head_gains is None:
            return qkv
        config, shift = self.config, self._gain_shift - self.weights.formats.qkv
        heads = qkv.view(qkv.shape[0], -1, config.head_dim)
        parts = heads[:, : config.heads], heads[:, config.heads : config.heads + config.kv_heads]
        normalised = [
            self.operations.norm(part.reshape(-1, config.head_dim), gain, self._head_epsilon, shift).view(part.shape)
            for part, gain in zip(parts, layer.head_gains, strict=True)
        ]
        return torch.cat((*normalised, heads[:, config.heads + config.kv_heads :]), 1).view(qkv.shape)

    def _output_norm(self, layer: _Layer, branch: int, y: torch.Tensor) -> torch.Tensor:
        """What a branch (0 attention, 1 feed-forward) adds to the residual stream, int32 [rows, hidden]."""
        if layer.output_gains is None:
            return y
        return self.operations.norm(y, layer.output_gains[branch], self._epsilon, self._gain_shift - self.weights.formats.residual)

    def _head(self, r: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        index = self.config.head.index
        logits, spikes = self._linear(index, self._head_site, self.operations.norm(r, self._final_gain, self._epsilon, self._norm_shift))
        self.statistics.add_site(index, spikes, kept)
        return logits if self._logit_cap is None else self.operations.soft_cap(logits, self._logit_cap)

    def _linear(self, index: int, site: SiteTensors, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Crossbar site `index`: outputs and spikes int64 [rows]."""
        coded = self.encode(x, site.stop) if site.spiking else self.operations.encode_dense(x)
        if self.observer is not None:
            self.observer(index, x, coded)
        return self.operations.scale(coded, site), coded.spikes

    def encode(self, x: torch.Tensor, stop: torch.Tensor) -> Coded:
        """Code int32 [rows, inputs] with the network's code and a stop table int32 [inputs]."""
        if self._signed_digit:
            return self.operations.encode(x, stop, self.weights.code.phases)
        # Codes without a kernel of their own run elementwise, by their definition.
        coded = self._code.quantise_torch(x, stop)
        high = (coded.a + 64) >> 7
        planes = torch.stack((high, coded.a - (high << 7))).to(torch.int8)
        return Coded(planes, coded.exponent.int(), coded.spikes.sum(-1))


def _valid_rows(valid: Sequence[int] | None, n: int, device: torch.device) -> torch.Tensor | None:
    """Indices of the rows that count, of n rows a sequence; None for all."""
    if valid is None:
        return None
    rows = [index * n + token for index, count in enumerate(valid) for token in range(count)]
    return torch.tensor(rows, dtype=torch.long).to(device)
