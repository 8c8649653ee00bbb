"""The functional simulation on CUDA, eager and compiled, equals the integer reference bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from parity import FAMILIES, check_against_reference, tokens_of, with_membranes

from neuromorphic_llm.devices.cells import Array
from neuromorphic_llm.devices.readout import ConvertedReads
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder

pytestmark = pytest.mark.gpu


class Saturating(ConvertedReads):
    name: ClassVar[str] = "saturating"

    def convert(self, sums: Array) -> Array:
        return sums.clip(-(1 << self.converter_bits - 1), (1 << self.converter_bits - 1) - 1)


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


def test_compiled_windows_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromorphic_llm.network.functional.COMPILE_AFTER_ROWS", 20)
    weights = random_decoder(6)
    ids = torch.from_numpy(np.random.default_rng(6).integers(0, weights.config.vocab_size, (4, 11)))
    cpu, gpu = FunctionalDecoder(weights), FunctionalDecoder(weights, "cuda")
    for rows in (ids, ids[:2], ids[:3, :7], ids):  # the first uncompiled
        ours, theirs = gpu.forward(rows), cpu.forward(rows)
        assert isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor)
        assert torch.equal(ours.cpu(), theirs)
    assert gpu.statistics.to_json() == cpu.statistics.to_json()


def test_ragged_generation_that_ends_at_different_steps() -> None:
    weights = random_decoder(2)
    generator = np.random.default_rng(2)
    prompts = [generator.integers(0, weights.config.vocab_size, length).tolist() for length in (3, 9, 5, 1, 7)]
    cpu, gpu = FunctionalDecoder(weights), FunctionalDecoder(weights, "cuda")
    free = cpu.generate(prompts, 10, eos_token_ids=())
    stop = (free[0][2], free[1][5])
    cpu.statistics.reset()
    assert gpu.generate(prompts, 10, eos_token_ids=stop) == cpu.generate(prompts, 10, eos_token_ids=stop)
    assert gpu.statistics.to_json() == cpu.statistics.to_json()


def test_batch_does_not_change_a_bit() -> None:
    weights = random_decoder(1)
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, weights.config.vocab_size, (24, 9)))
    decoder = FunctionalDecoder(weights, "cuda")
    together = decoder.forward(ids)
    assert all(torch.equal(together[row], decoder.forward(ids[row : row + 1])[0]) for row in range(len(ids)))


@pytest.mark.parametrize(
    "config",
    [
        DecoderConfig(5, 20, 7, 1, 3, 1, 6, 24, 1e-5, 10000.0),  # no multiples of 8: products in float64
        DecoderConfig(64, 64, 128, 2, 4, 2, 16, 64, 1e-5, 10000.0),
        DecoderConfig(16, 16, 16, 1, 1, 1, 256, 32, 1e-5, 10000.0),  # wide heads: the cache in float64
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_every_count_of_other_shapes(config: DecoderConfig, bias: bool) -> None:
    check_against_reference(FunctionalDecoder(random_decoder(4, config=config, bias=bias), "cuda"), tokens_of(config, 20))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_count_of_every_family(family: str) -> None:
    check_against_reference(FunctionalDecoder(random_decoder(4, config=FAMILIES[family], bias=True), "cuda"), tokens_of(SMALL_CONFIG, 20))


def test_offsets_of_keys_equal_the_reference() -> None:
    check_against_reference(FunctionalDecoder(random_decoder(6, bias=True, key_offset=True), "cuda"), tokens_of(SMALL_CONFIG, 20))


@pytest.mark.parametrize("config", [SMALL_CONFIG, *FAMILIES.values()])
def test_counts_of_compiled_decoding(config: DecoderConfig) -> None:
    weights = random_decoder(5, config=config)
    cpu, gpu = FunctionalDecoder(weights), FunctionalDecoder(weights, "cuda")
    ids = torch.tensor(tokens_of(weights.config, 24)).view(3, 8)
    caches = cpu.new_cache(3, 8), gpu.new_cache(3, 8)
    for column in range(8):
        ours, theirs = gpu.forward(ids[:, column : column + 1], caches[1]), cpu.forward(ids[:, column : column + 1], caches[0])
        assert isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor)
        assert torch.equal(ours.cpu(), theirs)
    assert gpu.statistics.to_json() == cpu.statistics.to_json()


def test_another_readout_equals_the_reference() -> None:
    weights = replace(random_decoder(3, bias=True), readout=Saturating(rows=16, active_rows=4, converter_bits=5))
    tokens = [1, 2, 3, 60, 5]
    logits = FunctionalDecoder(weights, "cuda").forward(torch.tensor([tokens]))
    assert isinstance(logits, torch.Tensor)
    assert np.array_equal(logits[0].cpu().numpy(), IntegerDecoder(weights).forward(tokens))


@pytest.mark.parametrize("family", [None, *FAMILIES])
def test_membranes_equal_the_reference(family: str | None) -> None:
    """Prefill eager, decoding compiled."""
    weights = with_membranes(random_decoder(3, config=SMALL_CONFIG if family is None else FAMILIES[family], bias=True))
    cpu, gpu = FunctionalDecoder(weights), FunctionalDecoder(weights, "cuda")
    ids = torch.tensor(tokens_of(weights.config, 24)).view(3, 8)
    caches = cpu.new_cache(3, 8), gpu.new_cache(3, 8)
    for columns in (slice(0, 4), *(slice(n, n + 1) for n in range(4, 8))):
        ours, theirs = gpu.forward(ids[:, columns], caches[1]), cpu.forward(ids[:, columns], caches[0])
        assert isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor)
        assert torch.equal(ours.cpu(), theirs)
    assert gpu.statistics.to_json() == cpu.statistics.to_json()
