"""Every on-chip memory has counters, a size and a part of the account."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.energy import Memory, account, chip_memories, load_constants
from neuromorphic_llm.energy.constants import sram_byte_area
from neuromorphic_llm.energy.memories import Banks, reference_memories
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation.counters import MEMORY_COUNTERS, Counters

NC2 = load_spec("nc2")
PROGRAM = compile_network(random_decoder(3, bias=True), load_spec("nano"))
USES = PROGRAM.report["sram_bytes_by_use"]
READ_ONLY = {"rotary_tables", "output_parameters", "routing_tables"}


def test_every_memory_of_the_compiler_has_read_and_write_counters() -> None:
    names = {field.name for field in fields(Counters)}
    assert set(MEMORY_COUNTERS) == set(USES) == set(chip_memories(PROGRAM))
    used = [counter for pair in MEMORY_COUNTERS.values() for counter in pair if counter is not None]
    assert len(used) == len(set(used)) and set(used) <= names
    assert {memory for memory, (_, written) in MEMORY_COUNTERS.items() if written is None} == READ_ONLY
    assert {name for name in names if "_bits_" in name} == {*used, "dram_bits_read"}  # and no counter belongs to none


@pytest.mark.parametrize("memory", MEMORY_COUNTERS)
def test_every_counter_is_priced(memory: str) -> None:
    memories = chip_memories(PROGRAM)
    silent = account(Counters(), PROGRAM.spec, memories, 0.0)
    assert silent.chip_energy_j.nominal == 0.0
    for counter in MEMORY_COUNTERS[memory]:
        if counter is not None:
            energy = account(Counters(**{counter: 1000}), PROGRAM.spec, memories, 0.0)
            assert energy.chip_energy_j.nominal >= 1000 * memories[memory].bit(load_constants()).nominal


@pytest.mark.parametrize("bias", [False, True])
def test_sizes_by_hand(bias: bool) -> None:
    """SMALL_CONFIG on nano: 24 tiles, the host, 5 vector tiles with two engines each, 18 synapse tiles."""
    program = compile_network(random_decoder(3, bias=bias), load_spec("nano"))
    regions = [region for stage in program.stages for site in stage.regions for region in site]
    with_bias = [region for region in regions if program.weights.site(region.site).bias is not None]
    assert bool(with_bias) == bias
    routes = max(sum(mask != 0 for mask in masks) for masks in program.route_masks.T.tolist())
    entry_bits = 5 + len(f"{len(program.route_sources):b}")
    widest = max(region.columns for region in regions)
    assert chip_memories(program) == {
        "vector_memory": Memory(32768, 5),
        "key_value": Memory(65536, 10),
        "attention_scores": Memory(64 * (3 * 2 + 2), 10),
        "rotary_tables": Memory(64 * 2 * 8, 5),
        "event_banks": Memory(2 * 48 // 8, 2 * 5),
        "axon": Memory(2 * 48 * 14 // 8, 18),
        "accumulators": Memory(4 * widest, 18, registers=True),
        "output_parameters": Memory(max([2 * widest, *(6 * region.columns for region in with_bias)]), 18),
        "routing_tables": Memory(math.ceil(routes * entry_bits / 8), 24),
    }


@pytest.mark.parametrize(("bits", "scaled"), [(8, True), (16, False)])
def test_sizes_of_a_reference_by_hand(bits: int, scaled: bool) -> None:
    """A tile holds so many columns as the site with the fewest inputs would fill it with."""
    spec = load_spec("nano").with_fields({"vector.kv_bytes_per_engine": 1001})
    held = spec.synapse.crossbars * 64 * 64 // 2
    context = 1001 // (2 * 8 + 1)
    expected = {
        "vector_memory": Memory(32768, 5),
        "key_value": Memory(1001 * bits // 8, 10),
        "attention_scores": Memory(context * (3 * 2 + bits // 8), 10),
        "rotary_tables": Memory(context * 2 * 8, 5),
    }
    if scaled:
        expected["output_parameters"] = Memory(2 * math.ceil(held / 32), 18)
    assert reference_memories(SMALL_CONFIG, spec, bits, scaled, Banks()) == expected


def test_memories_hold_what_the_program_uses() -> None:
    """Memories are as large as the largest of their kind, so all together hold at least the bytes in use."""
    for use, memory in chip_memories(PROGRAM).items():
        assert memory.size_bytes * memory.count >= USES[use] > 0, use
    assert chip_memories(PROGRAM)["axon"].size_bytes == 2 * SMALL_CONFIG.intermediate_size * 14 // 8


def test_bit_of_a_banked_memory_by_hand() -> None:
    """256 KB in 32 banks of 8 KB: 10 pJ for 64 bits at 45 nm, and the side of 32 x 8,192 x 1.44 um2 of wire at 89 fJ per bit and mm."""
    bit = Memory(262144, 160, bank_bytes=8192).bit(load_constants())
    assert bit.nominal == pytest.approx(10e-12 / 64 * 0.386 + 89e-15 * math.sqrt(0.262144 * 1.44), rel=1e-9, abs=0)
    assert bit.low == pytest.approx(10e-12 / 64 * 0.239 + 40.4e-15 * math.sqrt(0.262144 * 0.856), rel=1e-9, abs=0)
    assert bit.high == pytest.approx(10e-12 / 64 * 0.72 + 178e-15 * math.sqrt(0.262144 * 2.30), rel=1e-9, abs=0)


@pytest.mark.parametrize("bank_bytes", [8192, 8193, 1 << 20])
def test_a_memory_that_fits_into_a_bank_has_no_wires(bank_bytes: int) -> None:
    constants, whole = load_constants(), Memory(8192, 3)
    banked = Memory(8192, 3, bank_bytes=bank_bytes)
    assert banked.banks == 1 and banked.bit(constants) == whole.bit(constants) and banked.leakage(constants) == whole.leakage(constants)


def test_banks_are_whole() -> None:
    """One byte more than two banks takes three, all of which leak."""
    constants, banked = load_constants(), Memory(2 * 512 + 1, 2, bank_bytes=512)
    assert banked.banks == 3
    assert banked.leakage(constants) == Memory(3 * 512, 2).leakage(constants)
    assert banked.side(constants).nominal == pytest.approx(math.sqrt(3 * 512 * 4.41e-12))


def test_area_of_a_byte() -> None:
    """The table, a power law within it, its ends beyond; tiny banks need more area, and so longer wires."""
    constants = load_constants()
    for size, area in ((1, 4.41e-12), (512, 4.41e-12), (1024, (4.41e-12 * 2.03e-12) ** 0.5), (8192, 1.44e-12), (1 << 20, 1.44e-12)):
        assert sram_byte_area(constants, size).nominal == pytest.approx(area, rel=1e-9, abs=0)
    with pytest.raises(ValueError, match="at least 1 byte"):
        sram_byte_area(constants, 0)
    prices = [Memory(262144, 1, bank_bytes=bank).bit(constants).nominal for bank in (512, 2048, 8192, 32768, 262144)]
    assert prices[0] > prices[1] < prices[2] < prices[3] < prices[4]


def test_banks_of_a_chip() -> None:
    """Only the vector tiles' memories have them, and registers never do."""
    banked = {name: memory.bank_bytes for name, memory in chip_memories(replace(PROGRAM, spec=NC2)).items()}
    assert {name for name, size in banked.items() if size} == {"vector_memory", "key_value", "attention_scores", "rotary_tables"}
    assert not any(memory.bank_bytes for memory in chip_memories(PROGRAM).values())
    assert Memory(1 << 20, 1, registers=True, bank_bytes=512).bit(load_constants()) == load_constants()["register_bit"].value


def test_an_encoder_by_elements_has_an_event_bank_for_each_phase() -> None:
    """14 phases; the widest site has 48 inputs, that of the head 32. Nothing else of the report changes."""
    by_elements = compile_network(random_decoder(3, bias=True), load_spec("nano").with_fields({"vector.encoder": "element"}))
    before, after = (chip_memories(program)["event_banks"] for program in (PROGRAM, by_elements))
    assert (before.size_bytes, after.size_bytes, before.count, after.count) == (12, 12, 2 * 5, 14 * 5)
    uses = by_elements.report["sram_bytes_by_use"]
    assert (USES["event_banks"], uses["event_banks"]) == (2 * (2 * 12 + 8), 14 * (2 * 12 + 8))
    assert {name for name in USES if uses[name] != USES[name]} == {"event_banks"}
