"""Energies over the visible tokens: points from a text, from a run, and the references beside them."""

from __future__ import annotations

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.energy import RIVALS, account, chip_memories, fp16_reference, int8_reference
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.evaluation.energy_curve import decoding_figures, doubling_contexts, observed_rows, text_over_context
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulation.run import simulate

TEXT = [(7 * position) % 61 for position in range(30)]


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_network(random_decoder(9), load_spec("nano"))


def test_contexts_of_a_prompt() -> None:
    assert doubling_contexts(10) == () and doubling_contexts(11) == (8,) and doubling_contexts(67) == (8, 16, 32, 64)
    assert observed_rows([8]) == {4, 5, 6, 7, 8, 9}


def test_a_point_stands_beside_the_references_at_its_context(program: Program) -> None:
    (point,) = text_over_context(program, TEXT, [16])
    assert point.context == 16 and point.tokens == 5 and point.cycles_per_token > 0
    spec, config = program.spec, program.weights.config
    assert point.rivals["int8"] == int8_reference(config, 16, spec).chip_energy_j_per_token
    assert point.rivals["int8_sram"] == int8_reference(config, 16, spec, weights_in_sram=True).chip_energy_j_per_token
    assert point.rivals["fp16"] == fp16_reference(config, 16, spec).chip_energy_j_per_token
    assert set(point.rivals) == set(RIVALS)


def test_generated_tokens_have_the_same_point(program: Program) -> None:
    """A generation's five tokens around a context cost what the same tokens cost as a given text."""
    result = simulate(program, TEXT[:13], 6, stop=())
    assert result.decode is not None
    (point,) = text_over_context(program, [*TEXT[:13], *result.token_ids[:5]], [16])
    seconds = result.decode.cycles / program.spec.clock_hz
    own = account(result.decode, program.spec, chip_memories(program), seconds, tokens=5).chip_energy_j_per_token
    assert point.chip == own and point.cycles_per_token == result.cycles_per_token


def test_figures_of_a_run(program: Program) -> None:
    observe = observed_rows(doubling_contexts(20))
    result = simulate(program, TEXT[:20], 5, stop=(), observe=observe)
    figures = decoding_figures(program, result, 20, 22)
    contexts = [point["context"] for point in figures["energy_over_context"]]
    assert contexts == [8, 16, 22] and figures["latency"]["tokens"] == 4
    given = text_over_context(program, TEXT[:20], [8, 16])
    assert figures["energy_over_context"][:2] == [point.to_json() for point in given]
    energies = [point["chip_energy_j_per_token"]["nominal"] for point in figures["energy_over_context"]]
    assert all(energy > 0 for energy in energies)


def test_a_run_that_decodes_nothing_says_so(program: Program) -> None:
    result = simulate(program, TEXT[:12], 1, stop=(), observe=observed_rows(doubling_contexts(12)))
    figures = decoding_figures(program, result, 12, 6)
    assert figures["latency"] is None and "nothing was decoded" in figures["latency_reason"]
    assert [point["context"] for point in figures["energy_over_context"]] == [8]


@pytest.mark.parametrize("context", [3, 29, 0])
def test_contexts_beyond_the_text(program: Program, context: int) -> None:
    with pytest.raises(UsageError, match=r"a context must lie in 4\.\.28 for this text and program, got"):
        text_over_context(program, TEXT, [8, context])
