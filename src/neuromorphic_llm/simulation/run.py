"""Greedy generation on the simulated chip: tokens, cycles and counts of one prompt, or of several in flight."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from neuromorphic_llm.chip.program import Program, sequence_part, stored_tokens
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.generation.choice import check_length, largest
from neuromorphic_llm.generation.generate import decode
from neuromorphic_llm.kernel_time import kernel_time
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.simulation.counters import Counters, count
from neuromorphic_llm.simulation.engine import EventSequences
from neuromorphic_llm.simulation.events import EventDecoder
from neuromorphic_llm.simulation.timing import TimingResult, simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace, joined


@dataclass(frozen=True)
class SimulationResult:
    """Generations of one or more sequences in flight. The last token of each is not fed back, so n tokens need n - 1 decoded ones."""

    generated: tuple[tuple[int, ...], ...]  # by each sequence, an end-of-sequence token included
    clock_hz: float
    trace: ActivityTrace
    observed: ActivityTrace  # of the first sequence alone, with the logits of the observed tokens
    timing: TimingResult
    prefill: Counters
    decode: Counters | None  # of the steady window; none if a sequence ended with its first token
    tail: Counters | None  # decoded behind the window; none if all sequences end with it
    event_s: float  # wall time of event execution, s
    decode_event_s: float  # of this the decoded tokens, s
    timing_s: float  # wall time of the timing simulation, s
    compile_s: float  # wall time of compiling and loading kernels, which is no part of the times above, s

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Tokens that the first sequence generated."""
        return self.generated[0]

    @property
    def cycles_total(self) -> int:
        """Cycles from the start to the end of the last token."""
        return self.timing.cycles_total

    @property
    def prefill_cycles(self) -> int:
        """Cycles until every sequence has its first generated token."""
        return self.timing.prefill_cycles

    @property
    def cycles_per_token(self) -> float | None:
        """Mean over the decoded tokens; None if there are none."""
        return None if self.decode is None else self.decode.cycles / self.decode.tokens

    @property
    def chip_tokens_per_s(self) -> float | None:
        """Decoded tokens per second of chip time; None if there are none."""
        return None if self.cycles_per_token is None else self.clock_hz / self.cycles_per_token

    @property
    def wall_tokens_per_s(self) -> float:
        """Tokens of all sequences per second of wall time: prefill, decode and timing simulation, but not the compilation of kernels."""
        return self.trace.tokens / (self.event_s + self.timing_s)

    @property
    def synaptic_operations_per_s(self) -> float:
        """Synaptic operations of the linear layers per second of event execution."""
        parts = (self.prefill, self.decode, self.tail)
        return sum(part.synaptic_operations for part in parts if part is not None) / self.event_s


