"""Greedy generation on the simulated chip: tokens, cycles and counts of one prompt."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.generation.choice import check_length, largest
from neuromorphic_llm.generation.generate import decode
from neuromorphic_llm.kernel_time import kernel_time
from neuromorphic_llm.simulation.counters import Counters, count
from neuromorphic_llm.simulation.engine import EventSequences
from neuromorphic_llm.simulation.events import EventDecoder
from neuromorphic_llm.simulation.timing import TimingResult, simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace


@dataclass(frozen=True)
class SimulationResult:
    """One generation. The last generated token is not fed back, so a run of n tokens decodes n - 1 after its prefill."""

    token_ids: tuple[int, ...]  # generated, an end-of-sequence token included
    clock_hz: float
    trace: ActivityTrace
    observed: ActivityTrace  # the trace, with the logits of the observed tokens
    timing: TimingResult
    prefill: Counters
    decode: Counters | None  # none if one token was generated
    event_s: float  # wall time of event execution, s
    decode_event_s: float  # of this the decoded tokens, s
    timing_s: float  # wall time of the timing simulation, s
    compile_s: float  # wall time of compiling and loading kernels, which is no part of the times above, s

    @property
    def cycles_total(self) -> int:
        """Cycles from the start to the end of the last token."""
        return self.timing.cycles_total

    @property
    def prefill_cycles(self) -> int:
        """Cycles until the first generated token."""
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
        """Tokens processed per second of wall time: prefill, decode and timing simulation, but not the compilation of kernels."""
        return self.trace.tokens / (self.event_s + self.timing_s)

    @property
    def synaptic_operations_per_s(self) -> float:
        """Synaptic operations of the linear layers per second of event execution."""
        total = self.prefill.synaptic_operations + (0 if self.decode is None else self.decode.synaptic_operations)
        return total / self.event_s


def check_request(program: Program, prompt_ids: Sequence[int], max_new_tokens: int) -> None:
    """UsageError for a prompt or length that cannot be run, SimulationError for one beyond the program's context."""
    vocabulary = program.weights.config.vocab_size
    if not len(prompt_ids):
        raise UsageError("the prompt is empty; give at least one token")
    check_length(max_new_tokens)
    if min(prompt_ids) < 0 or max(prompt_ids) >= vocabulary:
        raise UsageError(f"token ids must lie in 0..{vocabulary - 1}, got {min(prompt_ids)}..{max(prompt_ids)}")
    longest = program.max_context + 1 - max_new_tokens  # the last token is not fed back
    if len(prompt_ids) > longest:
        advice = f"use at most {longest} prompt tokens or ask for fewer new ones" if longest > 0 else "ask for fewer new ones"
        raise SimulationError(
            f"a prompt of {len(prompt_ids)} tokens and {max_new_tokens} new ones exceed the program's context of {program.max_context}; "
            f"{advice}"
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
    """Generate greedily on the simulated chip, bit- and cycle-exact.

    Ends after `max_new_tokens` or with a token of `stop` (default: the model's end-of-sequence tokens). `progress` is called with 1 after
    every token processed, `on_token` with every new token as soon as it is known. Results do not depend on `threads`, nor (but for
    `observed`) on `observe`: positions of prompt tokens whose logits are computed too, so that they can be taken for decoded ones.
    Raises as check_request does.
    """
    check_request(program, prompt_ids, max_new_tokens)
    ends = set(program.weights.config.eos_token_ids if stop is None else stop)
    generated: list[int] = []
    with kernel_time() as compiled:

        def now() -> float:
            return time.perf_counter() - compiled()

        decoder = EventDecoder(program, threads=threads)
        sequences = EventSequences([decoder], progress, observe)
        begin = prefilled = now()
        for ((_, token),) in decode(sequences, [prompt_ids], largest, max_new_tokens, ends):
            if not generated:
                prefilled = now()
            generated.append(token)
            if on_token is not None:
                on_token(token)
        executed = now()
        observed = decoder.trace(len(prompt_ids))
        extra = [row for row in observe if row < len(prompt_ids) - 1]
        trace = observed.without_logits(extra) if extra else observed
        timing = simulate_timing(program, trace)
        timed = now()
    prompt = len(prompt_ids)
    return SimulationResult(
        token_ids=tuple(generated),
        clock_hz=program.spec.clock_hz,
        trace=trace,
        observed=observed,
        timing=timing,
        prefill=count(program, trace, timing, slice(0, prompt)),
        decode=count(program, trace, timing, slice(prompt, None)) if trace.tokens > prompt else None,
        event_s=executed - begin,
        decode_event_s=executed - prefilled,
        timing_s=timed - executed,
        compile_s=compiled(),
    )
