"""Random decoders are valid networks in a lively range."""

from dataclasses import replace

import numpy as np
import pytest

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.reference.activity import spikes_per_activation
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.linear import fold_scale
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

CONFIGS = (SMALL_CONFIG, replace(SMALL_CONFIG, heads=3, kv_heads=1, head_dim=16, hidden_size=40, intermediate_size=100, layers=1))


@pytest.mark.parametrize("config", CONFIGS)
def test_shapes_and_ranges(config) -> None:  # type: ignore[no-untyped-def]
    weights = random_decoder(0, config=config, bias=True)
    for index in range(len(config.sites)):
        site, (inputs, outputs) = weights.site(index), config.sites[index].shape
        assert site.weight.shape == (outputs, inputs)
        assert (site.weight.dtype, site.multiplier.dtype, site.stop.dtype) == (np.int8, np.int32, np.int32)
        assert np.abs(site.weight.astype(int)).max() == 127
        assert 2**15 <= site.multiplier.max() < 2**16
        assert site.stop.min() >= 0
        for code in SPIKE_CODES:
            assert np.abs(site.weight.astype(int)).sum(axis=1).max() * get_code(code).largest_value < 2**31


def test_activity_is_neither_dead_nor_saturated() -> None:
    weights = random_decoder(0)
    decoder = IntegerDecoder(weights)
    record = decoder.step(list(range(20)), decoder.new_cache(), full=True).record
    assert 1.2 < spikes_per_activation(weights.config, [record]) < 2.0
    for site in record.sites:
        assert site.output is not None
        assert 2**12 < np.abs(site.output).max() < 2**29
    for layer in record.attention:
        visible = np.arange(1, 21)[:, None]
        share = layer.probability_keys.sum() / (visible.sum() * weights.config.heads)
        assert 0.2 < share < 0.9


def test_a_seed_fixes_the_weights() -> None:
    one, same, other = random_decoder(7), random_decoder(7, code="rate", parts="attention"), random_decoder(8)
    assert (one.layers[1].down.weight == same.layers[1].down.weight).all()
    assert (one.head.stop == same.head.stop).all()
    assert (one.head.weight != other.head.weight).any()


def test_unknown_parts_and_codes_are_refused() -> None:
    with pytest.raises(UsageError, match="parts"):
        random_decoder(0, parts="head")
    with pytest.raises(UsageError, match="did you mean"):
        random_decoder(0, code="ratte")


@pytest.mark.parametrize("largest", [1.0, 2.0**-20, 65535.7 * 2.0**-16, 3.3e-5])
def test_the_largest_multiplier_uses_16_bits(largest: float) -> None:
    multiplier, shift = fold_scale(np.array([largest, largest / 3]), 12, 14)
    assert 2**15 <= multiplier[0] < 2**16
    assert np.allclose(multiplier * 2.0**-shift, np.array([largest, largest / 3]) * 4, rtol=5e-5)
