"""Expected values of a layer's attention engines in a run, in their order (docs/reference/rtl/vector-tile.md, nmllm_attention)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
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
            for signal, words in zip(ATTENTION_SIGNALS, heads.group(kv_head, program.spec.vector.key_lanes), strict=True):
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

    def group(self, kv_head: int, key_lanes: int) -> tuple[Words, Words, Words, Words]:
        """Words of the four signals for the query heads of a key/value head."""
        heads = range(kv_head * self._size, (kv_head + 1) * self._size)
        spikes, probabilities, sums = [], [], []
        last_spike = {}  # element of each head's last spike of a block: spikes are added element by element, heads inside an element
        for number, head in enumerate(heads):
            digits = self._digits[-int(self._phases[head]) :, head]
            # Coded phase by phase, or element by element.
            element, phase = np.nonzero(digits.T) if self._by_elements else np.nonzero(digits)[::-1]
            spikes.append(_columns(number, phase, element, digits[phase, element] < 0))
            if len(element):
                last_spike[number] = int(element.max())
            coded_phases = self._probabilities[:, head]
            key, step = np.nonzero(coded_phases.T)
            k = int(self._least[head]) + len(coded_phases) - 1 - step
            probabilities.append(_columns(number, key, k, coded_phases[step, key] < 0))
            sums.append(_columns(number, np.arange(self._sums.shape[1]), self._sums[head], np.zeros(self._sums.shape[1])))
        finish = sorted(last_spike, key=lambda number: (last_spike[number], number))
        scored = []
        for first in range(0, self._z.shape[1], key_lanes):
            for number in finish:
                z = self._z[heads[number], first : first + key_lanes]
                scored.append(_columns(number, first + np.arange(len(z)), z, np.zeros(len(z))))
        return (
            np.concatenate(spikes),
            np.concatenate([*scored, np.zeros((0, 4), np.int64)]),
            np.concatenate(probabilities),
            np.concatenate(sums),
        )


def _columns(number: int, *columns: NDArray[np.generic]) -> Words:
    words = np.full((len(columns[0]), 4), number, np.int64)
    for place, column in enumerate(columns):
        words[:, place + 1] = column
    return words
