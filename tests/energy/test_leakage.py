"""Leakage of a gated chip: tiles that are on, tiles that are off, and wake-ups."""

from __future__ import annotations

import pytest

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.account import account
from neuromorphic_llm.energy.constants import Range
from neuromorphic_llm.energy.memories import Memory
from neuromorphic_llm.simulation.counters import Counters

PLAIN = ChipSpec("test").with_fields({"mesh.width": 4, "mesh.height": 2, "mesh.vector_period": 4, "mesh.vector_offset": 2})
GATED = PLAIN.with_fields({"power.gating": "tiles"})
MEMORIES = {  # of 2 vector tiles and 5 synapse tiles, and of 8 routers
    "vector_memory": Memory(65536, 2),
    "event_banks": Memory(128, 4),
    "key_value": Memory(262144, 8, bank_bytes=8192),
    "attention_scores": Memory(8192, 8),
    "rotary_tables": Memory(32768, 2),
    "axon": Memory(2048, 5),
    "accumulators": Memory(1024, 5, registers=True),
    "output_parameters": Memory(4096, 5),
    "routing_tables": Memory(64, 8),
}
VECTOR_BITS = 8 * (65536 + 2 * 128 + 4 * 262144 + 4 * 8192 + 32768)
SYNAPSE_BITS, REGISTER_BITS, ROUTER_BITS = 8 * (2048 + 4096), 8 * 1024, 8 * 8 * 64
LOGIC, SRAM, REGISTER = 1.0e-4, 1.0e-11, 2.0e-11


def test_by_hand() -> None:
    """A thousand cycles of 2 ns: one vector tile on for 600 of them, synapse tiles for 900 together; a vector tile and two others wake."""
    counts = Counters(vector_tile_cycles_on=600, synapse_tile_cycles_on=900, vector_tile_wakes=1, synapse_tile_wakes=2, cycles=1000)
    idle, retained = 0.16 + 0.84 * 0.045, 0.146
    vector, synapse = (1000 * 2, 600), (1000 * 5, 900)
    cycles = LOGIC * 1000 + ROUTER_BITS * SRAM * 1000  # the host tile, routing tables
    for (every, on), bits in ((vector, VECTOR_BITS * SRAM), (synapse, SYNAPSE_BITS * SRAM + REGISTER_BITS * REGISTER)):
        cycles += LOGIC * (on + idle * (every - on)) + bits * (on + retained * (every - on))
    wakes = 3 * 0.84 * 1.28e-10 + 1.0e-16 * (VECTOR_BITS + 2 * (SYNAPSE_BITS + REGISTER_BITS))
    assert account(counts, GATED, MEMORIES, 2.0e-6).parts["leakage"].nominal == pytest.approx(2.0e-9 * cycles + wakes, rel=1e-9, abs=0)


@pytest.mark.parametrize("gating", ["none", "tiles"])
def test_further_adders_and_comparators_leak_with_their_tile(gating: str) -> None:
    """Two further heads of 64 keys and 32 lanes in each of four engines; norm, add and flits, outputs and scores of the engines."""
    plain = PLAIN.with_fields({"power.gating": gating})
    larger = plain.with_fields({"vector.head_lanes": 3, "vector.maximum": "written"})
    watts = 4 * 2 * (64 + 32) * 2.2e-7 + (2 * 32 + 2 + 4 * (32 + 64)) * 4.1e-8
    counts = Counters(vector_tile_cycles_on=600 if plain.gated else 0)
    after, before = (account(counts, spec, MEMORIES, 2.0e-6).parts["leakage"].nominal for spec in (larger, plain))
    cycles = 600 + 0.045 * (2 * 1000 - 600) if plain.gated else 2 * 1000
    assert after - before == pytest.approx(2.0e-9 * cycles * watts, rel=1e-6, abs=0)


def leakage(counts: Counters, gating: str) -> Range:
    """Leakage in a thousand cycles of 2 ns."""
    return account(counts, PLAIN.with_fields({"power.gating": gating}), MEMORIES, 2.0e-6).parts["leakage"]


def test_routers_by_hand() -> None:
    """Routers that are off beside gated tiles, and one of 7 that is on for 300 cycles and wakes twice."""
    idle = leakage(Counters(), "all").nominal
    off = 2.0e-9 * 0.16 * LOGIC * (1 - 0.045)
    assert leakage(Counters(), "tiles").nominal - idle == pytest.approx(off * 7 * 1000, rel=1e-9, abs=0)
    on = leakage(Counters(router_cycles_on=300, router_wakes=2), "all").nominal - idle
    assert on == pytest.approx(off * 300 + 2 * 0.16 * 1.28e-10, rel=1e-9, abs=0)


@pytest.mark.parametrize("gating", ["tiles", "all"])
def test_everything_on_leaks_as_much_as_without_gating(gating: str) -> None:
    counts = Counters(vector_tile_cycles_on=2 * 1000, synapse_tile_cycles_on=5 * 1000, router_cycles_on=7 * 1000 * (gating == "all"))
    assert leakage(counts, gating).to_json() == pytest.approx(leakage(Counters(), "none").to_json(), rel=1e-9, abs=0)


def test_other_parts_are_those_of_the_chip_without_gating() -> None:
    counts = Counters(vector_tile_wakes=3, conversions=5, vector_bits_read=7)
    gated, plain = (account(counts, spec, MEMORIES, 2.0e-6).parts for spec in (GATED, PLAIN))
    assert {name for name in plain if gated[name] != plain[name]} == {"leakage"}
    assert gated["leakage"].nominal < plain["leakage"].nominal
