"""Networks after programming: seeded, recorded, the same for every engine, and unchanged without noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromorphic_llm.conversion.programming import program_cells
from neuromorphic_llm.devices.cells import Cell
from neuromorphic_llm.devices.noise import PROGRAMMING_NOISES
from neuromorphic_llm.errors import ConversionError, UsageError
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights


def network(weights: DecoderWeights | None = None) -> SpikingNetwork:
    return SpikingNetwork(weights or random_decoder(3), provenance={"model": "random"}, tokenizer_files={"a.json": b"1"})


def weights_of(network: SpikingNetwork) -> list[np.ndarray]:
    return [network.weights.site(site.name).weight for site in network.weights.config.sites]


def test_every_site_is_programmed_from_its_own_seed() -> None:
    before = network()
    after = program_cells(before, "rram", scale=0.5, seed=9)
    noise = PROGRAMMING_NOISES["rram"]
    for index, (old, new) in enumerate(zip(weights_of(before), weights_of(after), strict=True)):
        np.testing.assert_array_equal(new, noise.programmed(old, Cell(), np.random.default_rng((9, index)), 0.5))
        assert (new != old).any()
    assert after.provenance == {"model": "random", "programming_noise": {"name": "rram", "scale": 0.5, "seed": 9}}
    assert after.tokenizer_files == before.tokenizer_files
    assert after.stored_hash == ""
    assert after.parts == before.parts
    assert after.content_hash != before.content_hash
    np.testing.assert_array_equal(after.weights.embedding, before.weights.embedding)


def test_other_seeds_and_noises_give_other_weights() -> None:
    found = [program_cells(network(), "pcm"), program_cells(network(), "pcm", seed=1), program_cells(network(), "rram")]
    assert len({weights_of(each)[0].tobytes() for each in found}) == 3
    np.testing.assert_array_equal(weights_of(found[0])[0], weights_of(program_cells(network()))[0])
    assert found[0].provenance["programming_noise"] == {"name": "pcm", "scale": 1.0, "seed": 0}


def test_without_noise_the_network_stays() -> None:
    before = network()
    after = program_cells(before, scale=0.0)
    assert all(after.weights.site(site.name) is before.weights.site(site.name) for site in before.weights.config.sites)


def test_engines_share_the_programmed_weights(tmp_path: Path) -> None:
    programmed = program_cells(network(), seed=4)
    programmed.save(tmp_path / "network")
    loaded = SpikingNetwork.load(tmp_path / "network")
    assert loaded.provenance == programmed.provenance
    expected = IntegerDecoder(programmed.weights).forward([1, 2, 3])
    logits = loaded.functional().forward(torch.tensor([[1, 2, 3]]))
    assert isinstance(logits, torch.Tensor)
    np.testing.assert_array_equal(logits[0].numpy(), expected)
    assert (expected != IntegerDecoder(network().weights).forward([1, 2, 3])).any()


def test_groups_of_4_bit_weights_are_no_such_products_any_more() -> None:
    def grouped(_site: Site, weights: LinearWeights) -> LinearWeights:
        return replace(weights, group_multiplier=np.ones((len(weights.weight), 1), np.uint8))

    after = program_cells(network(random_decoder(3).with_sites(grouped)))
    assert all(after.weights.site(site.name).group_multiplier is None for site in after.weights.config.sites)


def test_an_accumulator_that_could_overflow_is_refused() -> None:
    def wide(_site: Site, weights: LinearWeights) -> LinearWeights:
        return replace(weights, weight=np.full((len(weights.weight), 1700), 110, np.int8))  # 1700 * 109 * 12288 > 2^31

    with pytest.raises(ConversionError, match=r"layers.0.qkv: an accumulator could reach .*; use less noise, or fewer phases"):
        program_cells(network(random_decoder(3).with_sites(wide)))


@pytest.mark.parametrize("scale", [-0.1, float("inf"), float("nan")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(UsageError, match="must be a finite number from 0 on"):
        program_cells(network(), scale=scale)


def test_an_unknown_noise_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown programming noise 'pmc'; did you mean 'pcm'\?"):
        program_cells(network(), "pmc")
