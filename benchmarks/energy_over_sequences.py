"""Energy and speed of decoded tokens over the sequences in flight: the chip beside its rivals, with bounds, as Markdown tables.

python benchmarks/energy_over_sequences.py runs/smollm2-135m/program
python benchmarks/energy_over_sequences.py programs/nano --sequences 1,2,5 --picture curve.svg
"""

from __future__ import annotations

import argparse
from itertools import cycle, islice
from pathlib import Path

from rich.progress import Progress

from neuromorphic_llm.chip.program_io import load_program
from neuromorphic_llm.evaluation.energy_curve import EnergyPoint, energy_over_sequences
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models.tokenizer import load_tokenizer
from neuromorphic_llm.report.pareto import markdown
from neuromorphic_llm.report.plots import context_plot
from neuromorphic_llm.report.tables import Table, context_table
from neuromorphic_llm.simulation.run import simulate_sequences
from neuromorphic_llm.text_file import write_text
from neuromorphic_llm.units import format_si


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--sequences", default="1,2,4,8,16,31", help="in flight, with commas between")
    parser.add_argument("--prompt-tokens", type=int, default=6)
    parser.add_argument("--new-tokens", type=int, default=12)
    parser.add_argument("--task", default="default", help="from whose text the prompts are cut, one behind another")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--picture", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args()
    program, length, new = load_program(arguments.program), arguments.prompt_tokens, arguments.new_tokens
    loads = sorted(int(load) for load in arguments.sequences.split(","))
    text = load_text(TASKS[arguments.task])
    ids = load_tokenizer(program.tokenizer_files)(text, add_special_tokens=False, verbose=False)["input_ids"]
    ids = list(islice(cycle(ids), length * max(loads)))
    prompts = [ids[start : start + length] for start in range(0, len(ids), length)]
    with Progress(transient=True) as bars:
        bar = bars.add_task("decode", total=len(prompts) * (length + new - 1))
        found = simulate_sequences(
            program, prompts, new, stop=(), threads=arguments.threads, progress=lambda count: bars.advance(bar, count)
        )
    points = energy_over_sequences(program, found.trace, loads)
    content = [point.to_json() for point in points]
    print(f"{points[-1].context} visible tokens in the mean\n")
    print(markdown(context_table(content, "sequences")))
    print(markdown(speed_table(points, program.spec.clock_hz)))
    if arguments.picture:
        write_text(arguments.picture, context_plot(content, "sequences"))


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
