"""The functional simulation on CUDA, eager and compiled, equals the integer reference bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("code", ["signed-digit", "rate", "first-spike", "bit-planes"])
@pytest.mark.parametrize("parts", ["all", "feed-forward", "attention"])
def test_prefill_equals_the_reference(code: str, parts: str) -> None:
    weights = random_decoder(3, code=code, parts=parts)
    ids = np.random.default_rng(3).integers(0, weights.config.vocab_size, 11).tolist()
    reference = IntegerDecoder(weights)
    expected = reference.step(ids, reference.new_cache())
    decoder = FunctionalDecoder(weights, "cuda")
    logits, hidden = decoder.forward(torch.tensor([ids]), return_hidden=True)
    assert np.array_equal(logits[0].cpu().numpy(), expected.logits)
    assert all(np.array_equal(ours[0].cpu().numpy(), theirs) for ours, theirs in zip(hidden, expected.record.hidden, strict=True))
    assert decoder.statistics.site_spikes() == [int(site.coded.spikes.sum()) for site in expected.record.sites]


@pytest.mark.parametrize("seed", range(3))
def test_compiled_decoding_equals_the_reference(seed: int) -> None:
    weights = random_decoder(seed)
    generator = np.random.default_rng(seed)
    prompts = [generator.integers(0, weights.config.vocab_size, length).tolist() for length in (3, 7, 5)]
    decoder = FunctionalDecoder(weights, "cuda")
    generated = decoder.generate(prompts, 6, eos_token_ids=())
    reference = IntegerDecoder(weights)
    assert generated == [reference.generate_greedy(prompt, 6) for prompt in prompts]


def test_batch_does_not_change_a_bit() -> None:
    weights = random_decoder(1)
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, weights.config.vocab_size, (24, 9)))
    decoder = FunctionalDecoder(weights, "cuda")
    together = decoder.forward(ids)
    assert all(torch.equal(together[row], decoder.forward(ids[row : row + 1])[0]) for row in range(len(ids)))
