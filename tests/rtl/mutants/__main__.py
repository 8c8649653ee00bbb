"""`make rtl-mutants`: makes mutants of every module of rtl/, runs the tests against them and prints what became of them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

# Forked processes must not find threads of their parent's; they run one beside the other anyway.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import neuromorphic_llm.rtl.build as build_module
from mutants.find import find_mutants
from mutants.report import EQUIVALENTS, LEAST, Report, load_equivalents
from mutants.run import BrokenTestError, run_mutants
from mutants.schema import sample, write_schemata
from neuromorphic_llm.rtl.package import RTL_FOLDER

A_MODULE = 20
"""Mutants of a module, at most."""

HERE = Path(__file__).parent
RESULT = Path("runs/rtl-mutants.json")


def main(names: list[str]) -> int:
    """All modules, or those named (without nmllm_)."""
    started = time.monotonic()
    paths = [path for path in sorted(RTL_FOLDER.glob("*.sv")) if not names or path.stem.removeprefix("nmllm_") in names]
    every = [mutant for path in paths for mutant in find_mutants(path)]
    mutants = [m for path in paths for m in sample([m for m in every if m.module == path.stem], A_MODULE)]
    equivalents = load_equivalents(EQUIVALENTS)
    equivalent = {m.number: e.reason for m in mutants for e in equivalents if e.is_of(m)}
    output = os.fdopen(os.dup(2), "w", buffering=1)  # pytest takes the usual one
    cache = Path(os.environ.get("NMLLM_CACHE") or "~/.cache/neuromorphic-llm").expanduser() / "rtl-mutants"
    os.environ["NMLLM_CACHE"] = str(cache)
    with tempfile.TemporaryDirectory() as folder, patch.object(build_module, "RTL_FOLDER", Path(folder)):
        write_schemata(RTL_FOLDER, Path(folder), mutants)
        living = [m for m in mutants if m.number not in equivalent]
        print(f"{len(mutants)} mutants of {len(every)} possible ones, {len(equivalent)} of them equivalent", file=output)
        try:
            runner = run_mutants(HERE.parent, living, len(os.sched_getaffinity(0)), lambda line: print(line, file=output))
        except BrokenTestError as error:
            print(f"rtl-mutants: {error}; make the tests pass first", file=output)
            return 2
    if not names:
        _prune(cache / "rtl", runner.libraries)
    report = Report(mutants, runner.killed, equivalent, (time.monotonic() - started) / 60)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report.json(), encoding="utf-8")
    print("\n".join([*report.table(), "", *report.survivor_lines()]))
    for entry in equivalents:
        if entry.module in {path.stem for path in paths} and not any(entry.is_of(m) for m in every):
            print(f"{EQUIVALENTS.name}: {entry.module} has no such mutant any more: {entry.after}")
    return 0 if report.share >= LEAST else 1


def _prune(cache: Path, used: set[str]) -> None:
    """Builds of earlier versions are of no use."""
    for folder in cache.iterdir():
        if folder.name not in used and not folder.name.startswith("runtime-"):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
