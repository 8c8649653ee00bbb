"""Greedy generation on the simulated chip."""

from __future__ import annotations

import pytest
from small_programs import make_program

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import NeuromorphicLLMError, SimulationError, UsageError
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulation.run import simulate

PROMPT = [7, 1, 42]


@pytest.fixture(scope="module")
def program() -> Program:
    return make_program(
        random_decoder(9), ChipSpec("test").with_fields({"mesh.width": 7, "mesh.height": 6, "synapse.rows": 16, "readout.active_rows": 16})
    )


def test_tokens_are_those_of_the_reference(program: Program) -> None:
    steps: list[int] = []
    result = simulate(program, PROMPT, 9, progress=steps.append)
    assert list(result.token_ids) == IntegerDecoder(program.weights).generate_greedy(PROMPT, 9)
    assert sum(steps) == result.trace.tokens == len(PROMPT) + 8
    assert result.cycles_total == result.prefill_cycles + int(result.timing.decode_cycles.sum())
    assert result.decode is not None
    assert result.cycles_per_token == result.decode.cycles / 8 == pytest.approx(result.timing.decode_cycles.mean())
    assert result.chip_tokens_per_s == pytest.approx(5e8 / result.cycles_per_token)
    assert result.wall_tokens_per_s > 0
    assert result.synaptic_operations_per_s > 0


def test_one_token_has_no_decode_figures(program: Program) -> None:
    result = simulate(program, PROMPT, 1)
    assert len(result.token_ids) == 1
    assert result.decode is None
    assert result.cycles_per_token is None
    assert result.chip_tokens_per_s is None


def test_stops_with_a_stop_token(program: Program) -> None:
    tokens = simulate(program, PROMPT, 9).token_ids
    stop = tokens[4]
    assert simulate(program, PROMPT, 9, stop=[stop]).token_ids == tokens[: tokens.index(stop) + 1]


def test_the_context_is_used_to_its_end(program: Program) -> None:
    result = simulate(program, [3] * 62, 3)
    assert result.trace.tokens == 64
    assert len(result.token_ids) == 3


@pytest.mark.parametrize(
    ("prompt", "new_tokens", "error", "message"),
    [
        ([], 1, UsageError, "the prompt is empty"),
        ([3], 0, UsageError, "max_new_tokens must be an integer of at least 1, got 0"),
        ([3, 61], 1, UsageError, r"token ids must lie in 0\.\.60, got 3\.\.61"),
        ([-1], 1, UsageError, r"token ids must lie in 0\.\.60"),
        ([3] * 63, 3, SimulationError, "a prompt of 63 tokens and 3 new ones exceed the program's context of 64; use at most 62"),
    ],
)
def test_bad_requests(program: Program, prompt: list[int], new_tokens: int, error: type[NeuromorphicLLMError], message: str) -> None:
    with pytest.raises(error, match=message):
        simulate(program, prompt, new_tokens)
