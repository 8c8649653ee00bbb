"""`Bench` of cocotb: what the units' tests drive in bulk runs here cycle by cycle, under the eyes of the monitors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cocotb.task import resume
from numpy.typing import ArrayLike, NDArray
from stepper import Stepper

from neuromorphic_llm.rtl.build import Port
from neuromorphic_llm.rtl.words import row_shape, to_words


class ScriptBench:
    """As neuromorphic_llm.rtl.bench.Bench, without array inputs; its functions are called from a thread (cocotb.task.bridge)."""

    def __init__(self, stepper: Stepper, top: str, ports: Sequence[Port]) -> None:
        self.stepper, self.top = stepper, top
        self.ports = {port.name: port for port in ports}

    def reset(self) -> None:
        self._reset()

    def run(
        self, inputs: Mapping[str, ArrayLike], cycles: int | None = None, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        driven = {name: self._rows(name, value) for name, value in inputs.items()}
        if cycles is None:
            cycles = next(len(rows) for rows, held in driven.values() if not held)
        names = [port.name for port in self.ports.values() if port.output] if outputs is None else list(outputs)
        seen = self._run(driven, cycles, names)
        return {name: self._words(name, [row[name] for row in seen]) for name in names}

    def _rows(self, name: str, value: ArrayLike) -> tuple[list[int], bool]:
        """An integer for each cycle, or a single one that is held."""
        port, array = self.ports[name], np.asarray(value)
        held = array.ndim == len(row_shape(port))
        rows = to_words(port, array[None] if held else array, name).reshape(-1, *row_shape(port))
        if rows.ndim == 1:
            return [int(row) for row in rows], held
        return [int.from_bytes(row.astype("<u4").tobytes(), "little") for row in rows], held

    def _words(self, name: str, values: list[int]) -> NDArray[Any]:
        port = self.ports[name]
        if port.size <= 8:
            return np.array(values, np.uint64)
        return np.frombuffer(b"".join(value.to_bytes(port.size, "little") for value in values), np.uint32).reshape(len(values), -1)

    @resume
    async def _reset(self) -> None:
        await self.stepper.reset()

    @resume
    async def _run(self, driven: Mapping[str, tuple[list[int], bool]], cycles: int, outputs: Sequence[str]) -> list[dict[str, int]]:
        idle = {name: 0 for name, port in self.ports.items() if not port.output and name not in ("clk", "rst", *driven)}
        seen = []
        for cycle in range(cycles):
            inputs = {name: rows[0 if held else cycle] for name, (rows, held) in driven.items()}
            seen.append(await self.stepper.step(idle | inputs, outputs))
        return seen
