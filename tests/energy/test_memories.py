"""Every on-chip memory has counters, a size and a part of the account."""

from __future__ import annotations

from dataclasses import fields

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.energy import account, chip_memories, load_constants
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation.counters import MEMORY_COUNTERS, Counters

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


def test_memories_hold_what_the_program_uses() -> None:
    """Memories are as large as the largest of their kind, so all together hold at least the bytes in use."""
    for use, memory in chip_memories(PROGRAM).items():
        assert memory.size_bytes * memory.count >= USES[use] > 0, use
    assert chip_memories(PROGRAM)["axon"].size_bytes == 2 * SMALL_CONFIG.intermediate_size * 14 // 8
