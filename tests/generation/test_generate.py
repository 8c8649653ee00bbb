"""Generation: greedy as the reference, reproducible sampling, beam search as exhaustive search and as transformers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from parity import logits, tokens_of
from transformers import GenerationConfig as TransformersGenerationConfig
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.generation.choice import GenerationConfig, log_probabilities, sampler
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder

PROMPTS = [tokens_of(SMALL_CONFIG, count, count) for count in (5, 1, 9)]


@pytest.fixture(scope="module")
def decoder() -> FunctionalDecoder:
    return FunctionalDecoder(random_decoder(20))


@pytest.fixture(scope="module")
def greedy(decoder: FunctionalDecoder) -> list[list[int]]:
    reference = IntegerDecoder(decoder.weights)
    return [reference.generate_greedy(prompt, 12) for prompt in PROMPTS]


def test_greedy_is_the_reference_alone_and_in_ragged_batches(decoder: FunctionalDecoder, greedy: list[list[int]]) -> None:
    assert decoder.generate(PROMPTS, 12) == greedy
    assert [decoder.generate([prompt], 12)[0] for prompt in PROMPTS] == greedy


def test_ties_go_to_the_lowest_index() -> None:
    weights = random_decoder(21)
    head = weights.head
    # Every token's logit twice: at its own index and sixty places up.
    doubled = replace(head, weight=np.tile(head.weight[:30], (2, 1)), multiplier=np.tile(head.multiplier[:30], 2))
    weights = replace(weights, head=doubled, embedding=weights.embedding[:60], config=replace(weights.config, vocab_size=60))
    decoder, prompt = FunctionalDecoder(weights), [3, 1, 4]
    tokens = decoder.generate([prompt], 8)[0]
    assert max(tokens) < 30
    assert tokens == IntegerDecoder(weights).generate_greedy(prompt, 8)


def test_end_of_sequence_stops_each_sequence_by_itself(decoder: FunctionalDecoder, greedy: list[list[int]]) -> None:
    eos = greedy[0][3]
    expected = [tokens[: tokens.index(eos) + 1] if eos in tokens else tokens for tokens in greedy]
    assert len(expected[0]) <= 4
    assert decoder.generate(PROMPTS, 12, eos_token_ids=(eos,)) == expected
    config = replace(decoder.config, eos_token_ids=(eos,))
    assert FunctionalDecoder(replace(decoder.weights, config=config)).generate(PROMPTS, 12) == expected


def test_sampling(decoder: FunctionalDecoder, greedy: list[list[int]]) -> None:
    first = decoder.generate(PROMPTS, 12, do_sample=True, seed=1)
    assert first == decoder.generate(PROMPTS, 12, do_sample=True, seed=1)
    assert first != decoder.generate(PROMPTS, 12, do_sample=True, seed=2)
    assert decoder.generate(PROMPTS, 12, do_sample=True, top_k=1) == greedy
    assert decoder.generate(PROMPTS, 12, do_sample=True, top_p=1e-6) == greedy
    assert decoder.generate(PROMPTS, 12, do_sample=True, temperature=1e-4) == greedy


def test_samples_follow_the_distribution(decoder: FunctionalDecoder) -> None:
    scores = logits(decoder, torch.tensor([PROMPTS[0]]), last_only=True)[0]
    choose = sampler(decoder.weights, GenerationConfig(do_sample=True, temperature=2.0, top_k=5, seed=1))
    drawn = torch.tensor(choose(scores.expand(20000, -1))).bincount(minlength=SMALL_CONFIG.vocab_size) / 20000
    best = scores[0].topk(5).indices
    expected = (scores[0, best].double() * 2.0**-decoder.weights.formats.logit / 2).softmax(-1)
    assert drawn[best].tolist() == pytest.approx(expected.tolist(), abs=0.02)
    assert drawn[best].sum() == pytest.approx(1)


@pytest.mark.parametrize("beams", [1, 2])
def test_progress(decoder: FunctionalDecoder, beams: int) -> None:
    calls: list[tuple[int, int]] = []
    decoder.generate(PROMPTS[:1], 3, num_beams=beams, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be an integer of at least 1"),
        ({"do_sample": True, "temperature": 0.0}, "temperature must be above 0"),
        ({"top_p": 0.0}, "top_p must lie in"),
        ({"top_k": -1}, "top_k must not be negative"),
        ({"num_beams": 0}, "num_beams must be at least 1"),
        ({"num_beams": 2, "do_sample": True}, "beam search cannot sample"),
    ],
)
def test_bad_options(decoder: FunctionalDecoder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        decoder.generate(PROMPTS, **options)


def test_bad_prompts(decoder: FunctionalDecoder) -> None:
    for prompts in ([], [[]], [[1], []]):
        with pytest.raises(UsageError, match="empty prompt"):
            decoder.generate(prompts)
    with pytest.raises(SimulationError, match="outside the vocabulary"):
        decoder.generate([[1, 10**6]])
    with pytest.raises(SimulationError, match="exceed the context of 64"):
        decoder.generate([[1] * 60], 10)


def best_of_all(decoder: FunctionalDecoder, prompt: list[int], length: int) -> list[int]:
    """The most probable continuation of a length, by scoring every one of them."""
    every = [list(tokens) for tokens in itertools.product(range(decoder.config.vocab_size), repeat=length)]
    scores = log_probabilities(decoder.weights, logits(decoder, torch.tensor([prompt + tokens for tokens in every])))
    position = torch.arange(len(prompt) - 1, len(prompt) - 1 + length)
    chosen = scores[:, position].gather(2, torch.tensor(every).unsqueeze(2)).sum((1, 2))
    return every[int(chosen.argmax())]


@pytest.mark.parametrize("seed", range(3))
def test_enough_beams_find_the_most_probable_sequence(seed: int) -> None:
    decoder = FunctionalDecoder(random_decoder(seed, config=replace(SMALL_CONFIG, vocab_size=6)))
    assert decoder.generate([[1, 2]], 3, num_beams=36) == [best_of_all(decoder, [1, 2], 3)]


class SpikingScores(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The decoder's logits behind the interface that transformers' generation wants, without a cache."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, decoder: FunctionalDecoder) -> None:
        super().__init__(PretrainedConfig(vocab_size=decoder.config.vocab_size, is_encoder_decoder=False))
        self.decoder = decoder
        self.parameter = torch.nn.Parameter(torch.zeros(1))
        self.generation_config = TransformersGenerationConfig(use_cache=False)

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, attention_mask: Any = None, **_: Any) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return {"input_ids": input_ids}

    def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
        scores = logits(self.decoder, input_ids).double() * 2.0**-self.decoder.weights.formats.logit
        return CausalLMOutput(logits=scores)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("eos", [(), (7,), (3, 7, 11)])
@pytest.mark.parametrize("beams", [2, 4])
def test_beam_search_is_that_of_transformers(decoder: FunctionalDecoder, beams: int, eos: tuple[int, ...], length_penalty: float) -> None:
    if eos:
        # Ends that the search meets: tokens that it would choose.
        eos = tuple(sorted({decoder.generate([PROMPTS[0]], 8, num_beams=beams)[0][index] for index in range(len(eos))}))
    options: dict[str, Any] = {"num_beams": beams, "length_penalty": length_penalty, "max_new_tokens": 8}
    ours = decoder.generate(PROMPTS, eos_token_ids=eos, **options)
    model = SpikingScores(decoder)
    for prompt, tokens in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, eos_token_id=list(eos) or None, **options
        )
        assert theirs[0, len(prompt) : len(prompt) + len(tokens)].tolist() == tokens
        assert theirs.shape[1] == len(prompt) + len(tokens)
