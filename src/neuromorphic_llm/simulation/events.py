"""Event-driven execution of a program, token by token: what the chip computes, bit for bit (docs/reference/numerics.md).

Every linear layer, the attention products and the head work on spikes: the work is proportional to their number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.arithmetic import vectors
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.reference.fixed_point import SIG
from neuromorphic_llm.reference.norm import epsilon_term
from neuromorphic_llm.reference.weights import LayerWeights, LinearWeights
from neuromorphic_llm.simulation import attention_kernels, crossbar_kernels, encoder_kernels
from neuromorphic_llm.simulation.trace import ActivityTrace

_NO_BIAS = np.zeros(0, np.int32)
_NO_OFFSET = np.zeros((0, 0), np.int32)


@dataclass(frozen=True)
class SiteRecord:
    """One crossbar site's work on one token."""

    digits: NDArray[np.int8]  # [phases, inputs]
    exponent: int  # k_min
    accumulators: NDArray[np.int32]  # [outputs]


@dataclass
class TokenRecord:
    """Everything that parity tests compare, of one token."""

    sites: list[SiteRecord] = field(default_factory=list)
    hidden: list[NDArray[np.int32]] = field(default_factory=list)  # residual stream after each layer


@dataclass
class _TraceRow:
    context: int
    logits_wanted: bool
    phases: NDArray[np.int32]  # [sites]
    events: NDArray[np.int32]  # [sites, max_phases, max_row_blocks]
    attention: NDArray[np.int32]  # [5, layers, heads]


