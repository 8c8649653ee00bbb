"""The `nmllm` command line: a lazy table of commands and the one place where errors become exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import neuromorphic_llm
from neuromorphic_llm.errors import NeuromorphicLLMError, NeuromorphicLLMWarning, UsageError

COMMANDS = {
    "fetch": "Bring a pretrained checkpoint into the cache.",
    "models": "List the models that have a name, and where they are.",
    "chips": "List the chips that come with the package.",
    "tasks": "List the evaluation tasks, and where their data are.",
    "cache": "Show what the cache holds, and clean it.",
    "codes": "List the spike codes, or show one of them.",
    "convert": "Turn a checkpoint into a spiking network.",
    "finetune": "Train a checkpoint on its own spikes, then turn it into a spiking network.",
    "compile": "Compile a spiking network for a chip.",
    "simulate": "Simulate a compiled program on the chip.",
    "cosim": "Compare the chip's SystemVerilog with the simulators, cycle by cycle.",
    "eval": "Evaluate a model or a spiking network.",
    "export": "Export sites of a spiking network for other software (NIR).",
    "ssa": "Compare spiking self-attention with this project's attention.",
    "pareto": "Quality against spikes, energy and phases, for many conversions.",
    "run": "Everything at once: convert, compile, simulate, compare, report.",
    "report": "Write the page of an earlier run again.",
}
"""Command name -> summary; the module is `neuromorphic_llm.cli.NAME`."""


def _load(name: str) -> Any:
    """The command of module `cli/NAME.py`, its EXAMPLES shown under its help."""
    from neuromorphic_llm.cli.options import command_line  # with all that commands share

    try:
        module = import_module(f"neuromorphic_llm.cli.{name}")
    except ImportError as error:
        raise NeuromorphicLLMError(f"command {name!r} cannot be loaded ({error}); install the package again") from error
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    # A blank line between examples: rich joins single line breaks.
    examples = "\n\n".join(line.strip() for line in module.EXAMPLES.strip().splitlines() if line.strip())
    app.command(name, epilog=f"Examples:\n\n{examples}")(command_line(name, module.command))
    return typer.main.get_command(app)


class LazyGroup(TyperGroup):
    """Knows its commands by name and summary; imports one only to run it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, summary in COMMANDS.items():
            self.add_command(TyperCommand(name, help=summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the stub that help shows by the command itself."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else _load(name), rest


app = typer.Typer(
    cls=LazyGroup,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Run pretrained language models as spiking networks on a simulated neuromorphic chip.",
    epilog="Example: nmllm run smollm2-135m -o runs/smollm2-135m",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(neuromorphic_llm.__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Options of nmllm itself; without a command, its help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _fail(message: str, code: int) -> int:
    """Print one line on standard error and return the exit code."""
    print("nmllm: error:", " ".join(message.split()), file=sys.stderr)
    return code


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """The package's own warnings as one line each on standard error; those of libraries as Python shows them."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_line(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, NeuromorphicLLMWarning):
                print("nmllm: warning:", " ".join(str(message).split()), file=sys.stderr)
            else:
                show(message, category, *place, **options)

        warnings.showwarning = show_line
        warnings.simplefilter("default", NeuromorphicLLMWarning)
        yield


class _Interrupts:
    """Ctrl-C as KeyboardInterrupt, remembered: libraries turn it into errors of their own, above all while they are imported."""

    def __init__(self) -> None:
        self.seen = False
        signal.signal(signal.SIGINT, self._raise)
        signal.signal(signal.SIGALRM, self._raise)
        self._report, sys.unraisablehook = sys.unraisablehook, self._retry

    def _raise(self, *_: object) -> None:
        self.seen = True
        raise KeyboardInterrupt

    def _retry(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Python drops an interruption inside a destructor or a callback from C: raise it again once that has returned."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            self._report(unraisable)


def run_command_line(arguments: Sequence[str], interrupted: Callable[[], bool] = lambda: False) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 usage, 130 interrupted.

    An error after which `interrupted()` holds counts as an interruption.
    """
    # The libraries' own remarks would bury the one line that says what went wrong.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with _warnings_as_lines():
            outcome = typer.main.get_command(app).main(args=list(arguments), prog_name="nmllm", standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if not interrupted():
            return _failure(error)
        code = 130
    return _fail("interrupted", code) if code == 130 else code


def _failure(error: Exception) -> int:
    """Exit code of an error, after its line."""
    if isinstance(error, typer.TyperException):
        return _fail(f"{error.format_message()} (nmllm --help lists commands and options)", 2)
    if isinstance(error, NeuromorphicLLMError):
        return _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    if isinstance(error, OSError):
        # Commands name what they write themselves; left are standard output, the temporary folder and the like.
        reason = f"{error.filename or 'output'}: {error.strerror or error}"
        return _fail(f"{reason}; check the place and its free space, or run with --debug for the traceback", 1)
    return _fail(f"internal error: {type(error).__name__}: {error}; run with --debug for the traceback", 1)


def main() -> None:
    """Run the command line of sys.argv and exit."""
    # Where the signal is ignored, as under nohup, it stays so.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without UTF-8, or a path that is none, must not end a command.
            stream.reconfigure(errors="backslashreplace")
    interrupts = None if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else _Interrupts()
    code = run_command_line(sys.argv[1:], lambda: interrupts is not None and interrupts.seen)
    for stream in (sys.stdout, sys.stderr):
        # A stream that was closed from the start is None.
        with suppress(OSError, AttributeError):
            stream.flush()
    # Not sys.exit: all is written, and the libraries take a second or more to shut down, in which a Ctrl-C would end in their
    # tracebacks. After an interruption inside any exec() Python would even end by signal.
    os._exit(code)
