"""Time until a command has done something small, beside the time of `import torch`: what is spent on getting started.

    python benchmarks/start_speed.py

Each command runs in a process of its own, in turn with `python -c "import torch"`, so that a machine which becomes slower does so for both.
The times are wall time, and processor time of the process (user and system); the ratio is the median of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from neuromorphic_llm.cli.result import write_result

NMLLM = (sys.executable, "-m", "neuromorphic_llm.cli")
TORCH = (sys.executable, "-c", "import torch")
COMMANDS = {
    "nmllm --help": ("--help",),
    "nmllm codes": ("codes",),
    "compile nano for nano": ("compile", "network", "--chip", "nano", "-o", "again"),
    "simulate 4 tokens of nano": ("simulate", "program", "--prompt", "Once upon a time", "--max-new-tokens", "4"),
    "  by the functional backend": (
        *("simulate", "program", "--prompt", "Once upon a time", "--max-new-tokens", "4"),
        *("--backend", "functional"),
    ),
}
"""What is shown -> arguments."""


@dataclass(frozen=True)
class Row:
    """Medians over the runs of a command."""

    command: str
    wall_s: float
    processor_s: float
    torch_wall_s: float
    ratio: float  # wall time over that of `import torch` right after it


def measured(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall and processor time of one run, s."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def row(name: str, runs: int, folder: Path) -> Row:
    """One command, after a run that is not counted."""
    command = (*NMLLM, *COMMANDS[name])
    measured(command, folder)
    pairs = [(measured(command, folder), measured(TORCH, folder)) for _ in range(runs)]
    ratio = median(ours[0] / theirs[0] for ours, theirs in pairs)
    return Row(name.strip(), *(median(ours[i] for ours, _ in pairs) for i in (0, 1)), median(theirs[0] for _, theirs in pairs), ratio)


def main() -> None:
    """Prepare a program of nano, run all commands and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began, begin = datetime.now(UTC), time.perf_counter()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    table = Table("command", "wall time, s", "processor time, s", "import torch, wall, s", "ratio")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for step in (("convert", "nano", "-o", "network"), ("compile", "network", "--chip", "nano", "-o", "program")):
            measured((*NMLLM, *step), Path(folder))
        for name in COMMANDS:
            rows.append(row(name, arguments.runs, Path(folder)))
            figures = (rows[-1].wall_s, rows[-1].processor_s, rows[-1].torch_wall_s, rows[-1].ratio)
            table.add_row(name, *(f"{figure:.2f}" for figure in figures))
    Console().print(table)
    if arguments.json:
        payload = {"rows": [asdict(each) for each in rows], "kind": "measured"}
        write_result(arguments.json, "start_speed", vars(arguments), 0, payload, began, time.perf_counter() - begin)


if __name__ == "__main__":
    main()
