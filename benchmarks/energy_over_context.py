"""Energy of a decoded token over the visible tokens: the chip beside digital INT8 and FP16, with bounds, as a Markdown table.

python benchmarks/energy_over_context.py runs/smollm2-135m/program
python benchmarks/energy_over_context.py programs/nano --contexts 8,64,500 --picture curve.svg
"""

from __future__ import annotations

import argparse
from itertools import cycle, islice
from pathlib import Path

from rich.progress import Progress

from neuromorphic_llm.chip.program_io import load_program
from neuromorphic_llm.evaluation.energy_curve import AROUND, text_over_context
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models.tokenizer import load_tokenizer
from neuromorphic_llm.report.pareto import markdown
from neuromorphic_llm.report.plots import context_plot
from neuromorphic_llm.report.tables import context_table
from neuromorphic_llm.text_file import write_text

CONTEXTS = (11, 64, 256, 677, 1024, 2030)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--contexts", default=",".join(map(str, CONTEXTS)), help="visible tokens, with commas between")
    parser.add_argument("--task", default="default", help="whose text is decoded; begun again where it is too short")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args()
    program = load_program(arguments.program)
    contexts = [int(context) for context in arguments.contexts.split(",")]
    contexts = sorted(context for context in contexts if context + AROUND <= program.max_context)
    text = load_text(TASKS[arguments.task])
    ids = load_tokenizer(program.tokenizer_files)(text, add_special_tokens=False, verbose=False)["input_ids"]
    total = max(contexts) + AROUND
    with Progress(transient=True) as bars:
        bar = bars.add_task("decode", total=total)
        points = text_over_context(program, list(islice(cycle(ids), total)), contexts, lambda count: bars.advance(bar, count))
    content = [point.to_json() for point in points]
    print(markdown(context_table(content)))
    if arguments.picture:
        write_text(arguments.picture, context_plot(content))


if __name__ == "__main__":
    main()
