"""`nmllm cosim`: the Verilated chip beside the simulators, event by event."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import BosChoice, CommandRun, console, progress, status
from neuromorphic_llm.cli.options import Given
from neuromorphic_llm.cli.prompt import ParseSpecial, PromptedProgram, SequenceOptions, load_prompted
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.models.text_tokens import Bos

if TYPE_CHECKING:
    from neuromorphic_llm.rtl.lockstep import Difference, DifferenceFoundError, LockstepResult
    from neuromorphic_llm.simulation.recorded import RecordedRun

EXAMPLES = """
nmllm cosim programs/nano --prompt "Once upon a time" --max-new-tokens 4
nmllm cosim programs/nano --prompt "Once upon a time" --sequences 3 --max-new-tokens 4
nmllm cosim programs/nano --prompt "Once upon a time" --json result.json --trace difference.vcd
nmllm cosim programs/nano --prompt "A river" --max-new-tokens 1 --trace tile.vcd --trace-cycles 1000:1500 --trace-tile 3
"""


def command(
    run: CommandRun,
    program: Annotated[Path, typer.Argument(help="Program folder that `nmllm compile` wrote.")],
    asked: Given[SequenceOptions],
    trace: Annotated[Path | None, typer.Option(help="Write a VCD waveform around the first difference.", metavar="FILE")] = None,
    trace_cycles: Annotated[str | None, typer.Option(help="Cycles of the waveform, the last one excluded.", metavar="FROM:TO")] = None,
    trace_tile: Annotated[int | None, typer.Option(help="Waveform of this tile only (default: the whole chip).", min=0)] = None,
    bos: BosChoice = Bos.AUTO,
    parse_special: ParseSpecial = None,
) -> None:
    """Compare the chip's SystemVerilog with the simulators, cycle by cycle, up to the first difference."""
    options = asked.build(bos=bos, parse_special=parse_special)
    texts = options.texts()
    window = _window(trace, trace_cycles, trace_tile)
    run.outputs(files={"--trace": trace})
    from neuromorphic_llm.rtl.trace import around

    prompted = load_prompted(program, options, *texts)
    spec, stop = prompted.program.spec, prompted.stop
    if trace_tile is not None and trace_tile >= spec.topology.tiles:
        raise UsageError(f"--trace-tile {trace_tile}: the tiles of {spec.name} are 0 to {spec.topology.tiles - 1}")
    recorded = _simulate(prompted, options.max_new_tokens)
    window = _within(window, recorded.timing.cycles_total)
    result, error = _lockstep(recorded, stop, run.seed)
    figures = _figures(prompted, recorded, result, error)
    _show(figures, error)
    run.keep(figures)  # neither the difference nor a waveform that fails may lose it
    if trace is not None:
        cycles = window or around(recorded.timing.cycles_total if error is None else error.difference.cycle)
        _trace(recorded, stop, trace, cycles, trace_tile, run.seed)
        run.keep(figures | {"trace": str(trace)})
    if error is not None:
        raise error


def _window(trace: Path | None, cycles: str | None, tile: int | None) -> range | None:
    """The cycles asked for; UsageError unless they are FROM:TO, and a file is there to write them to."""
    if trace is None:
        if cycles is not None or tile is not None:
            raise UsageError("--trace-cycles and --trace-tile are for --trace FILE")
        return None
    if trace.exists() and not trace.is_file():
        raise UsageError(f"--trace {trace} is no regular file; give the name of a file")
    if cycles is None:
        return None
    begin, _, end = cycles.partition(":")
    if not (begin.isdecimal() and end.isdecimal() and int(begin) < int(end)):
        raise UsageError(f"--trace-cycles {cycles}: give two cycles, the smaller first, such as 1000:1500")
    return range(int(begin), int(end))


def _within(window: range | None, total: int) -> range | None:
    """The cycles asked for that the run has; UsageError if there are none."""
    if window is None:
        return None
    if window.start >= total:
        raise UsageError(f"--trace-cycles {window.start}:{window.stop}: the run has {total:,} cycles; begin before its end")
    return range(window.start, min(window.stop, total))


