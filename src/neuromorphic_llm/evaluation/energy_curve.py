"""Energy of a decoded token over the visible tokens and over the sequences in flight, of the chip and its rivals (energy.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.energy import EnergyAccount, account, chip_memories, rival_accounts
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.simulation.counters import Counters, count
from neuromorphic_llm.simulation.events import EventDecoder
from neuromorphic_llm.simulation.latency import decode_latency
from neuromorphic_llm.simulation.run import SimulationResult
from neuromorphic_llm.simulation.timing import simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace, joined

AROUND = 2
"""A point is the mean over the decoded tokens from so many before its context to so many after it."""

SHORTEST = AROUND + 2


@dataclass(frozen=True)
class EnergyPoint:
    """Energy of a decoded token with `context` visible tokens and `sequences` in flight, J: chip (mean over `tokens`), and rivals there."""

    context: int
    sequences: int
    tokens: int
    cycles_per_token: float
    chip: EnergyAccount
    rivals: Mapping[str, EnergyAccount]

    @property
    def tokens_per_s(self) -> dict[str, float]:
        """Decoded tokens per second of the chip, simulated, and of the rivals at best."""
        return {name: each.tokens / each.seconds for name, each in {"chip": self.chip, **self.rivals}.items()}

    def to_json(self) -> dict[str, Any]:
        """JSON object with the bounds of every energy."""
        accounts = {"chip": self.chip, **self.rivals}
        energies = {f"{name}_energy_j_per_token": each.chip_energy_j_per_token.to_json() for name, each in accounts.items()}
        head = {"context": self.context, "sequences": self.sequences, "tokens": self.tokens, "cycles_per_token": self.cycles_per_token}
        return {**head, **energies, "kind": "estimated"}


def doubling_contexts(prompt_tokens: int) -> tuple[int, ...]:
    """Powers of two from 8 whose points lie within a prompt."""
    return tuple(2**power for power in range(3, 24) if 2**power + AROUND < prompt_tokens)


def observed_rows(contexts: Sequence[int]) -> frozenset[int]:
    """Positions whose logits the points need, that of the token before each included."""
    return frozenset(row for context in contexts for row in range(context - AROUND - 2, context + AROUND))


def counted_point(program: Program, counters: Counters, context: int, sequences: int = 1) -> EnergyPoint:
    """The point of counted decoded tokens whose mean context this is, of so many sequences in flight."""
    spec, config = program.spec, program.weights.config
    seconds = counters.cycles / spec.clock_hz
    chip = account(counters, spec, chip_memories(program), seconds, tokens=counters.tokens)
    rivals = rival_accounts(config, context, spec, sequences)
    return EnergyPoint(context, sequences, counters.tokens, counters.cycles / counters.tokens, chip, rivals)


def energy_over_context(program: Program, trace: ActivityTrace, contexts: Sequence[int], sequences: int = 1) -> list[EnergyPoint]:
    """A point for each context from a trace of one sequence in which the logits of observed_rows(contexts) were wanted.

    Around each context the tokens are timed as decoded ones, one after another, with so many alike sequences in flight: what the trace
    says of a token does not depend on whether it was given or generated.
    """
    points = []
    for context in contexts:
        part = joined([trace.decoding(slice(context - AROUND - 1, context + AROUND))] * sequences)
        counters = count(program, part, simulate_timing(program, part), slice(sequences, None))
        points.append(counted_point(program, counters, context, sequences))
    return points


def energy_over_sequences(program: Program, trace: ActivityTrace, loads: Sequence[int]) -> list[EnergyPoint]:
    """A point for each number of sequences in flight, of the first ones of a trace whose sequences all decode as many tokens."""
    points = []
    for sequences in loads:
        part = trace.first_sequences(sequences)
        decoded = slice(part.prompt_tokens, part.tokens)
        counters = count(program, part, simulate_timing(program, part), decoded)
        points.append(counted_point(program, counters, round(float(part.context[decoded].mean())), sequences))
    return points


def shifted_sequences(trace: ActivityTrace, context: int, tokens: int, sequences: int) -> ActivityTrace:
    """Sequences in flight that decode so many tokens of one text around a context, each a place later than the one before.

    Their mean context is as near to `context` as whole places allow. The logits of shifted_rows must have been wanted in the trace.
    """
    begins = shifted_rows(context, tokens, sequences)[1 : sequences + 1]
    return joined([trace.decoding(slice(begin, begin + tokens)) for begin in begins])


def shifted_rows(context: int, tokens: int, sequences: int) -> range:
    """Positions that shifted_sequences decodes, and the one before them."""
    first = context - 1 - (tokens + sequences - 2) // 2
    return range(first - 1, first + tokens + sequences - 1)


def text_trace(
    program: Program,
    ids: Sequence[int],
    observed: Collection[int],
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ActivityTrace:
    """Activity of the tokens of a text, up to the last observed position; `progress` is called with 1 after each of them."""
    decoder = EventDecoder(program, threads=threads)
    for position, token in enumerate(ids[: max(observed) + 1]):
        decoder.step(token, logits_wanted=position in observed)
        if progress:
            progress(1)
    return decoder.trace(1)


def text_over_context(
    program: Program, ids: Sequence[int], contexts: Sequence[int], progress: Callable[[int], None] | None = None
) -> list[EnergyPoint]:
    """The points for the tokens of a text, decoded by the event execution from an empty cache. UsageError for contexts that it lacks.

    progress is called with 1 after every token.
    """
    longest = min(len(ids), program.max_context) - AROUND
    for context in contexts:
        if not SHORTEST <= context <= longest:
            raise UsageError(f"a context must lie in {SHORTEST}..{longest} for this text and program, got {context}")
    return energy_over_context(program, text_trace(program, ids, observed_rows(contexts), progress=progress), contexts)


def decoding_figures(program: Program, result: SimulationResult, prompt_tokens: int, mean_context: int) -> dict[str, Any]:
    """Energies over the context and the latency of the decoded tokens, of a run that observed observed_rows(doubling_contexts(prompt)).

    All of its sequences have the same prompt.
    """
    sequences = len(result.generated)
    points = energy_over_context(program, result.observed, doubling_contexts(prompt_tokens), sequences)
    if result.decode is None:
        reason = "nothing was decoded, and prompt tokens run through the stages side by side"
        return {"energy_over_context": [point.to_json() for point in points], "latency": None, "latency_reason": reason}
    points.append(counted_point(program, result.decode, mean_context, sequences))
    points.sort(key=lambda point: point.context)
    start = result.trace.prompt_tokens
    latency = decode_latency(program, result.trace, result.timing, slice(start, start + result.decode.tokens))
    return {"energy_over_context": [point.to_json() for point in points], "latency": latency.to_json()}
