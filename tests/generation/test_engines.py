"""Every engine chooses the same tokens: greedy, sampled with a seed, and by beams."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.generation.choice import GenerationConfig
from neuromorphic_llm.generation.engine import Engine, TokenEngine
from neuromorphic_llm.generation.generate import generate
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.simulation.engine import EventEngine

PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5]]
WEIGHTS = random_decoder(20)
ENGINES: dict[str, Callable[[DecoderWeights], Engine]] = {
    "functional": FunctionalDecoder,
    "reference": IntegerDecoder,
    "events": lambda weights: EventEngine(compile_network(weights, load_spec("nano")), threads=1),
}
OPTIONS = {
    "greedy": {},
    "greedy to an end": {"eos_token_ids": (generate(FunctionalDecoder(WEIGHTS), PROMPTS, GenerationConfig(4))[0][2],)},
    "sampling": {"do_sample": True, "temperature": 1.5, "top_k": 20, "top_p": 0.95, "seed": 7},
    "beams": {"num_beams": 3},
    "beams to an end": {"num_beams": 3, "eos_token_ids": (11, 23, 30)},
}


@pytest.fixture(scope="module", params=[name for name in ENGINES if name != "functional"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param](WEIGHTS)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_engines_choose_the_same_tokens(engine: Engine, options: dict[str, Any]) -> None:
    config = GenerationConfig(8, **options)
    assert generate(engine, PROMPTS, config) == generate(FunctionalDecoder(WEIGHTS), PROMPTS, config)


@pytest.mark.parametrize("name", ENGINES)
def test_forked_slots_go_on_by_themselves(name: str) -> None:
    engine = ENGINES[name](WEIGHTS)
    alone = [list(generate(engine, [[5, token]], GenerationConfig(1))[0]) for token in (8, 13)]
    sequences = engine.sequences(3, 8)
    next(sequences.prefill([0], [[5]]))
    sequences.fork([0, 0, 0])
    logits = np.asarray(sequences.step([0, 2], [8, 13]))
    assert [[int(row.argmax())] for row in logits] == alone
    again = np.asarray(sequences.step([1], [13]))
    assert np.array_equal(again[0], logits[1])


class Tokens:
    """Engine that reports tokens alone, as the RTL does."""

    def greedy_tokens(
        self, prompt: Sequence[int], max_new_tokens: int, ends: Collection[int], on_token: Callable[[int], None] | None = None
    ) -> list[int]:
        return FunctionalDecoder(WEIGHTS).generate(
            [prompt], max_new_tokens, eos_token_ids=tuple(ends), on_token=lambda _, token: on_token and on_token(token)
        )[0]


def test_engine_of_tokens_alone_decodes_greedily_only() -> None:
    assert isinstance(Tokens(), TokenEngine) and not isinstance(Tokens(), Engine)
    seen: list[tuple[int, int]] = []
    config = GenerationConfig(4)
    found = generate(Tokens(), PROMPTS, config, on_token=lambda index, token: seen.append((index, token)))
    assert found == generate(FunctionalDecoder(WEIGHTS), PROMPTS, config)
    assert seen == [(index, token) for index, tokens in enumerate(found) for token in tokens]
    for options in ({"do_sample": True}, {"num_beams": 2}):
        with pytest.raises(UsageError, match="the RTL reports tokens, not logits: it decodes greedily"):
            generate(Tokens(), PROMPTS, GenerationConfig(4, **options))
