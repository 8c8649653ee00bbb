"""The functional simulation equals the integer reference, whatever the batch, the cache, the threads and the backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import FAMILIES, check_against_reference, configs, equal, logits, tokens_of, with_large_prices

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.network import cpu_operations
from neuromorphic_llm.network.cpu_operations import CpuOperations
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import Operations
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.spikes.registry import SPIKE_CODES

PARTS = ("all", "feed-forward", "attention")
TOKENS = tokens_of(SMALL_CONFIG, 20)
BACKENDS = pytest.mark.parametrize("backend", [CpuOperations, Operations])


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@BACKENDS
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("code", SPIKE_CODES)
def test_equals_the_reference(code: str, parts: str, backend: Callable[[], Operations]) -> None:
    check_against_reference(FunctionalDecoder(random_decoder(3, code=code, parts=parts, bias=True), operations=backend()), TOKENS)


@BACKENDS
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_the_reference(family: str, backend: Callable[[], Operations]) -> None:
    weights = random_decoder(3, config=FAMILIES[family], bias=True)
    check_against_reference(FunctionalDecoder(weights, operations=backend()), TOKENS)


@BACKENDS
@pytest.mark.parametrize("parts", PARTS)
def test_offsets_of_keys_equal_the_reference(parts: str, backend: Callable[[], Operations]) -> None:
    weights = random_decoder(6, parts=parts, bias=True, key_offset=True)
    check_against_reference(FunctionalDecoder(weights, operations=backend()), TOKENS)


@BACKENDS
@pytest.mark.parametrize("family", ["gemma2", "gemma3", "gpt2"])
def test_families_in_steps(family: str, backend: Callable[[], Operations], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_operations, "_QUERY_BLOCK", 3)  # blocks that begin within and beyond a window
    weights = random_decoder(4, config=FAMILIES[family])
    decoder, expected = FunctionalDecoder(weights, operations=backend()), IntegerDecoder(weights).forward(TOKENS)
    cache = decoder.new_cache()
    steps = [logits(decoder, torch.tensor([TOKENS[first:last]]), cache) for first, last in ((0, 2), (2, 3), (3, 13), (13, 20))]
    assert equal(torch.cat(steps, 1)[0], expected)


def test_pairs_within_windows() -> None:
    weights = random_decoder(10, config=FAMILIES["gemma2"])
    decoder, reference = FunctionalDecoder(weights), IntegerDecoder(weights)
    logits(decoder, torch.tensor([TOKENS[:7]]))
    record = reference.step(TOKENS[:7], reference.new_cache()).record
    pairs = 4 * (1 + 2 + 5 * 3 + 7 * 8 // 2)  # a window of 3, and none
    assert decoder.statistics.value_rows_read() == pytest.approx(sum(a.probability_keys.sum() for a in record.attention) / pairs)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), configs(), st.sampled_from(tuple(SPIKE_CODES)), st.sampled_from(PARTS), st.booleans(), st.data())
def test_equals_the_reference_for_any_shape(
    seed: int, config: DecoderConfig, code: str, parts: str, bias: bool, data: st.DataObject
) -> None:
    weights = random_decoder(seed, config=config, code=code, parts=parts, bias=bias)
    tokens = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=8))
    backend = data.draw(st.sampled_from([CpuOperations, Operations]))
    check_against_reference(FunctionalDecoder(weights, operations=backend()), tokens)


@BACKENDS
def test_equals_the_reference_where_almost_nothing_spikes(backend: Callable[[], Operations]) -> None:
    weights = with_large_prices(random_decoder(4))
    decoder = FunctionalDecoder(weights, operations=backend())
    check_against_reference(decoder, TOKENS)
    assert decoder.statistics.spikes_per_activation() < 0.3


@pytest.mark.parametrize("seed", range(2))
def test_large_enough_for_the_int8_kernel(seed: int) -> None:
    config = DecoderConfig(64, 64, 128, 1, 4, 2, 16, 64, 1e-5, 10000.0)
    check_against_reference(FunctionalDecoder(random_decoder(seed, config=config)), tokens_of(config, 40))


@BACKENDS
def test_batch_invariance(backend: Callable[[], Operations]) -> None:
    decoder = FunctionalDecoder(random_decoder(5), operations=backend())
    batch = torch.tensor([tokens_of(SMALL_CONFIG, 9, seed) for seed in range(4)])
    together = logits(decoder, batch)
    spikes = decoder.statistics.to_json()
    decoder.statistics.reset()
    assert torch.equal(together, torch.cat([logits(decoder, row[None]) for row in batch]))
    assert decoder.statistics.to_json() == spikes


@settings(max_examples=15)
@given(st.lists(st.integers(0, SMALL_CONFIG.vocab_size - 1), min_size=1, max_size=12), st.sampled_from(PARTS), st.data())
def test_any_split_into_steps_gives_the_same(tokens: list[int], parts: str, data: st.DataObject) -> None:
    decoder = FunctionalDecoder(random_decoder(6, parts=parts))
    whole = logits(decoder, torch.tensor([tokens]))
    cache, steps, done = decoder.new_cache(), list[torch.Tensor](), 0
    while done < len(tokens):
        count = data.draw(st.integers(1, len(tokens) - done))
        steps.append(logits(decoder, torch.tensor([tokens[done : done + count]]), cache))
        done += count
    assert torch.equal(torch.cat(steps, 1), whole)


@BACKENDS
def test_ragged_slots_and_reordering(backend: Callable[[], Operations]) -> None:
    weights = random_decoder(7)
    decoder, reference = FunctionalDecoder(weights, operations=backend()), IntegerDecoder(weights)
    first, second, following = TOKENS[:3], TOKENS[3:10], TOKENS[10:14]
    cache = decoder.new_cache(3)
    logits(decoder, torch.tensor([first]), cache, slots=[2])
    logits(decoder, torch.tensor([second]), cache, slots=[0])
    both = logits(decoder, torch.tensor([following, following]), cache, slots=[2, 0])
    assert equal(both[0], reference.forward(first + following)[-4:])
    assert equal(both[1], reference.forward(second + following)[-4:])
    cache.reorder([2, 2, 0])
    assert cache.lengths == [7, 7, 11]
    last = logits(decoder, torch.tensor([[1], [2], [3]]), cache, last_only=True)
    for row, tokens in enumerate([[*first, *following, 1], [*first, *following, 2], [*second, *following, 3]]):
        assert equal(last[row], reference.forward(tokens)[-1:])


@BACKENDS
def test_padding_changes_nothing(backend: Callable[[], Operations]) -> None:
    weights = random_decoder(13)
    padded, alone = (FunctionalDecoder(weights, operations=backend()) for _ in range(2))
    prompts, following = [TOKENS[:6], TOKENS[6:8], TOKENS[8:12]], TOKENS[12:14]
    cache, caches = padded.new_cache(3), [alone.new_cache() for _ in prompts]
    ids = torch.tensor([[*prompt, *[60] * (6 - len(prompt))] for prompt in prompts])
    every = logits(padded, ids, cache, valid=[6, 2, 4])
    for row, prompt in enumerate(prompts):
        assert torch.equal(every[row, : len(prompt)], logits(alone, torch.tensor([prompt]), caches[row])[0])
    assert cache.lengths == [6, 2, 4]
    for token in following:  # the second sequence has ended
        last = logits(padded, torch.tensor([[token], [59], [token]]), cache, valid=[1, 0, 1], last_only=True)
        for row in (0, 2):
            assert torch.equal(last[row], logits(alone, torch.tensor([[token]]), caches[row], last_only=True)[0])
    assert cache.lengths == [8, 2, 6]
    resumed = logits(padded, torch.tensor([following]), cache, slots=[1])
    assert torch.equal(resumed, logits(alone, torch.tensor([following]), caches[1]))
    assert padded.statistics.to_json() == alone.statistics.to_json()


def test_last_valid_token_and_a_full_sequence_beside_a_growing_one() -> None:
    decoder = FunctionalDecoder(random_decoder(14))
    ids = torch.tensor([TOKENS[:5], [*TOKENS[:2], 0, 0, 0]])
    last = logits(decoder, ids, valid=[5, 2], last_only=True)
    assert torch.equal(last[1], logits(decoder, torch.tensor([TOKENS[:2]]), last_only=True)[0])
    cache = decoder.new_cache(2)
    logits(decoder, torch.zeros(1, SMALL_CONFIG.max_positions, dtype=torch.long), cache, slots=[0])
    first = logits(decoder, torch.tensor([[0], [3]]), cache, valid=[0, 1])
    assert torch.equal(first[1], logits(decoder, torch.tensor([[3]]))[0])


def test_last_only_is_the_last(threads: None) -> None:
    decoder = FunctionalDecoder(random_decoder(8))
    ids = torch.tensor([TOKENS, TOKENS[::-1]])
    assert torch.equal(logits(decoder, ids, last_only=True), logits(decoder, ids)[:, -1:])


def test_thread_invariance(threads: None) -> None:
    decoder = FunctionalDecoder(random_decoder(9))
    results = []
    for count in (1, 2, 1):
        torch.set_num_threads(count)
        results.append(logits(decoder, torch.tensor([TOKENS])))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_statistics() -> None:
    weights = random_decoder(10)
    decoder, reference = FunctionalDecoder(weights), IntegerDecoder(weights)
    assert decoder.statistics.spikes_per_activation() == 0.0
    logits(decoder, torch.tensor([TOKENS[:7]]))
    record = reference.step(TOKENS[:7], reference.new_cache()).record
    figures, config = decoder.statistics.to_json(), weights.config
    shapes = [config.sites[index].shape for index in range(len(config.sites))]
    operations = sum(site.coded.spikes.sum() * outputs for site, (_, outputs) in zip(record.sites, shapes, strict=True))
    assert figures["tokens"] == 7
    assert figures["spikes_per_activation"] == pytest.approx(operations / (7 * weights.parameters))
    assert figures["query_spikes_per_value"] == pytest.approx(sum(a.query_spikes.sum() for a in record.attention) / (7 * 2 * 4 * 8))
    pairs = 2 * 4 * 7 * 8 // 2
    assert figures["probability_spikes_per_pair"] == pytest.approx(sum(a.probability_spikes.sum() for a in record.attention) / pairs)
    assert figures["value_rows_read"] == pytest.approx(sum(a.probability_keys.sum() for a in record.attention) / pairs)
    assert list(figures["spikes_per_input_by_site"])[-1] == "head"


def test_bad_ids_and_a_full_context_are_refused() -> None:
    decoder = FunctionalDecoder(random_decoder(11))
    with pytest.raises(SimulationError, match="empty prompt"):
        decoder.forward(torch.zeros(1, 0, dtype=torch.long))
    for bad in (-1, SMALL_CONFIG.vocab_size):
        with pytest.raises(SimulationError, match="outside the vocabulary of 61"):
            decoder.forward(torch.tensor([[0, bad]]))
    cache = decoder.new_cache()
    decoder.forward(torch.zeros(1, SMALL_CONFIG.max_positions, dtype=torch.long), cache)
    with pytest.raises(SimulationError, match="65 tokens exceed the context of 64"):
        decoder.forward(torch.tensor([[0]]), cache)
