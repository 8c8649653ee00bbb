"""The controller of a vector tile runs the compiler's list: its instructions are what is loaded, with the parameters that they name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nano_chip import centred_program, program
from numpy.typing import NDArray

from neuromorphic_llm.chip.instruction import Instruction
from neuromorphic_llm.chip.instructions import Encode, KvWrite, Norm, operation_codes
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.loader import load_writes

INSTRUCTIONS, PARAMETERS = 2, 3


def loaded(chip_program: Program, stage: int) -> tuple[list[int], NDArray[np.int32]]:
    """Instruction words of a stage's vector tile, and its parameter memory, [words, lanes]."""
    tile = chip_program.stages[stage].vector_tile
    writes = [(unit, int(data)) for at, unit, _, data in load_writes(chip_program) if at == tile]
    words, memory = ([data for its, data in writes if its == unit] for unit in (INSTRUCTIONS, PARAMETERS))
    return words, np.array(memory, "<u8").view("<i4").reshape(-1, chip_program.spec.vector.lanes)


def test_every_stage_gets_its_list() -> None:
    names = list(operation_codes())
    for number, stage in enumerate(program().stages):
        lines = [str(instruction).split() for instruction in stage.program]
        expected = ["receive-residual" if line[:2] == ["receive", "residual"] else line[0] for line in lines]
        sizes = [int(line[-1]) if line[-1].isdigit() else 0 for line in lines]
        flits = [-(-size // 2) if name == "receive" else size for name, size in zip(expected, sizes, strict=True)]
        words, _ = loaded(program(), number)
        assert [(names[word & 15], word >> 4 & 0x7FFF) for word in words] == list(zip(expected, flits, strict=True))


def named(chip_program: Program, instruction: Instruction, word: int) -> tuple[int, int, NDArray[np.int32]] | None:
    """First word, first lane and numbers of the parameter that an instruction names; None if it names none."""
    base, route, weights = word >> 19 & 0xFFFF, word >> 35 & 0xFFFF, chip_program.weights
    if isinstance(instruction, Norm):
        return base, 0, weights.parameter(instruction.gain)
    if isinstance(instruction, Encode):
        return base, 0, weights.site(instruction.site.name).stop
    if isinstance(instruction, KvWrite) and instruction.key_offset is not None:
        return route, instruction.first % chip_program.spec.vector.lanes, weights.parameter(instruction.key_offset).reshape(-1)
    return None


def test_instructions_find_the_parameters_that_they_name() -> None:
    found = 0
    for number, stage in enumerate(centred_program().stages):
        words, memory = loaded(centred_program(), number)
        for instruction, word in zip(stage.program, words, strict=True):
            if expected := named(centred_program(), instruction, word):
                first, lane, values = expected
                assert memory[first:].reshape(-1)[lane : lane + len(values)].tolist() == values.tolist()
                found += 1
    layers = centred_program().weights.config.layers
    assert found == 6 * layers + 2 + 2  # norms and sites of layers, those of the head, two key offsets


def test_a_gain_is_found_by_its_name() -> None:
    stage, layer = program().stages[0], program().weights.layers[0]
    other = {"layers.0.attention_gain": "layers.0.feed_forward_gain", "layers.0.feed_forward_gain": "layers.0.attention_gain"}
    instructions = tuple(replace(each, gain=other[each.gain]) if isinstance(each, Norm) else each for each in stage.program)
    words, memory = loaded(replace(program(), stages=(replace(stage, program=instructions), *program().stages[1:])), 0)
    bases = [word >> 19 & 0xFFFF for word in words if word & 15 == operation_codes()["norm"]]
    for base, gain in zip(bases, (layer.feed_forward_gain, layer.attention_gain), strict=True):
        assert memory[base:].reshape(-1)[: len(gain)].tolist() == gain.tolist()


def test_a_list_that_the_sequencer_cannot_hold_is_refused() -> None:
    stage = program().stages[0]
    long = replace(program(), stages=(replace(stage, program=stage.program * 2), *program().stages[1:]))
    with pytest.raises(SimulationError, match="room for 32 instructions of a stage, the program needs 34; use fewer blocks in a layer"):
        load_writes(long)
