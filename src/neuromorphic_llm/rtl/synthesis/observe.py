"""Observed ports of a unit and of its memories in an RTL simulation of a test bench that contains it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.build import source_files

Bits = NDArray[np.uint8]


class ObservedBench(Bench):
    """`top` as the tests know it, whose `run` also keeps the signals `watched` of the instance `path` within it, since the last reset.

    watched: signal -> bits, the signals being ports of the unit ("done"), of instances in it ("u_ram.read_data") or of `top` ("/done").
    rows: signals that are arrays of arrays -> elements of the outer one.
    """

    def __init__(
        self,
        top: str,
        path: str,
        watched: Mapping[str, int],
        spec: ChipSpec,
        parameters: Mapping[str, int] | None = None,
        rows: Mapping[str, int] | None = None,
    ) -> None:
        self.watched = dict(watched)
        self._shown = top
        self._rows = dict(rows or {})
        self._kept: dict[str, list[NDArray[Any]]] = {}
        self._port_of = {signal: f"nmllm_observed_{number}" for number, signal in enumerate(watched)}
        name = f"{top}_observed"
        with tempfile.TemporaryDirectory(prefix="nmllm-observe-") as folder:
            file = Path(folder) / f"{name}.sv"
            file.write_text(self._wrapper(top, name, path), encoding="utf-8")
            super().__init__(name, parameters, spec=spec, sources=[file])

    def _wrapper(self, top: str, name: str, path: str) -> str:
        """A module with the ports of `top` and one for each signal watched."""
        text = next(file for file in source_files(top) if file.stem == top).read_text(encoding="utf-8")
        header = re.search(rf"^module {top}\b(.*?)^\);", text, re.DOTALL | re.MULTILINE)
        if header is None:
            raise SimulationError(f"{top}.sv: no port list between 'module {top}' and a line ');'; write it so")
        parameters = re.findall(r"^\s*parameter\s[^=]*?(\w+)\s*=", header[1], re.MULTILINE)
        passed = ", ".join(f".{parameter}({parameter})" for parameter in parameters)
        instance = f"dut.{path}." if path else "dut."
        ports = "".join(f",\n  output logic [{bits - 1}:0] {self._port_of[signal]}" for signal, bits in self.watched.items())
        places = {port: f"dut.{signal[1:]}" if signal.startswith("/") else instance + signal for signal, port in self._port_of.items()}
        values = "".join(self._assignments(signal, places[port], port) for signal, port in self._port_of.items())
        return f"module {name}{header[1].rstrip()}{ports}\n);\n  {top} #({passed}) dut (.*);\n{values}endmodule\n"

    def _assignments(self, signal: str, place: str, port: str) -> str:
        """The signal as one vector, element 0 highest as in the netlist. Verilator streams arrays of one dimension only."""
        rows, bits = self._rows.get(signal), self.watched[signal]
        if rows is None:
            return f"  assign {port} = {{>>{{{place}}}}};\n"
        width = bits // rows
        return "".join(f"  assign {port}[{bits - 1 - width * row} -: {width}] = {{>>{{{place}[{row}]}}}};\n" for row in range(rows))

    def reset(self) -> None:
        """Reset as Bench.reset does and drop the records."""
        self._kept = {}
        self.top = self._shown  # in messages
        super().reset()

    def run(
        self, inputs: Mapping[str, ArrayLike], cycles: int | None = None, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run as Bench.run does and record the observed signals."""
        hidden = set(self._port_of.values())
        shown = [port.name for port in self.ports.values() if port.output and port.name not in hidden] if outputs is None else list(outputs)
        found = super().run(inputs, cycles, [*shown, *(name for name in self._port_of.values())])
        for signal, port in self._port_of.items():
            self._kept.setdefault(signal, []).append(found[port])
        return {name: found[name] for name in shown}

    def bits(self, signal: str) -> Bits:
        """Values of a signal since the reset, [cycles, bits], lowest bit first."""
        words = np.concatenate(self._kept[signal])
        data = np.ascontiguousarray(words if words.ndim == 2 else words[:, None]).view(np.uint8)
        return np.unpackbits(data, axis=1, bitorder="little")[:, : self.watched[signal]]
