"""The chip in RTL beside the cycle simulation: tokens, the cycle in which each ends, counters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict

from neuromorphic_llm.rtl.chip import RtlChip
from neuromorphic_llm.simulation.counters import Counters, count
from neuromorphic_llm.simulation.run import simulate_sequences

Prompts = Sequence[Sequence[int]]
Counted = dict[str, int | tuple[int, ...]]


def check(rtl: RtlChip, prompts: Prompts, new: int, stop: Sequence[int] = ()) -> tuple[tuple[int, ...], ...]:
    """Compare tokens of every sequence, the cycle in which each ends, and every counter of the run and of its phases."""
    expected = simulate_sequences(rtl.program, prompts, new, stop=stop)
    result = rtl.run(prompts, new, stop)
    assert result.generated == expected.generated
    wanted, trace = expected.trace.logits_wanted, expected.trace
    for number, ends in enumerate(result.token_end_cycle):
        assert ends == tuple(expected.timing.token_end_cycle[wanted & (trace.sequence == number)].tolist())
    parts = {"prefill": expected.prefill, "decode": expected.decode, "tail": expected.tail}
    assert result.counts == counted(count(rtl.program, trace, expected.timing, slice(0, trace.tokens)))
    phases = rtl.phases(result)
    for name, theirs in parts.items():
        ours = getattr(phases, name)
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            # Tokens behind a phase delay its last ones on links that they share: tiles and routers may be on for longer, phases wait less.
            timed = {each for each in ours if len(prompts) > 1 and each.endswith(("_cycles_on", "_wakes"))}
            timed |= {each for each in ours if len(prompts) > 1 and each.startswith("axon_bits") and rtl.program.spec.passes_axons}
            assert without(ours, timed) == without(counted(theirs), timed)
    return result.generated


def counted(counters: Counters) -> Counted:
    """Counters of the simulation that the chip has too: it does not count tokens."""
    return without(asdict(counters), {"prompt_tokens", "decoded_tokens"})


def without(counts: Counted, names: Collection[str]) -> Counted:
    return {name: value for name, value in counts.items() if name not in names}
