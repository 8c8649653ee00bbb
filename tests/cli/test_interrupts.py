"""Ctrl-C at any time: exit code 130, one line, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from neuromorphic_llm.chip.program_io import FORMAT, VERSION
from neuromorphic_llm.pipeline.steps import StepArtefact

ROOT = Path(__file__).parents[2]

Start = Callable[..., "subprocess.Popen[str]"]


def interrupt(process: subprocess.Popen[str]) -> str:
    """Send Ctrl-C; everything on standard error once the process has ended with code 130."""
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    return error


def start(*command: str, path: Path | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*([str(path)] if path else []), str(ROOT / "src"), *sys.path])}
    return subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("module", ["typer", "rich", "torch"])
@pytest.mark.parametrize("entry", [["-m", "neuromorphic_llm.cli"], ["-c", "from neuromorphic_llm.cli.__main__ import main; main()"]])
def test_during_imports(tmp_path: Path, module: str, entry: list[str]) -> None:
    (tmp_path / f"{module}.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    process = start(*entry, "convert", "random-tiny", "-o", str(tmp_path / "network"), path=tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    assert interrupt(process) == "nmllm: error: interrupted\n"


WAITING = (
    "import sys, time, types; from neuromorphic_llm.cli import main; from neuromorphic_llm.cli.common import CommandRun\n"
    "def command(run: CommandRun) -> None:\n    print('started', flush=True)\n    {wait}\n"
    "sys.modules['neuromorphic_llm.cli.wait'] = types.SimpleNamespace(EXAMPLES='', command=command)\n"
    "main.COMMANDS['wait'] = 'For tests.'; sys.argv = ['nmllm', 'wait']; main.main()"
)


@pytest.mark.parametrize(
    "wait",
    [
        "time.sleep(60)",
        # What C extensions and lazy imports make of it.
        "try: time.sleep(60)\n    except KeyboardInterrupt as error: raise ImportError('initialisation failed') from error",
        # Python itself drops what is raised in a destructor.
        "type('Late', (), {'__del__': lambda self: time.sleep(60)})()\n    time.sleep(60)",
        # Python ends by signal after this, whatever handles the exception.
        "exec('time.sleep(60)')",
    ],
)
def test_during_a_command(wait: str) -> None:
    process = start("-c", WAITING.format(wait=wait))
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    assert interrupt(process) == "nmllm: error: interrupted\n"


def test_after_the_end() -> None:
    """What libraries do at exit is not waited for: all results are written."""
    process = start("-c", WAITING.format(wait="import atexit; atexit.register(time.sleep, 60)"))
    output, error = process.communicate(timeout=30)
    assert (process.returncode, output, error) == (0, "started\n", "")


def test_the_entry_module_is_light() -> None:
    """Until it is imported a Ctrl-C prints a traceback, so it may import next to nothing."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"nmllm": "neuromorphic_llm.cli.__main__:main"}
    program = "import sys; before = set(sys.modules); import neuromorphic_llm.cli.__main__; print(*(set(sys.modules) - before))"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")}
    )
    assert not {"typing", "re", "typer", "rich", "torch"} & set(loaded.stdout.split()), loaded.stdout


def test_in_the_middle_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "article.txt").write_text("The council of Halden Bay voted to replace all the lamps of the town.")
    options = [
        "--article",
        str(tmp_path / "article.txt"),
        "--chip",
        "nano",
        "-o",
        str(tmp_path / "out"),
        "--json",
        str(tmp_path / "a.json"),
    ]
    process = start("-m", "neuromorphic_llm.cli", "run", "random-tiny", *options)
    assert process.stderr is not None
    # "compile: 1 of 1" comes before its result is kept, "compile: 0.1 s" after it.
    while (line := process.stderr.readline()) and not (line.startswith("compile:") and " of " not in line):
        pass
    assert interrupt(process).splitlines()[-1] == "nmllm: error: interrupted"
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert not [name for name in left if ".partial" in name or ".old" in name]
    assert not left & {"a.json", "out/report.json", "out/report.html"}
    assert {"out/steps/convert.json", "out/steps/compile.json"} <= left
    hashes = [line.split('"')[3] for line in (tmp_path / "out/program/artefact.json").read_text().splitlines() if "content_hash" in line]
    assert StepArtefact(tmp_path / "out" / "program", FORMAT, VERSION).is_intact(hashes[0])