def _figures(
    prompted: PromptedProgram, recorded: RecordedRun, result: LockstepResult, error: DifferenceFoundError | None
) -> dict[str, Any]:
    generated = [
        {"prompt_tokens": len(prompt), "token_ids": list(tokens), "text": prompted.text(tokens)}
        for prompt, tokens in zip(recorded.prompts, recorded.generated, strict=True)
    ]
    return {
        **generated[0],
        "bos_token": prompted.bos_token,
        "sequences": len(generated),
        "generated": generated,
        "chip": recorded.program.spec.name,
        "cycles_total": recorded.timing.cycles_total,
        "compared": result.compared,
        "cycles_per_s": result.cycles / result.wall_s,
        "difference": None if error is None else asdict(error.difference),
        "trace": None,
        "kind": "simulated",
    }


def _simulate(prompted: PromptedProgram, max_new_tokens: int) -> RecordedRun:
    from neuromorphic_llm.rtl.loader import check_room_of_request
    from neuromorphic_llm.simulation.recorded import record_run

    check_room_of_request(prompted.prompts, prompted.stop)
    with progress() as bars:
        total = sum(len(prompt) + max_new_tokens - 1 for prompt in prompted.prompts)
        bar = bars.add_task("simulators, tokens", total=total)
        return record_run(prompted.program, prompted.prompts, max_new_tokens, prompted.stop, lambda done: bars.advance(bar, done))


def _lockstep(recorded: RecordedRun, stop: tuple[int, ...], seed: int) -> tuple[LockstepResult, DifferenceFoundError | None]:
    """Run the RTL in lockstep; returns the comparison, and the difference if there was one."""
    from neuromorphic_llm.rtl.chip import RtlChip
    from neuromorphic_llm.rtl.lockstep import run_lockstep

    with status("building the chip with Verilator, which takes some minutes the first time"):
        chip = RtlChip(recorded.program, seed + 1)
    with progress() as bars:
        bar = bars.add_task("chip, cycles", total=recorded.timing.cycles_total)
        return run_lockstep(chip, recorded, stop, lambda done: bars.advance(bar, done))


def _trace(recorded: RecordedRun, stop: tuple[int, ...], path: Path, cycles: range, tile: int | None, seed: int) -> None:
    from neuromorphic_llm.rtl.trace import write_waveform

    with status(f"writing {path}, after a build with waveforms the first time"):
        new = max(map(len, recorded.generated))
        write_waveform(recorded.program, recorded.prompts, new, stop, path, cycles, tile, seed + 1)
    console.print(f"{path}: cycles {cycles.start:,} to {cycles.stop - 1:,}, ten time units per cycle", highlight=False)


def _show(figures: dict[str, Any], error: DifferenceFoundError | None) -> None:
    if error is not None:
        _print_difference(error.difference)
        return
    for number, each in enumerate(figures["generated"], 1):
        label = f"{number}: " if figures["sequences"] > 1 else ""
        console.print(label + each["text"], markup=False, highlight=False)
    console.print("RTL and simulators are equal")
    console.print(_table(figures))


def _print_difference(difference: Difference) -> None:
    console.print(f"first difference in cycle {difference.cycle:,}", highlight=False)
    rows = {
        "unit": f"tile {difference.tile}, {difference.unit}",
        "layer": difference.layer,
        "site": difference.site,
        "signal": difference.signal,
        "sequence": difference.sequence,
        "token": difference.token,
        "expected": difference.expected or "nothing",
        "seen": difference.seen or "nothing",
    }
    for name, value in rows.items():
        if value is not None:
            console.print(f"  {name:9} {value}", highlight=False, soft_wrap=True)
    console.print("the unit's last events, up to this cycle:")
    for event in difference.last_events:
        console.print(f"  {event}", highlight=False, soft_wrap=True)


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title=f"chip {figures['chip']}")
    table.add_column("compared")
    table.add_column("events", justify="right")
    for signal, count in figures["compared"].items():
        table.add_row(signal, f"{count:,}")
    table.add_section()
    table.add_row("tokens generated", f"{sum(len(each['token_ids']) for each in figures['generated']):,}")
    table.add_row("cycles", f"{figures['cycles_total']:,}")
    table.add_row("cycles per second", f"{figures['cycles_per_s']:,.0f}")
    return table
