"""The controller of a vector tile runs the compiler's list: its lines are what is loaded, and others are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nano_chip import program

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.loader import OPERATIONS, load_writes

INSTRUCTIONS = 2


def loaded(tile: int) -> list[tuple[str, int]]:
    """Operation and size of the instructions that a tile is given."""
    words = [int(data) for at, unit, _, data in load_writes(program()) if (at, unit) == (tile, INSTRUCTIONS)]
    return [(OPERATIONS[word & 15], word >> 4 & 0x7FFF) for word in words]


def test_every_stage_gets_its_list() -> None:
    for stage in program().stages:
        lines = [line.split() for line in stage.program]
        names = ["receive-residual" if line[:2] == ["receive", "residual"] else line[0] for line in lines]
        sizes = [int(line[-1]) if line[-1].isdigit() else 0 for line in lines]
        flits = [-(-size // 2) if name == "receive" else size for name, size in zip(names, sizes, strict=True)]
        assert loaded(stage.vector_tile) == list(zip(names, flits, strict=True))


@pytest.mark.parametrize("line", ["halt", "norm", "norm x", "encode nothing 128", "receive head 2", "add", "attend 3", "norm 128"])
def test_a_line_that_is_no_instruction_of_the_stage_is_refused(line: str) -> None:
    stages = program().stages
    forged = replace(stages[1], program=(*stages[1].program, line))  # a third norm has no gains
    with pytest.raises(SimulationError, match=f"stage 1 of the program has the instruction '{line}'"):
        load_writes(replace(program(), stages=(stages[0], forged, *stages[2:])))
