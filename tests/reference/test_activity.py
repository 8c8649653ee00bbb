"""Activity traces from records."""

import numpy as np
import pytest

from neuromorphic_llm.reference.activity import events, most_in_sets, sets_of_heads, spikes_per_activation, trace_fields
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulation.trace import ActivityTrace
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code


def test_events_start_with_each_tokens_first_phase() -> None:
    train = get_code("signed-digit").encode(np.array([[8, 1, 0, -9, 1], [1, 0, 0, 0, 1]]), np.zeros(5))
    counts = events(train, 2)
    assert counts.shape == (2, 4, 3)
    assert counts[0].tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert counts[1].tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("code", SPIKE_CODES)
def test_a_trace_does_not_depend_on_the_steps(code: str) -> None:
    weights = random_decoder(3, code=code)
    decoder, tokens = IntegerDecoder(weights), [5, 17, 0, 42, 42, 9]

    def fields(splits: list[int]) -> dict[str, np.ndarray]:
        cache, start, records = decoder.new_cache(), 0, []
        for end in splits:
            records.append(decoder.step(tokens[start:end], cache, full=True).record)
            start = end
        return trace_fields(weights.config, records, 16)

    whole, steps = fields([6]), fields([1, 2, 5, 6])
    assert whole.keys() == steps.keys()
    for name, value in whole.items():
        assert value.shape == steps[name].shape, name
        assert (value == steps[name]).all(), name


def test_a_trace_holds_the_spikes_of_the_record() -> None:
    weights = random_decoder(3)
    decoder = IntegerDecoder(weights)
    cache = decoder.new_cache()
    prompt = decoder.step([1, 2, 3], cache, all_logits=False, full=True).record
    decode = decoder.step([4], cache, full=True).record
    trace = ActivityTrace(prompt_tokens=3, **trace_fields(weights.config, [prompt, decode], 16))
    assert trace.context.tolist() == [1, 2, 3, 4]
    assert trace.logits_wanted.tolist() == [False, False, True, True]
    assert trace.phases[:, -1].tolist()[:2] == [0, 0]
    for site in range(weights.config.head.index):
        spikes = [*prompt.sites[site].coded.spikes.sum(axis=1), *decode.sites[site].coded.spikes.sum(axis=1)]
        assert trace.events[:, site].sum(axis=(1, 2)).tolist() == spikes
        assert trace.phases[:, site].tolist() == [*prompt.sites[site].coded.phases, *decode.sites[site].coded.phases]
    assert trace.query_spikes.shape == (4, 2, 4)
    assert trace.query_spikes[3, 1].tolist() == decode.attention[1].query_spikes[0].tolist()
    assert (trace.probability_keys <= trace.context[:, None, None]).all()
    assert (trace.probability_keys <= trace.probability_spikes).all()


def test_sets_of_heads_do_not_cross_groups() -> None:
    assert [(heads.start, heads.stop) for heads in sets_of_heads(6, 3, 2)] == [(0, 2), (2, 3), (3, 5), (5, 6)]
    assert [(heads.start, heads.stop) for heads in sets_of_heads(4, 2, 5)] == [(0, 2), (2, 4)]


def test_a_set_takes_as_long_as_its_head_with_most_spikes() -> None:
    """A token, a group of three heads, four places."""
    spikes = np.array([[[2, 0, 1, 0], [1, 0, 3, 0], [0, 0, 0, 1]]], np.int8)
    for lanes, steps, places in ((1, [3, 4, 1], [2, 2, 1]), (2, [5, 0, 1], [2, 0, 1]), (3, [6, 0, 0], [3, 0, 0])):
        found = most_in_sets(spikes, 3, lanes)
        assert [each.tolist() for each in found] == [[steps], [places]]


def test_sites_that_do_not_spike_have_no_phases() -> None:
    weights = random_decoder(3, parts="feed-forward")
    decoder = IntegerDecoder(weights)
    fields = trace_fields(weights.config, [decoder.step([1, 2], decoder.new_cache(), full=True).record], 16)
    assert (fields["phases"] > 0).all(axis=0).tolist() == [False, False, True, True] * 2 + [False]
    assert not fields["query_phases"].any()


def test_mean_spikes_are_synaptic_operations_per_weight() -> None:
    weights = random_decoder(3)
    decoder = IntegerDecoder(weights)
    record = decoder.step([7, 8, 9], decoder.new_cache()).record
    operations = sum(int(site.coded.spikes.sum()) * weights.site(index).weight.shape[0] for index, site in enumerate(record.sites))
    assert spikes_per_activation(weights.config, [record]) == operations / (3 * weights.parameters)