class EventDecoder:
    """Runs a Program on one sequence and keeps its activity.

    `threads` is the number of threads for the large sites (default: all of the machine); results do not depend on it.
    With `record` every token's spikes and accumulators are kept in `records`. SimulationError if a site does not spike.
    """

    def __init__(self, program: Program, *, threads: int | None = None, record: bool = False) -> None:
        self.program = program
        weights, config = program.weights, program.weights.config
        for site in range(len(config.sites)):
            if not weights.site(site).spiking:
                raise SimulationError(
                    f"{config.sites[site].name} does not spike and the chip runs spiking sites only; use the functional backend"
                )
        available = int(numba.config.NUMBA_NUM_THREADS)
        if threads is not None and not 1 <= threads <= available:
            raise UsageError(f"threads must lie in 1..{available} on this machine, got {threads}")
        self.threads = threads or available
        self.position = 0
        self.records: list[TokenRecord] | None = [] if record else None
        self._rows: list[_TraceRow] = []
        self._code = encoder_kernels.CODES[weights.code.name]
        self._horner_shift = 0 if weights.code.name == "rate" else 1
        self._epsilon = epsilon_term(config, weights.formats)
        self._norm_shift = 24 + weights.formats.gain_fraction - weights.formats.norm
        self._row_blocks = max(program.row_blocks(site) for site in range(len(config.sites)))
        self._allocate()

    def _allocate(self) -> None:
        config, phases, context = self.program.weights.config, self.program.weights.code.phases, self.program.max_context
        widest = max(config.sites[site].shape[0] for site in range(len(config.sites)))
        self._digits = {n: np.zeros((phases, n), np.int8) for n in {config.sites[site].shape[0] for site in range(len(config.sites))}}
        self._events = np.empty(phases * widest + 1, np.int32)
        self._bounds = np.empty((phases, 3), np.int64)
        heads = (config.layers, config.kv_heads)
        self._keys = np.zeros((*heads, config.head_dim, context), np.int8)
        self._values = np.zeros((*heads, context, config.head_dim), np.int8)
        self._key_exponents = np.zeros((*heads, context), np.int32)
        self._value_exponents = np.zeros((*heads, context), np.int32)

    def step(self, token: int, *, logits_wanted: bool = True) -> NDArray[np.int32] | None:
        """Process the next token; logits int32 [vocab] if wanted.

        UsageError if the token is outside the vocabulary, SimulationError if the context is full.
        """
        program = self.program
        weights, config, formats = program.weights, program.weights.config, program.weights.formats
        if not 0 <= token < config.vocab_size:
            raise UsageError(f"token ids must lie in 0..{config.vocab_size - 1}, got {token}")
        if self.position >= program.max_context:
            raise SimulationError(f"the context of {program.max_context} tokens is full; shorten the prompt or ask for fewer tokens")
        self._row = _TraceRow(
            self.position + 1,
            logits_wanted,
            np.zeros(len(config.sites), np.int32),
            np.zeros((len(config.sites), weights.code.phases, self._row_blocks), np.int32),
            np.zeros((5, config.layers, config.heads), np.int32),
        )
        if self.records is not None:
            self.records.append(TokenRecord())
        numba.set_num_threads(self.threads)
        residual = weights.embedding[token].astype(np.int32) << formats.embedding_shift
        for index, layer in enumerate(weights.layers):
            self._attention(index, layer, residual)
            self._feed_forward(index, layer, residual)
            if self.records is not None:
                self.records[-1].hidden.append(residual.copy())
        logits = None
        if logits_wanted:
            logits = self._linear(config.head.index, weights.head, self._norm(residual, weights.final_gain))
        self._rows.append(self._row)
        self.position += 1
        return logits

    def _norm(self, residual: NDArray[np.int32], gain: NDArray[np.int32]) -> NDArray[np.int32]:
        values = np.empty_like(residual)
        vectors.rms_norm(residual, gain, self._epsilon, self._norm_shift, values)
        return values

    def _attention(self, index: int, layer: LayerWeights, residual: NDArray[np.int32]) -> None:
        weights, config, formats = self.program.weights, self.program.weights.config, self.program.weights.formats
        qkv = self._linear(4 * index, layer.qkv, self._norm(residual, layer.attention_gain))
        heads = qkv.reshape(-1, config.head_dim)
        rotated = heads[: config.heads + config.kv_heads]
        vectors.rotate(rotated, weights.rope_cos[self.position], weights.rope_sin[self.position])
        cache = (self._keys[index], self._values[index], self._key_exponents[index], self._value_exponents[index])
        keys, values = rotated[config.heads :], heads[config.heads + config.kv_heads :]
        offset = _NO_OFFSET if layer.get("key_offset") is None else layer.key_offset
        attention_kernels.write_key_value(keys, values, layer.value_base, offset, self.position, *cache)
        output = np.empty((config.heads, config.head_dim), np.int32)
        attention_kernels.attend(
            rotated[: config.heads],
            layer.query_stop,
            layer.value_base,
            *cache,
            self.position + 1,
            (weights.code.query_phases, weights.code.probability_bits, formats.qkv, formats.attention),
            output,
            self._row.attention[:, index],
        )
        vectors.add(residual, self._linear(4 * index + 1, layer.output, output.reshape(-1)))

    def _feed_forward(self, index: int, layer: LayerWeights, residual: NDArray[np.int32]) -> None:
        gate_up = self._linear(4 * index + 2, layer.gate_up, self._norm(residual, layer.feed_forward_gain))
        hidden = np.empty(len(gate_up) // 2, np.int32)
        vectors.gate(gate_up, SIG, self.program.weights.formats.gate, layer.hidden_fraction, hidden)
        vectors.add(residual, self._linear(4 * index + 3, layer.down, hidden))

    def _linear(self, site: int, linear: LinearWeights, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """Code `values`, let every spike add its row of weights, scale: one crossbar site."""
        digits = self._digits[len(values)]
        phases, exponent = encoder_kernels.encode(values, linear.stop, self._code, len(digits), digits)
        events = self._row.events[site]
        spikes = encoder_kernels.collect_events(digits, phases, self.program.spec.synapse.rows, self._events, self._bounds, events)
        self._row.phases[site] = phases
        weights_t = self.program.weights_t[site]
        total = np.empty(weights_t.shape[1], np.int32)
        parallel = self.threads > 1 and spikes * len(total) >= crossbar_kernels.PARALLEL_GRAIN
        run = crossbar_kernels.accumulate_parallel if parallel else crossbar_kernels.accumulate
        run(weights_t, self._events, self._bounds, phases, self._horner_shift, total)
        result = np.empty_like(total)
        bias = _NO_BIAS if linear.bias is None else linear.bias
        crossbar_kernels.scale(total, linear.multiplier, linear.shift - exponent, bias, result)
        if self.records is not None:
            self.records[-1].sites.append(SiteRecord(digits[:phases].copy(), exponent, total))
        return result

    def trace(self, prompt_tokens: int) -> ActivityTrace:
        """The activity of all tokens processed so far, the first `prompt_tokens` of them as prefill."""
        rows = self._rows
        attention = np.stack([row.attention for row in rows])
        return ActivityTrace(
            prompt_tokens=prompt_tokens,
            context=np.array([row.context for row in rows], np.int32),
            logits_wanted=np.array([row.logits_wanted for row in rows]),
            phases=np.stack([row.phases for row in rows]),
            events=np.stack([row.events for row in rows]),
            query_phases=attention[:, 0],
            query_spikes=attention[:, 1],
            key_columns=attention[:, 2],
            probability_spikes=attention[:, 3],
            probability_keys=attention[:, 4],
        )
