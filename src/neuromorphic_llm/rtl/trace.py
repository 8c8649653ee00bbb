"""Waveforms of a run of the Verilated chip (docs/reference/rtl/verification.md, Lockstep)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.places import refuse_inside_artefact, temporary_name
from neuromorphic_llm.rtl.chip import RtlChip, Waveform

_BEFORE, _AFTER = 200, 20


class _EnoughError(Exception):
    """The cycles that were asked for are written."""


def around(cycle: int) -> range:
    """The cycles worth looking at where something is wrong in one."""
    return range(max(cycle - _BEFORE, 0), cycle + _AFTER)


def write_waveform(
    program: Program,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop: Sequence[int],
    path: Path,
    cycles: range,
    tile: int | None,
    seed: int,
) -> None:
    """Run again from reset and write the cycles, of one tile or of the whole chip, as VCD; a run that fails in them is written so far.

    Raises SimulationError if the run ends before the first of them, or the file cannot be written.
    """
    refuse_inside_artefact(path)
    chip = RtlChip(program, seed, trace=True)

    def watch(cycle: int) -> None:
        if cycle >= cycles.stop:
            raise _EnoughError

    scope = "" if tile is None else f"TOP.nmllm_chip_tb.chip.g_tile[{tile}]"
    temporary = path.with_name(temporary_name(path.name, "part"))
    try:
        with suppress(_EnoughError, SimulationError):  # a failed write shows in end_trace
            chip.run(prompts, max_new_tokens, stop, watch=watch, trace=Waveform(temporary, cycles.start, cycles.stop, scope))
        chip.end_trace()
        if not temporary.exists():
            raise SimulationError(f"{path} is not written: the run ended in cycle {chip.cycle:,}, before cycle {cycles.start:,}")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
