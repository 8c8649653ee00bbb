"""Rivals with several sequences in flight, by hand."""

from __future__ import annotations

import pytest

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy import RIVALS
from neuromorphic_llm.energy.array_time import TokenCycles, token_cycles
from neuromorphic_llm.energy.digital import ARRAYS, int8_reference, token_seconds
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.simulation.counters import Counters

SPEC = ChipSpec("tiny").with_fields({"mesh.width": 4, "mesh.height": 2, "mesh.vector_period": 4, "mesh.vector_offset": 2})
CONFIG = DecoderConfig(288, 64, 128, 2, 4, 2, 16, 512, 1e-5, 1e4)
LAYER = 8 + 64 + 8 + 32 + 8 + 16 + 16 + 32 + 2 * 16  # link cycles of qkv, output, gate/up, down; a head for each engine
TOTAL = 2 * LAYER + 8 + 1


@pytest.mark.parametrize(("sequences", "interval"), [(1, TOTAL), (2, TOTAL / 2), (3, LAYER), (31, LAYER)])
def test_time_from_token_to_token(sequences: int, interval: float) -> None:
    """Two layers and a head: two sequences share the time of a token, of more each waits for a layer."""
    assert token_cycles(CONFIG, 10, SPEC, 8, sequences).interval(CONFIG) == interval
    assert token_seconds(CONFIG, 10, SPEC, 8, sequences) == interval / SPEC.clock_hz


@pytest.mark.parametrize("name", RIVALS)
def test_only_leakage_depends_on_the_load(name: str) -> None:
    one, three = (RIVALS[name](CONFIG, 10, SPEC, sequences) for sequences in (1, 3))
    assert {part for part in one.parts if one.parts[part] != three.parts[part]} == {"leakage"}
    assert three.parts["leakage"].nominal < 0.7 * one.parts["leakage"].nominal
    with pytest.raises(ValueError, match="sequences must be at least 1, got 0"):
        RIVALS[name](CONFIG, 10, SPEC, 0)


def test_leakage_of_the_plain_array_is_that_of_the_time() -> None:
    one, three = (int8_reference(CONFIG, 10, SPEC, sequences).parts["leakage"].nominal for sequences in (1, 3))
    assert three / one == pytest.approx(LAYER / TOTAL)


def test_shares_of_the_time_in_which_tiles_work() -> None:
    """A site in each of nine tiles; the layers work all the time, and so do their vector tiles. Site and head wake for 20 cycles."""
    spec = SPEC.with_fields({"power.wake_cycles": 20})
    cycles = token_cycles(CONFIG, 10, spec, 8, 3)
    shares = cycles.working(CONFIG, spec)
    sites = [each + 20 for each in 2 * [8 + 64, 8 + 32, 8 + 16, 16 + 32] + [8 + 1]]
    assert shares["event_banks"] == min((2 * LAYER + 29) / (2 * LAYER), 1.0)
    assert shares["axon"] == pytest.approx(sum(sites) / (5 * LAYER))
    weights = 2 * [64 * 128, 64 * 64, 64 * 256, 128 * 64] + [64 * 288]
    assert shares["weights"] == pytest.approx(sum(a * b for a, b in zip(sites, weights, strict=True)) / (LAYER * sum(weights)))
    assert shares["logic"] == min((LAYER + 2 * LAYER + 29 + sum(sites)) / (8 * LAYER), 1.0)
    woken = cycles.with_wakes(Counters(), CONFIG, spec)
    assert (woken.vector_tile_wakes, woken.synapse_tile_wakes) == (1, 9)  # the head's, and one for each site
    alone = TokenCycles(cycles.sites, cycles.attention).with_wakes(Counters(), CONFIG, spec)
    assert (alone.vector_tile_wakes, alone.synapse_tile_wakes) == (3, 9)


def test_the_improved_array_gains_less_than_the_plain_one() -> None:
    """What is off leaks little, and work leaks the same for every token."""
    plain, improved = (
        [int8(CONFIG, 10, SPEC, number).parts["leakage"].nominal for number in (1, 3)]
        for int8 in (int8_reference, ARRAYS["int8_improved"].account)
    )
    assert 1 > improved[1] / improved[0] > plain[1] / plain[0]
