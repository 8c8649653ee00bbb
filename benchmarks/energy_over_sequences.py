"""Energy and speed of decoded tokens over the sequences in flight: the chip beside its rivals, with bounds, as Markdown tables.

python benchmarks/energy_over_sequences.py runs/smollm2-135m/program
python benchmarks/energy_over_sequences.py programs/nano --sequences 1,2,5 --picture curve.svg
python benchmarks/energy_over_sequences.py runs/smollm2-135m/program --sequences 1,30 --context 677 --new-tokens 6 \\
    --kv-bytes-per-engine 2724480

With --context the text is read once, and every sequence decodes tokens of it around that context, each a place later than the one before.
With --kv-bytes-per-engine the key/value memories of the chip and its rivals are so large, and all else stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from rich.progress import Progress

from neuromorphic_llm.area import area_figures
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.program_io import load_program
from neuromorphic_llm.evaluation.energy_curve import EnergyPoint, energy_over_sequences, shifted_rows, shifted_sequences, text_trace
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models.tokenizer import load_tokenizer
from neuromorphic_llm.report.pareto import markdown
from neuromorphic_llm.report.plots import context_plot
from neuromorphic_llm.report.tables import Table, context_table
from neuromorphic_llm.simulation.run import simulate_sequences
from neuromorphic_llm.text_file import write_text
from neuromorphic_llm.units import format_mm2, format_si


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--sequences", default="1,2,4,8,16,31", help="in flight, with commas between")
    parser.add_argument("--prompt-tokens", type=int, default=6)
    parser.add_argument("--new-tokens", type=int, default=12)
    parser.add_argument("--context", type=int, help="mean of the visible tokens, instead of prompts of --prompt-tokens")
    parser.add_argument("--kv-bytes-per-engine", type=int)
    parser.add_argument("--task", default="default", help="from whose text the prompts are cut, one behind another")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--picture", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args()
    program = with_memories(load_program(arguments.program), arguments.kv_bytes_per_engine)
    loads = sorted(int(load) for load in arguments.sequences.split(","))
    text = load_text(TASKS[arguments.task])
    ids = cycle(load_tokenizer(program.tokenizer_files)(text, add_special_tokens=False, verbose=False)["input_ids"])
    points = around_context(program, ids, loads, arguments) if arguments.context else behind_prompts(program, ids, loads, arguments)
    content = [point.to_json() for point in points]
    print(f"{points[-1].context} visible tokens in the mean; chip of {format_mm2(area_figures(program)['area_mm2'])}\n")
    print(markdown(context_table(content, "sequences")))
    print(markdown(speed_table(points, program.spec.clock_hz)))
    if arguments.picture:
        write_text(arguments.picture, context_plot(content, "sequences"))


def with_memories(program: Program, kv_bytes: int | None) -> Program:
    """The program on a chip with key/value memories of this size; contexts, and so scores and rotary tables, are no longer than before."""
    if kv_bytes is None:
        return program
    config = replace(program.weights.config, max_positions=program.max_context)
    spec = program.spec.with_fields({"vector.kv_bytes_per_engine": kv_bytes})
    return replace(program, spec=spec, weights=replace(program.weights, config=config))


def behind_prompts(program: Program, ids: Iterable[int], loads: list[int], arguments: argparse.Namespace) -> list[EnergyPoint]:
    """Points of sequences that have each another part of a text as prompt."""
    length, new = arguments.prompt_tokens, arguments.new_tokens
    cut = list(islice(ids, length * max(loads)))
    prompts = [cut[start : start + length] for start in range(0, len(cut), length)]
    with counting(len(prompts) * (length + new - 1)) as counted:
        found = simulate_sequences(program, prompts, new, stop=(), threads=arguments.threads, progress=counted)
    return energy_over_sequences(program, found.trace, loads)


def around_context(program: Program, ids: Iterable[int], loads: list[int], arguments: argparse.Namespace) -> list[EnergyPoint]:
    """Points of sequences that decode tokens of one text around a context."""
    context, new = arguments.context, arguments.new_tokens
    rows = shifted_rows(context, new, max(loads))
    if rows.start < 0 or rows.stop > program.sequence_context(max(loads)):
        sys.exit(f"contexts of {rows.start + 1} to {rows.stop} do not fit; each of {max(loads)} has {program.sequence_context(max(loads))}")
    with counting(rows.stop) as counted:
        trace = text_trace(program, list(islice(ids, rows.stop)), rows, arguments.threads, counted)
    return [point for load in loads for point in energy_over_sequences(program, shifted_sequences(trace, context, new, load), [load])]


@contextmanager
def counting(total: int) -> Iterator[Callable[[int], None]]:
    """A bar of tokens: a function that takes how many are done."""
    with Progress(transient=True) as bars:
        bar = bars.add_task("decode", total=total)
        yield lambda count: bars.advance(bar, count)


def speed_table(points: list[EnergyPoint], clock_hz: float) -> Table:
    """Tokens per second and latency of the chip, and the rivals' at best."""
    rivals = {"int8": "INT8", "fp16": "FP16", "bit_serial_crossbar": "bit-serial crossbars"}
    rows = []
    for point in points:
        speeds, latency = point.tokens_per_s, point.sequences * point.cycles_per_token / clock_hz
        shown = (f"{speeds[name]:,.0f}" for name in ("chip", *rivals))
        rows.append((f"{point.sequences}", f"{point.cycles_per_token:,.0f}", format_si(latency, "s"), *shown))
    columns = ("in flight", "cycles per token", "between tokens of a sequence", "tokens/s, this chip", *rivals.values())
    return Table("Speed over the sequences in flight", columns, tuple(rows), "Cycles of the chip are simulated; rivals at best.")


if __name__ == "__main__":
    main()
