"""Wall times of two checkouts in one go: a process of each, asked in turn, so that a machine which becomes slower does so for both.

Each process keeps its network, program and compiled kernels; the first run of a measure is not counted. The processes are this file run
with the package of their checkout: what it imports is tried under the names of either.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from statistics import mean, median
from typing import Any

LIMIT = 1.05
"""Ratio of wall times, after over before, above which a checkout is slower."""

LEAST_S = 1.0
"""A measure is repeated until its runs took so long, s: single runs of a small model are short."""

PROMPT_TOKENS, NEW_TOKENS, WINDOW, WINDOWS, BATCH = 16, 96, 256, 8, 64


@dataclass(frozen=True)
class Run:
    """Times of one run of a measure."""

    wall_s: float
    processor_s: float


@dataclass(frozen=True)
class Ratio:
    """Times after over before of one measure: wall time of the fastest runs, and the least, median and most of neighbouring pairs.

    processor: processor time of the fastest, of the whole command or simulation; other processes hardly change it.
    """

    measure: str
    fastest: float
    least: float
    median: float
    most: float
    processor: float
    before_s: float  # of the fastest run
    after_s: float

    @property
    def slower(self) -> bool:
        """Whether the median is above LIMIT, and the fastest run too: other processes slow down single runs."""
        return min(self.median, self.fastest) > LIMIT


def ratio_of(measure: str, before: Sequence[Run], after: Sequence[Run]) -> Ratio:
    """Ratio of runs in the order in which they alternated."""
    pairs = [new.wall_s / old.wall_s for old, new in zip(before, after, strict=True)]
    old, new = (min(run.wall_s for run in runs) for runs in (before, after))
    processor = min(run.processor_s for run in after) / min(run.processor_s for run in before)
    return Ratio(measure, new / old, min(pairs), median(pairs), max(pairs), processor, old, new)


def compare_speed(before: Any, after: Any, model: str, work: Path, measures: Sequence[str], runs: int) -> list[Ratio]:
    """Ratios of the asked measures, of two `checkout_fingerprint.Checkout`; without CUDA there is none of a GPU."""
    workers = [Worker(checkout, model, work / name) for checkout, name in ((before, "before"), (after, "after"))]
    ratios = []
    try:
        for measure in measures:
            if any(worker.run(measure) is None for worker in workers):  # also compiles the kernels
                continue
            times: tuple[list[Run], list[Run]] = ([], [])
            for number in range(runs):
                for side in (0, 1) if number % 2 == 0 else (1, 0):
                    if (run := workers[side].run(measure)) is not None:
                        times[side].append(run)
            ratios.append(ratio_of(measure, *times))
    finally:
        for worker in workers:
            worker.close()
    return ratios


class Worker:
    """Process of one checkout that runs measures when asked."""

    def __init__(self, checkout: Any, model: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        command = [checkout.python, __file__, model]
        self._checkout, self._errors = checkout, folder / "errors.txt"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, cwd=folder, env=checkout.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )

    def run(self, measure: str) -> Run | None:
        """Times of one run; None if this machine cannot run it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{measure}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("seconds "):
                wall_s, processor_s = json.loads(line.removeprefix("seconds "))
                return None if wall_s is None else Run(wall_s, processor_s)
        raise SystemExit(f"{self._checkout.folder}: {measure} failed: {''.join(self._errors.read_text().splitlines()[-1:])}")

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class Measured:
    """Measures of the package that is imported, each a method that runs once and returns seconds."""

    def __init__(self, model: str) -> None:
        self.model = model

    def conversion(self) -> float:
        """Loading, calibration and conversion, divergence included."""
        return self._command("convert", self.model, "--output", "converted")

    def compile(self) -> float:
        """Compiler, the artefacts read and written included."""
        self._network_folder()
        return self._command("compile", "network", "--chip", self._chip, "--output", "compiled")

    def evaluation(self) -> float:
        """Functional simulation of windows, as for perplexity, on the CPU."""
        return _timed(lambda: [self._decoder.forward(window) for window in self._ids(WINDOWS, WINDOW)[:, None]])

    def decoding(self) -> float:
        """Functional generation, greedy, one sequence on the CPU."""
        prompt = self._ids(1, PROMPT_TOKENS)[0].tolist()
        return _timed(lambda: self._decoder.generate([prompt], NEW_TOKENS, eos_token_ids=()))

    def event_simulation(self) -> float:
        """Event execution of `simulate`."""
        return float(self._simulated().event_s)

    def timing_simulation(self) -> float:
        """Timing simulation of `simulate`."""
        return float(self._simulated().timing_s)

    def gpu_decoding(self) -> float | None:
        """Functional decoding at batch 64 on a GPU; None without one."""
        import torch

        if not torch.cuda.is_available():
            return None
        decoder, ids = self._gpu_decoder, self._ids(BATCH, PROMPT_TOKENS).cuda()
        cache = decoder.new_cache(BATCH, PROMPT_TOKENS + NEW_TOKENS)
        ids = decoder.forward(ids, cache, last_only=True)[:, -1].argmax(-1, keepdim=True)
        torch.cuda.synchronize()

        def decode() -> None:
            token = ids
            for _ in range(NEW_TOKENS - 1):
                token = decoder.forward(token, cache, last_only=True)[:, -1].argmax(-1, keepdim=True)
            torch.cuda.synchronize()

        return _timed(decode)

    @property
    def _chip(self) -> str:
        return "nano" if self.model == "nano" else "nc1"

    def _network_folder(self) -> Path:
        if not Path("network").exists():
            self._command("convert", self.model, "--output", "network")
        return Path("network")

    @cached_property
    def _network(self) -> Any:
        return import_module("neuromorphic_llm.network.spiking").SpikingNetwork.load(self._network_folder())

    @cached_property
    def _decoder(self) -> Any:
        return self._network.functional("cpu")

    @cached_property
    def _gpu_decoder(self) -> Any:
        return self._network.functional("cuda")

    @cached_property
    def _program(self) -> Any:
        if not Path("program").exists():
            self._network_folder()
            self._command("compile", "network", "--chip", self._chip, "--output", "program")
        return import_module("neuromorphic_llm.chip.program_io").load_program("program")

    def _simulated(self) -> Any:
        simulate = _imported("simulation.run", "simulate.run").simulate
        return simulate(self._program, self._ids(1, PROMPT_TOKENS)[0].tolist(), NEW_TOKENS, stop=())

    def _ids(self, rows: int, tokens: int) -> Any:
        """Token ids, int64 [rows, tokens], the same in every run."""
        import torch

        return torch.randint(0, self._network.weights.config.vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(0))

    def _command(self, *arguments: str) -> float:
        """Wall time that a command states, run in this process."""
        main = import_module("neuromorphic_llm.cli.main")
        if main.run_command_line([*arguments, "--json", "result.json"]):
            raise SystemExit(f"nmllm {' '.join(arguments)} failed")
        return float(json.loads(Path("result.json").read_text(encoding="utf-8"))["wall_s"])


MEASURES = ("conversion", "compile", "evaluation", "decoding", "event_simulation", "timing_simulation", "gpu_decoding")
"""Names of the measures, methods of Measured."""


def _imported(*names: str) -> Any:
    """The first of these modules of the package that there is."""
    for name in names:
        try:
            return import_module(f"neuromorphic_llm.{name}")
        except ModuleNotFoundError:
            continue
    raise SystemExit(f"neuromorphic_llm has none of the modules {', '.join(names)}")


def _timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def repeated(measure: Callable[[], float | None]) -> tuple[float | None, float]:
    """Mean wall and processor time of as many runs of a measure as take LEAST_S; no wall time if this machine cannot run it."""
    begin = time.process_time()
    seconds: list[float] = []
    while sum(seconds) < LEAST_S:
        if (passed := measure()) is None:
            return None, 0.0
        seconds.append(passed)
    return mean(seconds), (time.process_time() - begin) / len(seconds)


def main() -> None:
    """Run the measures that standard input names, one per line, for the model of the command line."""
    measured = Measured(sys.argv[1])
    for line in sys.stdin:
        print("seconds", json.dumps(repeated(getattr(measured, line.strip()))), flush=True)


if __name__ == "__main__":
    main()
