"""A run with all of its events: values by the integer reference, cycles by the timing simulation (docs/reference/rtl/verification.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.generation.choice import largest
from neuromorphic_llm.generation.generate import decode
from neuromorphic_llm.reference.decoder import IntegerDecoder, Record
from neuromorphic_llm.reference.interpreter import Cache
from neuromorphic_llm.simulation.engine import EventSequences
from neuromorphic_llm.simulation.events import EventDecoder, TokenRecord
from neuromorphic_llm.simulation.run import check_request
from neuromorphic_llm.simulation.timing import TimingResult, simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace


@dataclass(frozen=True)
class RecordedRun:
    """One generation; the last generated token is not fed back."""

    program: Program
    prompt: tuple[int, ...]
    token_ids: tuple[int, ...]  # generated
    trace: ActivityTrace
    timing: TimingResult
    record: Record  # of the integer reference, in full
    cache: Cache
    flits: NDArray[np.int64]  # rows of timing_tables.FlitLog, every injection and arrival

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token of every row of the run."""
        return (*self.prompt, *self.token_ids[:-1])

    @property
    def logits_wanted(self) -> NDArray[np.bool_]:
        """Flag of every row: are its logits wanted?"""
        return self.trace.logits_wanted

    @property
    def token_end_cycle(self) -> NDArray[np.int64]:
        """Cycle in which every row ends."""
        return self.timing.token_end_cycle


def record_run(
    program: Program, prompt: Sequence[int], max_new_tokens: int, stop: Sequence[int], progress: Callable[[int], None] | None = None
) -> RecordedRun:
    """Generate greedily as `simulate`, and compare the event simulation with the reference.

    Raises as check_request does, and SimulationError where they differ. `progress` is called with 1 after every token processed.
    """
    check_request(program, [prompt], max_new_tokens)
    decoder = EventDecoder(program, record=True)
    steps = decode(EventSequences([decoder], progress), [prompt], largest, max_new_tokens, stop)
    generated = [token for ((_, token),) in steps]
    reference = IntegerDecoder(program.weights)
    cache = reference.new_cache()
    result = reference.step([*prompt, *generated[:-1]], cache, full=True)
    if generated != result.logits[len(prompt) - 1 :].argmax(axis=1).tolist():
        raise SimulationError("the event simulation and the integer reference choose other tokens; run the tests of the simulator")
    assert decoder.records is not None
    _check(program, decoder.records, result.record)
    flits: list[NDArray[np.int64]] = []
    trace = decoder.trace(len(prompt))
    timing = simulate_timing(program, trace, flits)
    return RecordedRun(program, tuple(prompt), tuple(generated), trace, timing, result.record, cache, np.concatenate(flits))


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
