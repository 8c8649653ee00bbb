"""Expected values of a layer's attention engines in a run, in their order (docs/reference/rtl/vector-tile.md, nmllm_attention)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import VectorSpec
from neuromorphic_llm.reference.attention import PROBABILITY_TOP, LayerCache, encode_probabilities, scores, softmax_base2
from neuromorphic_llm.reference.fixed_point import Integers, bit_length
from neuromorphic_llm.reference.rotary import rotate
from neuromorphic_llm.rtl.recorded import Run
from neuromorphic_llm.spikes.code import coded
from neuromorphic_llm.spikes.signed_digit import SignedDigit, signed_digits

ATTENTION_SIGNALS = ("query_spike", "score", "probability_spike", "value_sum")

Words = NDArray[np.int64]
"""[events, 4] as the observer gives them (nmllm_observe_attention)."""


def attention_channels(run: Run, layer: int) -> Iterator[tuple[int, str, NDArray[np.int64], NDArray[np.int32]]]:
    """(engine, signal, tokens, words) of every engine of a layer's vector tile, by the functions of the reference."""
    program = run.program
    weights, config, engines = program.weights, program.weights.config, program.spec.vector.attention_engines
    outputs = run.record.sites[config.site(f"layers.{layer}.qkv").index].output
    assert outputs is not None
    queries = outputs[:, : config.heads * config.head_dim].reshape(len(outputs), config.heads, config.head_dim)
    queries = rotate(queries, weights.rope_cos[run.position], weights.rope_sin[run.position])
    events: dict[tuple[int, str], list[tuple[int, Words]]] = {(e, s): [] for e in range(engines) for s in ATTENTION_SIGNALS}
    for row, (sequence, position) in enumerate(zip(run.sequence.tolist(), run.position.tolist(), strict=True)):
        heads = _Heads(program, queries[row], run.caches[sequence].states[f"layers.{layer}.cache"], layer, position + 1)
        for kv_head in range(config.kv_heads):
            slot, engine = divmod(kv_head, engines)
            for signal, words in zip(ATTENTION_SIGNALS, heads.group(kv_head, program.spec.vector), strict=True):
                words[:, 0] |= slot << 16
                events[engine, signal].append((row, words))
    for (engine, signal), parts in events.items():
        if parts:
            rows = np.repeat([row for row, _ in parts], [len(words) for _, words in parts])
            yield engine, signal, rows.astype(np.int64), np.concatenate([words for _, words in parts]).astype(np.int32)


class _Heads:
    """Attention of one token: all heads."""

    def __init__(self, program: Program, queries: Integers, cache: LayerCache, layer: int, context: int) -> None:
        weights, config = program.weights, program.weights.config
        code, own = weights.code, weights.layers[layer]
        self._size = config.heads // config.kv_heads
        self._by_elements = program.spec.encoder.whole_train
        train = SignedDigit(code.query_phases).encode(queries, own.query_stop)
        self._digits, self._phases = train.digits, train.phases
        keys, exponents = cache.keys[:context].repeat(self._size, axis=1), cache.key_exponent[:context].repeat(self._size, axis=1)
        self._z = scores(coded(train), keys, exponents, weights.formats.qkv)
        u = softmax_base2(self._z)
        self._least = np.clip(bit_length(u.sum(axis=1)) - 1 - code.probability_bits, 0, PROBABILITY_TOP - 1)
        self._probabilities = signed_digits(u, np.zeros(1, np.int64), np.full_like(self._least, PROBABILITY_TOP), self._least)
        p = encode_probabilities(u, code.probability_bits, True).p
        values = cache.values[:context].astype(np.int64) << cache.value_exponent[:context].astype(np.int64)[..., None]
        self._sums = np.einsum("hc,chi->hi", p, values.repeat(self._size, axis=1))

    def group(self, kv_head: int, vector: VectorSpec) -> tuple[Words, Words, Words, Words]:
        """Words of the four signals for the query heads of a key/value head."""
        heads = range(kv_head * self._size, (kv_head + 1) * self._size)
        spikes, sums = [], []
        for number, head in enumerate(heads):
            phase, element = self._query_events(head)
            spikes.append(_columns(number, phase, element, self._train_digits(head)[phase, element] < 0))
            sums.append(_columns(number, np.arange(self._sums.shape[1]), self._sums[head], np.zeros(self._sums.shape[1])))
        return np.concatenate(spikes), self._scored(heads, vector), self._probability_spikes(heads, vector), np.concatenate(sums)

    def _train_digits(self, head: int) -> NDArray[np.int8]:
        """Digits of a query in its own phases, [phases, elements]."""
        own: NDArray[np.int8] = self._digits[-int(self._phases[head]) :, head]
        return own

    def _query_events(self, head: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(phases, elements) of the spikes of a query, as they are coded: phase by phase, or element by element."""
        digits = self._train_digits(head)
        if not self._by_elements:
            phase, element = np.nonzero(digits)
            return phase, element
        element, phase = np.nonzero(digits.T)
        return phase, element

    def _scored(self, heads: range, vector: VectorSpec) -> Words:
        """Scores, block by block of keys, of each head after its last spike there."""
        finish = []  # of a head with spikes: its last element, its set, the step there
        for number, head in enumerate(heads):
            spikes = np.count_nonzero(self._train_digits(head), axis=0)
            if spikes.any():
                last = int(np.flatnonzero(spikes)[-1])
                finish.append((last, number // vector.head_lanes, int(spikes[last]), number))
        scored = [np.zeros((0, 4), np.int64)]
        for first in range(0, self._z.shape[1], vector.key_lanes):
            for *_, number in sorted(finish):
                z = self._z[heads[number], first : first + vector.key_lanes]
                scored.append(_columns(number, first + np.arange(len(z)), z, np.zeros(len(z))))
        return np.concatenate(scored)

    def _probability_spikes(self, heads: range, vector: VectorSpec) -> Words:
        """Spikes of the probabilities: set by set of heads, in it word by word of keys, in that head by head."""
        words, order = [], []
        for number, head in enumerate(heads):
            phases = self._probabilities[:, head]
            key, step = np.nonzero(phases.T)
            k = int(self._least[head]) + len(phases) - 1 - step
            words.append(_columns(number, key, k, phases[step, key] < 0))
            sets = np.full_like(key, number // vector.head_lanes)
            order.append(np.stack([sets, key // vector.softmax_lanes, np.full_like(key, number)]))
        rows = np.lexsort(np.concatenate(order, axis=1)[::-1])
        ordered: Words = np.concatenate(words)[rows]
        return ordered


def _columns(number: int, *columns: NDArray[np.generic]) -> Words:
    words = np.full((len(columns[0]), 4), number, np.int64)
    for place, column in enumerate(columns):
        words[:, place + 1] = column
    return words
