"""`make rtl-mutants`: makes mutants of every module of rtl/, runs the tests against them and prints what became of them."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import neuromorphic_llm.rtl.build as build_module
from mutants.find import Mutant, find_mutants
from mutants.report import EQUIVALENTS, LEAST, Report, load_equivalents, read_results
from mutants.run import BrokenTestError, Runner, run_mutants
from mutants.schema import sample, write_schemata
from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.rtl.package import RTL_FOLDER

A_MODULE = 20
"""Mutants of a module, at most."""

HERE = Path(__file__).parent


def main(arguments: Sequence[str]) -> int:
    """Exit code: 1 below LEAST or where mutants are not finished, 2 for a wrong argument or a test that fails without a mutant."""
    modules = {path.stem.removeprefix("nmllm_"): path for path in sorted(RTL_FOLDER.glob("*.sv"))}
    options = _options(arguments, list(modules))
    started = time.monotonic()
    every = {path.stem: find_mutants(path) for path in modules.values()}
    sampled = [mutant for found in every.values() for mutant in sample(found, A_MODULE)]
    equivalents = load_equivalents(EQUIVALENTS)
    equivalent = {m.number: e.reason for m in sampled for e in equivalents if e.is_of(m)}
    chosen = [m for m in sampled if not options.modules or m.module.removeprefix("nmllm_") in options.modules]
    try:
        earlier = read_results(options.merge or options.resume or [], {m.number for m in sampled})
    except NeuromorphicLLMError as error:
        sys.stderr.write(f"rtl-mutants: {error}\n")
        return 2

    def report(runner: Runner) -> Report:
        minutes = (time.monotonic() - started) / 60 + earlier.minutes
        killed, survived = earlier.killed | runner.killed, (earlier.survived | runner.survived) - set(runner.killed)
        return Report(chosen, killed, equivalent, minutes, {m.number for m in chosen} - set(killed) - survived - set(equivalent))

    living = [m for m in chosen if m.number not in equivalent and m.number not in earlier.killed]
    runner = Runner([] if options.merge else living, len(os.sched_getaffinity(0)), options.minutes)
    if runner.mutants:
        print(f"{len(chosen)} mutants, {len(equivalent)} of all are equivalent, {len(living)} to run", file=sys.stderr)
        try:
            _run(runner, sampled, lambda: report(runner).write(options.json), prune=not options.modules)
        except BrokenTestError as error:
            sys.stderr.write(f"rtl-mutants: {error}; make the tests pass first\n")
            return 2
    result = report(runner)
    result.write(options.json)
    print("\n".join([*result.table(), "", *result.survivor_lines()]))
    for entry in equivalents:
        if not any(entry.is_of(m) for m in every[entry.module]):
            print(f"{EQUIVALENTS.name}: {entry.module} has no such mutant any more: {entry.after}")
    return 0 if result.share >= LEAST and not result.unfinished else 1


def _options(arguments: Sequence[str], names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"mutants of these only (default: all): {', '.join(names)}")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes with what is known then")
    parser.add_argument("--json", type=Path, default=Path("runs/rtl-mutants.json"), metavar="FILE", help="written after every bench")
    before = parser.add_mutually_exclusive_group()
    before.add_argument("--resume", type=Path, nargs="+", metavar="FILE", help="results of earlier calls, whose killed are not run again")
    before.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="run nothing: one table of the results of several calls")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.modules) - set(names)):
        parser.error(f"unknown module {unknown[0]!r}; the modules are {', '.join(names)}")
    if options.minutes is not None and options.minutes <= 0:
        parser.error(f"--minutes {options.minutes:g}: give more than 0")
    return options


def _run(runner: Runner, sampled: Sequence[Mutant], keep: Callable[[], None], prune: bool) -> None:
    """All mutants stand in one copy of rtl/ whichever are run, so that calls for single modules share their builds."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    output = os.fdopen(os.dup(2), "w", buffering=1)  # pytest takes the usual one
    cache = Path(os.environ.get("NMLLM_CACHE") or "~/.cache/neuromorphic-llm").expanduser() / "rtl-mutants"
    os.environ["NMLLM_CACHE"] = str(cache)
    signal.signal(signal.SIGTERM, stop)
    with tempfile.TemporaryDirectory() as folder, patch.object(build_module, "RTL_FOLDER", Path(folder)):
        write_schemata(RTL_FOLDER, Path(folder), sampled)
        run_mutants(HERE.parent, runner, lambda line: print(line, file=output), keep)
    if prune and runner.complete:
        _prune(cache / "rtl", runner.libraries)


def _prune(cache: Path, used: set[str]) -> None:
    """Builds of earlier versions are of no use."""
    for folder in cache.iterdir():
        if folder.name not in used and not folder.name.startswith("runtime-"):
            shutil.rmtree(folder, ignore_errors=True)
