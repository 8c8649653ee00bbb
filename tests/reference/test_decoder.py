"""The integer decoder as a whole."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import FAMILIES

from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.reference.decoder import IntegerDecoder, StepResult
from neuromorphic_llm.reference.linear import linear_events, scale_output
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.spikes.registry import SPIKE_CODES

from . import float_decoder

PARTS = ("all", "feed-forward", "attention")
TOKENS = np.random.default_rng(0).integers(0, SMALL_CONFIG.vocab_size, 20).tolist()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two arrays."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def without_prices(weights: DecoderWeights) -> DecoderWeights:
    """The same network with all stop tables zero."""

    def free(site):  # type: ignore[no-untyped-def]
        return replace(site, stop=np.zeros_like(site.stop))

    freed = weights.with_sites(lambda _, site: free(site))
    return replace(freed, layers=tuple(layer.replaced(query_stop=np.zeros_like(layer.query_stop)) for layer in freed.layers))


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(tuple(SPIKE_CODES)),
    st.sampled_from(PARTS),
    st.booleans(),
    st.lists(st.integers(0, SMALL_CONFIG.vocab_size - 1), min_size=1, max_size=12),
    st.data(),
)
def test_any_split_into_steps_gives_the_same(seed: int, code: str, parts: str, bias: bool, tokens: list[int], data: st.DataObject) -> None:
    decoder = IntegerDecoder(random_decoder(seed, code=code, parts=parts, bias=bias))
    whole = decoder.step(tokens, decoder.new_cache())
    cache, steps = decoder.new_cache(), list[StepResult]()
    while cache.length < len(tokens):
        count = data.draw(st.integers(1, len(tokens) - cache.length))
        steps.append(decoder.step(tokens[cache.length : cache.length + count], cache))
    assert (np.concatenate([step.logits for step in steps]) == whole.logits).all()
    assert whole.logits.dtype == np.int32
    for index, site in enumerate(whole.record.sites):
        parts_of_site = [step.record.sites[index].coded for step in steps]
        assert (np.concatenate([part.spikes for part in parts_of_site]) == site.coded.spikes).all()
        assert (np.concatenate([part.phases for part in parts_of_site]) == site.coded.phases).all()
    for index, layer in enumerate(whole.record.attention):
        for name, value in vars(layer).items():
            parts_of_layer = [getattr(step.record.attention[index], name) for step in steps]
            if name == "key_spikes":  # a step has as many positions as it sees
                parts_of_layer = [np.pad(part, ((0, 0), (0, 0), (0, value.shape[2] - part.shape[2]))) for part in parts_of_layer]
            assert (np.concatenate(parts_of_layer) == value).all()


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("code", SPIKE_CODES)
def test_spike_events_give_every_accumulator(code: str, parts: str) -> None:
    weights = random_decoder(5, code=code, parts=parts, bias=True)
    record = IntegerDecoder(weights).step(TOKENS[:4], IntegerDecoder(weights).new_cache(), full=True).record
    spiking = 0
    for index, site in enumerate(record.sites):
        assert site.accumulators is not None
        assert (scale_output(site.accumulators, site.coded.exponent, weights.site(index)) == site.output).all()
        assert (site.train is not None) == weights.site(index).spiking
        if site.train is not None:
            spiking += 1
            assert (linear_events(site.train, weights.site(index)) == site.accumulators).all()
    assert spiking == {"all": 9, "feed-forward": 4, "attention": 4}[parts]


@pytest.mark.parametrize(("code", "least"), [("signed-digit", 0.9995), ("bit-planes", 0.997), ("rate", 0.965), ("first-spike", 0.75)])
def test_without_prices_the_codes_are_close_to_floating_point(code: str, least: float) -> None:
    for seed in range(3):
        weights = without_prices(random_decoder(seed, code=code, bias=True))
        expected, hidden = float_decoder.forward(weights, TOKENS)
        result = IntegerDecoder(weights).step(TOKENS, IntegerDecoder(weights).new_cache())
        assert cosine(result.logits, expected) > least
        assert all(cosine(ours, theirs) > least for ours, theirs in zip(result.record.hidden, hidden, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_close_to_floating_point(family: str) -> None:
    for seed in range(2):
        weights = without_prices(random_decoder(seed, config=FAMILIES[family], bias=True))
        expected, hidden = float_decoder.forward(weights, TOKENS)
        result = IntegerDecoder(weights).step(TOKENS, IntegerDecoder(weights).new_cache())
        assert cosine(result.logits, expected) > 0.9995
        assert np.abs(result.logits * 2.0**-weights.formats.logit - expected).max() < 0.05 * np.abs(expected).max()
        assert all(cosine(ours, theirs) > 0.9995 for ours, theirs in zip(result.record.hidden, hidden, strict=True))


@pytest.mark.parametrize("family", ["mistral", "gemma3", "gpt2", "gptneox"])
def test_families_in_steps(family: str) -> None:
    decoder = IntegerDecoder(random_decoder(3, config=FAMILIES[family]))
    cache, steps = decoder.new_cache(), list[np.ndarray]()
    for first, last in ((0, 3), (3, 4), (4, 13), (13, 20)):
        steps.append(decoder.step(TOKENS[first:last], cache).logits)
    assert (np.concatenate(steps) == decoder.forward(TOKENS)).all()


@pytest.mark.parametrize("parts", PARTS)
def test_with_prices_the_decoder_stays_close_to_floating_point(parts: str) -> None:
    for seed in range(3):
        weights = random_decoder(seed, parts=parts)
        expected, _ = float_decoder.forward(weights, TOKENS)
        assert cosine(IntegerDecoder(weights).forward(TOKENS), expected) > 0.98


def test_dense_sites_agree_with_a_network_that_does_not_spike() -> None:
    weights = random_decoder(0)
    dense = weights.with_sites(lambda _, site: replace(site, spiking=False))
    dense = replace(dense, layers=tuple(layer.replaced(attention_spiking=False) for layer in dense.layers))
    expected, _ = float_decoder.forward(dense, TOKENS)
    assert cosine(IntegerDecoder(dense).forward(TOKENS), expected) > 0.9995


def test_logits_of_the_last_token_only() -> None:
    decoder = IntegerDecoder(random_decoder(0))
    last = decoder.step(TOKENS, decoder.new_cache(), all_logits=False)
    assert (last.logits == decoder.forward(TOKENS)[-1:]).all()
    assert len(last.record.sites[-1].coded.a) == 1


def test_greedy_generation_follows_the_logits() -> None:
    decoder = IntegerDecoder(random_decoder(1))
    tokens = TOKENS[:5]
    generated = decoder.generate_greedy(tokens, 8)
    for chosen in generated:
        assert int(decoder.forward(tokens)[-1].argmax()) == chosen
        tokens = [*tokens, chosen]
    assert len(set(generated)) > 1


def test_the_lowest_index_wins_among_equal_logits() -> None:
    weights = random_decoder(1)
    head = replace(weights.head, multiplier=np.zeros_like(weights.head.multiplier))
    assert IntegerDecoder(replace(weights, head=head)).generate_greedy([3], 2) == [0, 0]


def test_wrong_tokens_and_a_full_context_are_refused() -> None:
    decoder = IntegerDecoder(random_decoder(0))
    for tokens, message in (([], "at least one"), ([-1], "0..60"), ([61], "0..60")):
        with pytest.raises(UsageError, match=message):
            decoder.forward(tokens)
    cache = decoder.new_cache()
    decoder.step([1] * 64, cache, all_logits=False)
    with pytest.raises(SimulationError, match="64 positions"):
        decoder.step([1], cache)


def test_an_accumulator_beyond_32_bits_is_an_error() -> None:
    config = replace(SMALL_CONFIG, hidden_size=2048, layers=1)
    weights = random_decoder(0, config=config)
    full = replace(weights.head, weight=np.full_like(weights.head.weight, 127), stop=np.zeros(2048, np.int32))
    gain = np.full(2048, 2**31 - 1, np.int32)
    embedding = np.full_like(weights.embedding, 1000)
    layers = tuple(layer.replaced(output=_silent(layer.output), down=_silent(layer.down)) for layer in weights.layers)
    with pytest.raises(SimulationError, match="head exceeds 32 bits"):
        IntegerDecoder(replace(weights, head=full, final_gain=gain, embedding=embedding, layers=layers)).forward([0])


def _silent(site):  # type: ignore[no-untyped-def]
    """The same site with outputs zero."""
    return replace(site, multiplier=np.zeros_like(site.multiplier))
