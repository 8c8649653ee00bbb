"""Parts that every command shares: its run with the JSON result, options of several commands, consoles and progress.

A command is a module `cli/NAME.py` with the help text's EXAMPLES and a function named `command`; `cli/main.py` lists it with a one-line
summary and imports it only when it is called. Import heavy modules (torch, numba) inside the function, so that `--help` stays fast::

    EXAMPLES = "nmllm eval smollm2-135m --task default --limit-tokens 2048"

    def command(
        run: CommandRun,
        model: Annotated[str, typer.Argument(help="Known name, folder, GGUF file or hub id.")],
        window: Annotated[int, typer.Option(help="Tokens per window.", min=2)] = 1024,
    ) -> None:
        \"\"\"Evaluate a model or a network.\"\"\"
        from neuromorphic_llm.evaluation.language_model import evaluate

        outcome = evaluate(...)
        console.print(table_of(outcome))
        run.result({"perplexity": outcome.perplexity})

A parameter of type Given[CLASS] stands for the options that the fields of a configuration class describe (cli/options.py).

Raise the classes of `errors.py` for anything a user can cause; main() prints them as one line and picks the exit code
(0 done, 1 failed, 2 usage, 130 interrupted).
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from neuromorphic_llm.cli.outputs import check_outputs, check_result_file
from neuromorphic_llm.models.text_tokens import Bos
from neuromorphic_llm.terminal import LINES, counted_work, status_display, work_display

BosChoice = Annotated[
    Bos, typer.Option("--bos", help="Beginning-of-sequence token before every text: auto (as the model's tokenizer says), always or never.")
]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda.")]

# No markup: names of files and chips may hold brackets.
console = Console(markup=False)
"""Results for people, on standard output."""

error_console = Console(stderr=True, markup=False)
"""Progress and remarks, on standard error."""


def status(text: str) -> AbstractContextManager[object]:
    """A spinner with this text on standard error, or a line when it is done: `with status("loading"): ...`."""
    return status_display(error_console, text)


def progress() -> Progress:
    """A progress display on standard error, lines if it is no terminal: `with progress() as bars: bars.track(items)`."""
    return work_display(error_console)


def counted(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A bar of work that is counted: context of a function that takes how many more are done."""
    return counted_work(error_console, what, total)


class CommandRun:
    """Context of one command: checks --json before the work, times it, and writes the result after it.

    `arguments` are those of the result: the options and arguments by name, but --json, --seed and --debug. Of the processes that torchrun
    starts only the first one writes.
    """

    def __init__(self, command: str, json: Path | None, seed: int, debug: bool, arguments: Mapping[str, Any]) -> None:
        self.seed = seed
        self.arguments = dict(arguments)
        self.first = int(os.environ.get("RANK", "0")) == 0
        self._command = command
        self._json = json if self.first else None
        self._debug = debug
        self._payload: Mapping[str, Any] = {}

    def outputs(
        self,
        *,
        artefacts: Mapping[str, tuple[Path, str]] | None = None,
        folders: Mapping[str, Path] | None = None,
        files: Mapping[str, Path | None] | None = None,
    ) -> None:
        """Check all that the command writes besides --json, by option, before its work (outputs.py)."""
        if self._json is not None:  # again, as a command may have completed its arguments
            check_result_file(self._json, self.arguments, self._command)
        check_outputs(self.arguments, self._json, artefacts=artefacts, folders=folders, files=files)

    def result(self, payload: Mapping[str, Any]) -> None:
        """Set the command's own keys of the JSON result (formats.md); written when the context ends without an error."""
        self._payload = payload

    def keep(self, payload: Mapping[str, Any]) -> None:
        """Set the result and write it at once, for commands that may still fail after it."""
        self.result(payload)
        if self._json is not None:
            self.write(self._json, payload)

    def write(self, path: Path, payload: Mapping[str, Any]) -> None:
        """Write the result of these keys now, with the time since the command began."""
        from neuromorphic_llm.cli.result import write_result  # with numpy and psutil

        wall_s = time.perf_counter() - self._start_s
        write_result(path, self._command, self.arguments, self.seed, payload, self._started, wall_s)

    def __enter__(self) -> CommandRun:
        if self._json is not None:
            check_result_file(self._json, self.arguments, self._command)
        self._started = datetime.now(UTC)
        self._start_s = time.perf_counter()
        LINES.hold()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            LINES.drop()
            if self._debug:
                traceback.print_exception(error)
            return
        LINES.release()
        if self._json is not None:
            self.write(self._json, self._payload)
