"""Several sequences in flight: each as alone in values and counts, in time the stages' pipeline."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_programs import make_program

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import NeuromorphicLLMError, SimulationError, UsageError
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation.counters import Counters, count
from neuromorphic_llm.simulation.run import SimulationResult, simulate, simulate_sequences
from neuromorphic_llm.simulation.timing import simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace, joined

SPEC = ChipSpec("test").with_fields(
    {"mesh.width": 9, "mesh.height": 8, "synapse.rows": 16, "readout.active_rows": 16, "vector.key_lanes": 4}
)
GATING = {f"{kind}_{what}" for kind in ("vector_tile", "synapse_tile", "router") for what in ("cycles_on", "wakes")}
TIMED = {"cycles", *GATING}
"""Counters that depend on when things happen."""


@pytest.fixture(scope="module")
def program() -> Program:
    return make_program(random_decoder(9, config=replace(SMALL_CONFIG, layers=4)), SPEC)


def total(counters: list[Counters]) -> dict[str, object]:
    """Sums of the counters that do not depend on time."""
    names = [each.name for each in fields(Counters) if each.name not in TIMED]
    return {name: np.sum([getattr(each, name) for each in counters], axis=0).tolist() for name in names}


def counted(result: SimulationResult) -> list[Counters]:
    """Counters of all parts of a run."""
    return [part for part in (result.prefill, result.decode, result.tail) if part is not None]


@settings(max_examples=8, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=5), min_size=1, max_size=7),
    new=st.integers(1, 5),
    stop=st.sets(st.integers(0, 60), max_size=20),
)
def test_sequences_are_as_alone(program: Program, prompts: list[list[int]], new: int, stop: set[int]) -> None:
    """Tokens equal, and so do the sums of all counters that do not depend on time."""
    result = simulate_sequences(program, prompts, new, stop=tuple(stop))
    alone = [simulate(program, prompt, new, stop=tuple(stop)) for prompt in prompts]
    assert result.generated == tuple(each.token_ids for each in alone)
    assert total(counted(result)) == total([part for each in alone for part in counted(each)])
    assert sum(part.cycles for part in counted(result)) == result.cycles_total
    rounds = min(len(tokens) for tokens in result.generated) - 1
    assert (result.decode.decoded_tokens if result.decode else 0) == len(prompts) * rounds


def test_one_sequence_is_a_run(program: Program) -> None:
    one, several = simulate(program, [7, 1, 42], 4, stop=()), simulate_sequences(program, [[7, 1, 42]], 4, stop=())
    assert (one.generated, one.prefill, one.decode, one.tail) == (several.generated, several.prefill, several.decode, None)
    assert one.trace.sequence.tolist() == [0] * 6 and one.trace.context.tolist() == [1, 2, 3, 4, 5, 6]


def test_order_of_tokens(program: Program) -> None:
    """All prompts, then a token of each sequence that goes on."""
    trace = simulate(program, [7, 1], 4, stop=()).trace
    other, third = simulate(program, [3], 2, stop=()).trace, simulate(program, [9, 9, 9], 3, stop=()).trace
    together = joined([trace, other, third])
    assert together.prompt_tokens == 6
    assert together.sequence.tolist() == [0, 0, 1, 2, 2, 2, 0, 1, 2, 0, 2, 0]
    assert together.context.tolist() == [1, 2, 1, 1, 2, 3, 3, 2, 4, 4, 5, 5]
    assert together.previous.tolist() == [-1, 0, -1, -1, 3, 4, 1, 2, 5, 6, 8, 9]
    for number, alone in enumerate((trace, other, third)):
        rows = together.sequence == number
        for each in fields(ActivityTrace):
            if each.name not in ("prompt_tokens", "sequence"):
                assert np.array_equal(getattr(together, each.name)[rows], getattr(alone, each.name)), each.name


def window(program: Program, sequences: int) -> Counters:
    """Counters of the steady window of equal sequences."""
    found = simulate_sequences(program, [[7, 1, 42]] * sequences, 9, stop=()).decode
    assert found is not None
    return found


def test_tokens_of_other_sequences_fill_the_stages(program: Program) -> None:
    """Two sequences take no longer than one; more take the time of the slowest stage for each, and never more than alone."""
    one, two, five, ten = (window(program, number) for number in (1, 2, 5, 10))
    assert two.cycles <= one.cycles * 1.01 and two.tokens == 2 * one.tokens
    rate = [each.tokens / each.cycles for each in (one, two, five, ten)]
    assert rate[1] > 1.9 * rate[0] and rate[2] > 1.5 * rate[1]
    assert rate[3] == pytest.approx(rate[2], rel=0.1)  # more than the five stages: all of them work all the time


@pytest.mark.parametrize(("sequences", "longer"), [(1, 9_000), (2, 4_500), (7, 2_000)])
def test_the_slowest_stage_by_hand(program: Program, sequences: int, longer: int) -> None:
    """Norms of 1,000 cycles more, two in each of four layers and one in the head.

    A token takes 9,000 cycles more on its way. With two sequences in flight that is the time of two tokens, with seven a layer is always at
    work and lets a token pass every 2,000 cycles more.
    """
    cycles = [
        window(replace(program, spec=program.spec.with_fields({"vector.norm_latency": latency})), sequences) for latency in (20_000, 21_000)
    ]
    assert cycles[1].cycles - cycles[0].cycles == longer * cycles[0].tokens


def test_equal_prompts_are_executed_once(program: Program) -> None:
    steps: list[int] = []
    result = simulate_sequences(program, [[7, 1], [3], [7, 1]], 3, stop=(), progress=steps.append)
    assert sum(steps) == (2 + 2) + (1 + 2) and result.trace.tokens == 11
    assert result.generated[0] == result.generated[2] != result.generated[1]


def test_sequences_share_the_memory_of_keys_and_values() -> None:
    """9 bytes for keys, values and exponents of a token: 31 tokens, of which two sequences have three blocks of four each."""
    config = replace(SMALL_CONFIG, layers=1, kv_heads=1, heads=1, head_dim=4)
    program = make_program(random_decoder(0, config=config), SPEC.with_fields({"vector.kv_bytes_per_engine": 31 * 9 + 5}))
    assert [program.sequence_context(number) for number in (1, 2, 3, 7, 8)] == [31, 12, 8, 4, 0]
    result = simulate_sequences(program, [[1] * 10] * 2, 3, stop=())
    assert result.trace.context.max() == 12
    check = [
        (
            2,
            10,
            4,
            "the prompt of sequence 0, 10 tokens, and 4 new ones exceed the context of 12 that each of 2 sequences has; use at most 9",
        ),
        (
            8,
            1,
            1,
            "8 sequences do not fit a key/value memory of chip test, which holds 31 tokens in parts of 4 or more; run at most 7 sequences",
        ),
    ]
    for sequences, prompt, new, message in check:
        with pytest.raises(SimulationError, match=message):
            simulate_sequences(program, [[1] * prompt] * sequences, new)


def test_contexts_end_with_the_positions_of_the_model(program: Program) -> None:
    assert program.sequence_context(2) == program.max_context == SMALL_CONFIG.max_positions


@pytest.mark.parametrize(
    ("prompts", "error", "message"),
    [
        ([], UsageError, "the prompt is empty"),
        ([[1], []], UsageError, "the prompt is empty"),
        ([[1], [61]], UsageError, r"token ids must lie in 0\.\.60, got 61"),
        ([[1], [3] * 64], SimulationError, "the prompt of sequence 1, 64 tokens, and 2 new ones exceed the context of 64"),
    ],
)
def test_bad_requests(program: Program, prompts: list[list[int]], error: type[NeuromorphicLLMError], message: str) -> None:
    with pytest.raises(error, match=message):
        simulate_sequences(program, prompts, 2)


def test_parts_of_a_run_add_up_with_gated_tiles(program: Program) -> None:
    """Cycles on and wake-ups of all rows one by one, of the window and of what stands behind it."""
    gated = replace(program, spec=program.spec.with_fields({"power.gating": "all", "power.wake_cycles": 30}))
    result = simulate_sequences(gated, [[7], [3, 1], [9]], 3, stop=(simulate(program, [9], 3, stop=()).token_ids[1],))
    assert result.tail is not None
    rows = [count(gated, result.trace, result.timing, slice(row, row + 1)) for row in range(result.trace.tokens)]
    for name in GATING:
        assert sum(getattr(part, name) for part in counted(result)) == sum(getattr(row, name) for row in rows) > 0


def test_tiles_stay_on_under_load(program: Program) -> None:
    """With as many sequences as stages a vector tile is seldom off between two tokens, so it wakes less often."""
    gated = replace(program, spec=program.spec.with_fields({"power.gating": "tiles", "power.wake_cycles": 30}))
    alone, loaded = window(gated, 1), window(gated, 5)
    assert alone.vector_tile_wakes == alone.tokens * 5
    assert loaded.vector_tile_wakes < loaded.tokens * 5 / 2
    assert loaded.synapse_tile_wakes > loaded.tokens * 10
    assert loaded.vector_tile_cycles_on <= 5 * loaded.cycles


def test_timing_of_a_part_of_a_run(program: Program) -> None:
    """Rounds cut from a run as prompts of one token each, and decoded ones, are a run."""
    trace = joined([simulate(program, prompt, 5, stop=()).trace.decoding(slice(len(prompt), None)) for prompt in ([7, 1], [3, 4, 5])])
    assert trace.prompt_tokens == 2 and trace.context.tolist() == [2, 3, 3, 4, 4, 5, 5, 6, 6, 7]
    assert (np.diff(simulate_timing(program, trace).token_end_cycle) > 0).all()