def check_request(program: Program, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """UsageError for prompts or a length that cannot be run, SimulationError where they are beyond the context of a sequence."""
    vocabulary = program.weights.config.vocab_size
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise UsageError("the prompt is empty; give at least one token")
    check_length(max_new_tokens)
    for prompt in prompts:
        if min(prompt) < 0 or max(prompt) >= vocabulary:
            raise UsageError(f"token ids must lie in 0..{vocabulary - 1}, got {min(prompt)}..{max(prompt)}")
    check_sequences(program.spec, program.weights.config, len(prompts))
    longest = program.sequence_context(len(prompts)) + 1 - max_new_tokens  # the last token is not fed back
    for number, prompt in enumerate(prompts):
        if len(prompt) > longest:
            raise SimulationError(_too_long(program, len(prompts), number, len(prompt), max_new_tokens))


def check_sequences(spec: ChipSpec, config: DecoderConfig, sequences: int) -> None:
    """SimulationError where the key/value memories are too small for so many sequences."""
    if not sequence_part(spec, config, sequences):
        stored, lanes = stored_tokens(spec, config), spec.vector.key_lanes
        most = max(stored // lanes, 1)
        raise SimulationError(
            f"{sequences} sequences do not fit a key/value memory of chip {spec.name}, which holds {stored} tokens in parts of {lanes} or "
            f"more; run at most {most} {'sequence' if most == 1 else 'sequences'}, or raise vector.kv_bytes_per_engine"
        )


def _too_long(program: Program, sequences: int, number: int, prompt: int, max_new_tokens: int) -> str:
    """Message for a prompt of so many tokens that exceeds the context with its new tokens."""
    context = program.sequence_context(sequences)
    longest = context + 1 - max_new_tokens
    advice = f"use at most {longest} prompt tokens or ask for fewer new ones" if longest > 0 else "ask for fewer new ones"
    if sequences == 1:
        return f"a prompt of {prompt} tokens and {max_new_tokens} new ones exceed the program's context of {context}; {advice}"
    return (
        f"the prompt of sequence {number}, {prompt} tokens, and {max_new_tokens} new ones exceed the context of {context} that each of "
        f"{sequences} sequences has; {advice}, run fewer sequences, or raise vector.kv_bytes_per_engine of the chip"
    )


def simulate(
    program: Program,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    *,
    stop: Sequence[int] | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
    on_token: Callable[[int], None] | None = None,
    observe: Collection[int] = (),
) -> SimulationResult:
    """Generate greedily on the simulated chip, one sequence; `on_token` is called with every new token. As simulate_sequences."""
    told = None if on_token is None else lambda _, token: on_token(token)
    return simulate_sequences(
        program, [prompt_ids], max_new_tokens, stop=stop, threads=threads, progress=progress, on_token=told, observe=observe
    )


def simulate_sequences(
    program: Program,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    stop: Sequence[int] | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
    on_token: Callable[[int, int], None] | None = None,
    observe: Collection[int] = (),
) -> SimulationResult:
    """Generate greedily on the simulated chip, bit- and cycle-exact, with a sequence in flight for each prompt.

    Each ends after `max_new_tokens` or with a token of `stop` (default: the model's end-of-sequence tokens). Equal prompts are executed
    once. `progress` is called with 1 after every token executed, `on_token` with (number of the distinct prompt, new token) as soon as it
    is known. Results do not depend on `threads`, nor (but for `observed`) on `observe`: positions of prompt tokens whose logits are
    computed too, so that they can be taken for decoded ones. Raises as check_request does.
    """
    check_request(program, prompts, max_new_tokens)
    ends = set(program.weights.config.eos_token_ids if stop is None else stop)
    distinct = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
    places = [distinct.index(tuple(prompt)) for prompt in prompts]
    with kernel_time() as compiled:

        def clock() -> float:
            return time.perf_counter() - compiled()

        decoders = [EventDecoder(program, threads=threads) for _ in distinct]
        began = clock()
        steps = decode(EventSequences(decoders, progress, observe), distinct, largest, max_new_tokens, ends)
        generated, prefilled = _generated(steps, len(distinct), on_token, clock)
        executed = clock()
        observed = [decoder.trace(len(prompt)) for decoder, prompt in zip(decoders, distinct, strict=True)]
        alone = [_without_observed(trace, observe) for trace in observed]
        trace = joined([alone[place] for place in places])
        timing = simulate_timing(program, trace)
        timed = clock()
    tokens = tuple(generated[place] for place in places)
    start = trace.prompt_tokens
    end = start + len(prompts) * (min(map(len, tokens)) - 1)
    prefill, window, tail = (slice(*bounds) for bounds in ((0, start), (start, end), (end, trace.tokens)))
    return SimulationResult(
        generated=tokens,
        clock_hz=program.spec.clock_hz,
        trace=trace,
        observed=observed[0],
        timing=timing,
        prefill=count(program, trace, timing, prefill),
        decode=count(program, trace, timing, window) if end > start else None,
        tail=count(program, trace, timing, tail) if end < trace.tokens else None,
        event_s=executed - began,
        decode_event_s=executed - prefilled,
        timing_s=timed - executed,
        compile_s=compiled(),
    )


def _generated(
    steps: Iterable[list[tuple[int, int]]], prompts: int, on_token: Callable[[int, int], None] | None, clock: Callable[[], float]
) -> tuple[list[tuple[int, ...]], float]:
    """Tokens of each prompt, and the time on the clock when all prompts were read."""
    generated: list[list[int]] = [[] for _ in range(prompts)]
    prefilled = clock()
    for number, step in enumerate(steps):
        if number == 0:
            prefilled = clock()
        for index, token in step:
            generated[index].append(token)
            if on_token is not None:
                on_token(index, token)
    return [tuple(tokens) for tokens in generated], prefilled


def _without_observed(trace: ActivityTrace, observe: Collection[int]) -> ActivityTrace:
    """The trace as if only the logits of the last prompt token and the decoded ones had been wanted."""
    extra = [row for row in observe if row < trace.prompt_tokens - 1]
    return trace.without_logits(extra) if extra else trace
