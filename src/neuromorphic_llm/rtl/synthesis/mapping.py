"""Mapping of a module with Yosys (PyPI pyosys), in a process of its own: its memory is given back, and a crash is an error of one unit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.build import source_files
from neuromorphic_llm.rtl.package import package_text
from neuromorphic_llm.rtl.synthesis.liberty import Library

BLACK_BOXES = ("nmllm_ram", "nmllm_lane_ram", "nmllm_crossbar", "nmllm_membrane_array")
"""Memories and the crossbar macros; their sizes are listed, their ports are observed."""

FANOUT = 12
"""Sinks of a net, at most; abc builds trees of buffers and inverters above."""

_ABC = ("strash", "dc2", "map -B 0.9 -D {period}", "topo", "buffer -N {fanout} -p", "topo", "upsize -D {period}", "dnsize -D {period}")
"""No SAT sweeping (fraig, dch), as in Yosys' own script: on the 32-bit multipliers it takes longer than all other steps together."""


@dataclass(frozen=True, eq=False)
class SynthesisTarget:
    """Cells to map to: file and library, process node, the driving cell of inputs, load of outputs [F], delay that abc aims at [s]."""

    name: str
    path: Path
    library: Library
    node_nm: int
    driver: str
    load: float
    period: float


def missing_yosys() -> str | None:
    """Tools that synthesis lacks on this machine, with what to do; None if it can run."""
    if importlib.util.find_spec("pyosys") is None:
        return "synthesis needs Yosys: the Python package pyosys is not installed; pip install pyosys"
    return None


def map_module(
    top: str, spec: ChipSpec, parameters: Mapping[str, int], target: SynthesisTarget | None, sources: Sequence[Path] | None = None
) -> dict[str, Any]:
    """The mapped, flat module as Yosys' JSON: cells of the target, or generic gates without one. SimulationError with Yosys' last lines.

    sources: files of the module, by default those of the RTL.
    """
    if reason := missing_yosys():
        raise SimulationError(reason)
    with tempfile.TemporaryDirectory(prefix="nmllm-synth-") as name:
        folder = Path(name)
        (folder / "nmllm_pkg.sv").write_text(package_text(spec), encoding="utf-8")
        files = [str(folder / "nmllm_pkg.sv"), *(str(path.resolve()) for path in sources or source_files(top))]
        commands = folder / "commands.json"
        commands.write_text(json.dumps(_commands(top, files, parameters, target, folder)), encoding="utf-8")
        command = [sys.executable, str(Path(__file__).with_name("yosys_process.py")), str(commands)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=os.environ | {"PYTHONPATH": ""})
        if result.returncode != 0 or not (folder / "netlist.json").exists():
            lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
            raise SimulationError(f"Yosys did not map {top} ({result.returncode}): " + " | ".join(lines[-3:])[:400])
        data = json.loads((folder / "netlist.json").read_text(encoding="utf-8"))
    module: dict[str, Any] = data["modules"][top]
    return module


def _commands(top: str, files: Sequence[str], parameters: Mapping[str, int], target: SynthesisTarget | None, folder: Path) -> list[str]:
    options = [f"--blackboxed-module {name}" for name in BLACK_BOXES if name != top]
    options += [f"-G {name}={value}" for name, value in sorted(parameters.items())]
    commands = [
        f"read_slang --top {top} --unroll-limit 2000000 --ignore-assertions {' '.join(options)} {' '.join(files)}",
        # Not `hierarchy`, which synth's step `begin` runs: it fits all memories to the ports of the first one.
        f"setattr -mod -set top 1 {top}",
        "flatten",
        "synth -booth -run coarse:fine",
        "synth -run fine:check -noabc",
        "opt -full",
        "techmap",  # multiplexers that opt_share made
        "opt",
    ]
    if target is None:
        commands += ["abc -g AND,XOR,MUX", "delete t:$scopeinfo", "opt_clean -purge", "write_json netlist.json"]
        return commands
    steps = [step.format(period=round(target.period * 1e12), fanout=FANOUT) for step in _ABC]
    (folder / "abc.script").write_text("\n".join(steps) + "\n", encoding="utf-8")
    # abc reads the load in fF
    (folder / "constraints").write_text(f"set_driving_cell {target.driver}\nset_load {target.load * 1e15:.4f}\n", encoding="utf-8")
    return [
        *commands,
        f"dfflibmap -liberty {target.path}",
        "opt",
        f"abc -liberty {target.path} -constr constraints -script abc.script",
        "setundef -zero",
        "delete t:$scopeinfo",
        "opt_clean -purge",
        "write_json netlist.json",
    ]
