"""Energies over the visible tokens: points from a text, from a run, and the references beside them."""

from __future__ import annotations

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.energy import RIVALS, account, chip_memories, fp16_reference, int8_reference, rival_accounts
from neuromorphic_llm.energy.digital import token_seconds
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.evaluation.energy_curve import (
    decoding_figures,
    doubling_contexts,
    energy_over_sequences,
    observed_rows,
    shifted_rows,
    shifted_sequences,
    text_over_context,
    text_trace,
)
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulation.run import simulate, simulate_sequences

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
    assert point.rivals["int8"] == int8_reference(config, 16, spec)
    assert point.rivals["int8_sram"] == int8_reference(config, 16, spec, weights_in_sram=True)
    assert point.rivals["fp16"] == fp16_reference(config, 16, spec)
    assert set(point.rivals) == set(RIVALS)


def test_generated_tokens_have_the_same_point(program: Program) -> None:
    """A generation's five tokens around a context cost what the same tokens cost as a given text."""
    result = simulate(program, TEXT[:13], 6, stop=())
    assert result.decode is not None
    (point,) = text_over_context(program, [*TEXT[:13], *result.token_ids[:5]], [16])
    seconds = result.decode.cycles / program.spec.clock_hz
    own = account(result.decode, program.spec, chip_memories(program), seconds, tokens=5)
    assert point.chip == own and point.cycles_per_token == result.cycles_per_token


def test_points_over_the_sequences_are_those_of_runs(program: Program) -> None:
    """The first sequences of a run are a run of them: a point has the energy and the speed of its steady window."""
    prompts, spec = [TEXT[:3], TEXT[3:6], TEXT[6:9], TEXT[9:12]], program.spec
    together = simulate_sequences(program, prompts, 4, stop=())
    points = energy_over_sequences(program, together.trace, (1, 3, 4))
    for point in points:
        alone = simulate_sequences(program, prompts[: point.sequences], 4, stop=()).decode
        assert alone is not None
        own = account(alone, spec, chip_memories(program), alone.cycles / spec.clock_hz, tokens=3 * point.sequences)
        assert point.chip == own and point.tokens == alone.tokens and point.context == 5
        assert point.rivals == rival_accounts(program.weights.config, 5, spec, point.sequences)
        assert point.tokens_per_s["chip"] == pytest.approx(spec.clock_hz / point.cycles_per_token)
        assert point.tokens_per_s["int8"] == pytest.approx(1 / token_seconds(program.weights.config, 5, spec, 8, point.sequences))
        assert point.to_json()["sequences"] == point.sequences
    energies = [point.chip.chip_energy_j_per_token.nominal for point in points]
    assert energies[0] > energies[1] > 0


def test_sequences_around_a_context_have_the_points_of_its_texts(program: Program) -> None:
    """Sequences decode the tokens of one text, each a place later; a single one has the point of its text."""
    rows = shifted_rows(16, 5, 4)
    trace = text_trace(program, TEXT, rows)
    (alone,) = energy_over_sequences(program, shifted_sequences(trace, 16, 5, 1), [1])
    assert alone == text_over_context(program, TEXT, [16])[0]
    several = shifted_sequences(trace, 16, 5, 4)
    assert several.prompt_tokens == 4 and several.context[4:].mean() in (15.5, 16.0, 16.5)
    for number in range(4):
        contexts = several.context[several.sequence == number]
        assert contexts.tolist() == list(range(rows.start + 1 + number, rows.start + 7 + number))
    (together,) = energy_over_sequences(program, several, [4])
    assert together.tokens == 20 and together.context == 16
    assert together.cycles_per_token < alone.cycles_per_token / 2


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
