"""A run with all of its events: values by the integer reference, cycles by the timing simulation (docs/reference/rtl/verification.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.generation.choice import largest
from neuromorphic_llm.generation.generate import decode
from neuromorphic_llm.reference.decoder import IntegerDecoder, Record
from neuromorphic_llm.reference.interpreter import Cache, SiteRecord
from neuromorphic_llm.simulation.engine import EventSequences
from neuromorphic_llm.simulation.events import EventDecoder, TokenRecord
from neuromorphic_llm.simulation.run import check_request
from neuromorphic_llm.simulation.timing import TimingResult, simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace, joined
from neuromorphic_llm.spikes.code import SpikeTrain, coded


@dataclass(frozen=True)
class RecordedRun:
    """Generations of one or more sequences in flight; rows are tokens that the chip works on, in the order in which the host takes them.

    The last token of a sequence is not fed back.
    """

    program: Program
    prompts: tuple[tuple[int, ...], ...]
    generated: tuple[tuple[int, ...], ...]  # by each sequence
    trace: ActivityTrace
    timing: TimingResult
    record: Record  # of the integer reference, in full, by rows
    caches: tuple[Cache, ...]  # of each sequence
    flits: NDArray[np.int64]  # rows of timing_tables.FlitLog, every injection and arrival

    @property
    def sequence(self) -> NDArray[np.int64]:
        """Sequence of every row."""
        return self.trace.sequence.astype(np.int64)

    @property
    def position(self) -> NDArray[np.int64]:
        """Position of every row in its sequence."""
        return self.trace.context.astype(np.int64) - 1

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token of every row."""
        return self._tokens(self.sequence, self.position)

    @property
    def chosen(self) -> tuple[int, ...]:
        """The token that follows every row whose logits are wanted."""
        wanted = self.logits_wanted
        return self._tokens(self.sequence[wanted], self.position[wanted] + 1)

    @property
    def logits_wanted(self) -> NDArray[np.bool_]:
        """Flag of every row: are its logits wanted?"""
        return self.trace.logits_wanted

    @property
    def token_end_cycle(self) -> NDArray[np.int64]:
        """Cycle in which every row ends."""
        return self.timing.token_end_cycle

    def _tokens(self, sequences: NDArray[np.int64], positions: NDArray[np.int64]) -> tuple[int, ...]:
        texts = [(*prompt, *tokens) for prompt, tokens in zip(self.prompts, self.generated, strict=True)]
        return tuple(texts[sequence][position] for sequence, position in zip(sequences.tolist(), positions.tolist(), strict=True))


def record_run(
    program: Program,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop: Collection[int],
    progress: Callable[[int], None] | None = None,
) -> RecordedRun:
    """Generate greedily as simulate_sequences, and compare the event simulation with the reference.

    Raises as check_request does, and SimulationError where they differ. `progress` is called with 1 after every token processed.
    """
    check_request(program, prompts, max_new_tokens)
    decoders = [EventDecoder(program, record=True) for _ in prompts]
    generated: list[list[int]] = [[] for _ in prompts]
    for step in decode(EventSequences(decoders, progress), prompts, largest, max_new_tokens, stop):
        for number, token in step:
            generated[number].append(token)
    records, caches = [], []
    for decoder, prompt, tokens in zip(decoders, prompts, generated, strict=True):
        record, cache = _compared(program, decoder, prompt, tokens)
        records.append(record)
        caches.append(cache)
    trace = joined([decoder.trace(len(prompt)) for decoder, prompt in zip(decoders, prompts, strict=True)])
    flits: list[NDArray[np.int64]] = []
    timing = simulate_timing(program, trace, flits)
    begins = np.cumsum([0, *(record.tokens for record in records)])
    together = _joined(records, begins[trace.sequence] + trace.context.astype(np.int64) - 1)
    told = tuple(map(tuple, prompts)), tuple(map(tuple, generated))
    return RecordedRun(program, *told, trace, timing, together, tuple(caches), np.concatenate(flits))


def _compared(program: Program, decoder: EventDecoder, prompt: Sequence[int], generated: Sequence[int]) -> tuple[Record, Cache]:
    """Record and cache of the integer reference for one sequence; SimulationError unless the event simulation did the same."""
    reference = IntegerDecoder(program.weights)
    cache = reference.new_cache()
    result = reference.step([*prompt, *generated[:-1]], cache, full=True)
    if list(generated) != result.logits[len(prompt) - 1 :].argmax(axis=1).tolist():
        raise SimulationError("the event simulation and the integer reference choose other tokens; run the tests of the simulator")
    assert decoder.records is not None
    _check(program, decoder.records, result.record)
    return result.record, cache


def _joined(records: Sequence[Record], rows: NDArray[np.int64]) -> Record:
    """Record with the tokens `rows` of several full records, one behind another."""
    sites = tuple(_joined_site(parts, rows) for parts in zip(*(record.sites for record in records), strict=True))
    hidden = tuple(np.concatenate(parts)[rows] for parts in zip(*(record.hidden for record in records), strict=True))
    return Record(len(rows), 0, sites, (), hidden)


def _joined_site(parts: Sequence[SiteRecord], rows: NDArray[np.int64]) -> SiteRecord:
    trains = [part.train for part in parts if part.train is not None]
    longest = max(len(train.digits) for train in trains)
    # A token's last phase is the last entry.
    digits = [np.pad(train.digits, ((longest - len(train.digits), 0), (0, 0), (0, 0))) for train in trains]
    exponent, phases = (np.concatenate([getattr(train, name) for train in trains])[rows] for name in ("exponent", "phases"))
    train = SpikeTrain(np.concatenate(digits, axis=1)[:, rows], trains[0].horner_shift, exponent, phases, trains[0].graded)
    accumulators, output = (
        np.concatenate([value for part in parts if (value := getattr(part, name)) is not None])[rows] for name in ("accumulators", "output")
    )
    return SiteRecord(coded(train), train, accumulators, output)


def _check(program: Program, records: Sequence[TokenRecord], reference: Record) -> None:
    """SimulationError unless the event simulation's spikes, accumulators and residual stream are the reference's."""
    for row, record in enumerate(records):
        for site, ours in enumerate(record.sites):
            theirs = reference.sites[site]
            assert theirs.train is not None and theirs.accumulators is not None
            digits = theirs.train.digits[-int(theirs.train.phases[row]) :, row]
            same = ours.exponent == theirs.train.exponent[row] and np.array_equal(ours.digits, digits)
            if not (same and np.array_equal(ours.accumulators, theirs.accumulators[row])):
                name = program.weights.config.sites[site].name
                raise SimulationError(f"{name}, token {row}: the event simulation differs from the reference; run its tests")
        if not all(np.array_equal(ours, theirs[row]) for ours, theirs in zip(record.hidden, reference.hidden, strict=True)):
            raise SimulationError(f"residual of token {row}: the event simulation differs from the reference; run its tests")
