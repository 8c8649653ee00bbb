"""Steps a unit in cocotb, one cycle at a time, with monitors of its streams and commands (docs/reference/rtl/index.md, Conventions)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from cocotb.triggers import Timer
from cocotb.types import Logic, LogicArray

FLIPS = 0.2
"""Share of cycles in which the sinks' readies change and change back before the clock edge."""


class StoppedError(Exception):
    """The cycles that the stepper was given are over."""


class Monitor(Protocol):
    """Looks at every cycle, `rst` included."""

    outputs: Sequence[str]

    def see(self, values: Mapping[str, int]) -> None: ...


@dataclass
class Stream:
    """An output stream: once valid is high, it and the fields stay until accepted. The router may exchange its flits (`fields` empty)."""

    name: str
    fields: Sequence[str]
    ready: bool = True
    waiting: tuple[int, ...] | None = None

    @property
    def outputs(self) -> Sequence[str]:
        return [f"{self.name}_valid", *self.fields]

    def see(self, values: Mapping[str, int]) -> None:
        if values["rst"]:
            self.waiting = None
            return
        valid, fields = values[f"{self.name}_valid"], tuple(values[name] for name in self.fields)
        if self.waiting is not None:
            assert valid, f"{self.name}_valid fell before it was accepted"
            assert fields == self.waiting, f"{self.name}: {self.waiting} became {fields} before it was accepted"
        refused = valid and self.ready and not values[f"{self.name}_ready"]
        self.waiting = fields if refused else None


@dataclass
class Command:
    """`start` answered by one `done`, in its cycle or later; `busy` outputs are high only while a command runs."""

    busy: Sequence[str] = ()
    running: bool = False
    outputs: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        self.outputs = ["done", *self.busy]

    def see(self, values: Mapping[str, int]) -> None:
        if values["rst"]:
            self.running = False
            return
        self.running |= bool(values["start"])
        for name in self.outputs:
            assert self.running or not values[name], f"{name} is high without a command"
        self.running &= not values["done"]


class Stepper:
    """Drives inputs after the rising edge of the clock and looks at outputs before the next one.

    Every cycle is shown to the monitors. Now and then the readies are flipped and flipped back within a cycle, and no valid and no field
    may follow. `limit` is the number of cycles until StoppedError is raised, None for no end.
    """

    def __init__(self, dut: Any, monitors: Iterable[Monitor], seed: int) -> None:
        self.dut, self.monitors = dut, list(monitors)
        self.random = Random(seed)
        self.limit: int | None = None
        self.cycles = 0
        self.inputs: dict[str, int] = {}
        self.streams = [m for m in self.monitors if isinstance(m, Stream) and m.ready]

    async def step(self, inputs: Mapping[str, int], outputs: Sequence[str]) -> dict[str, int]:
        """A cycle; inputs not named keep their values, but for `rst`, which falls. Returns the outputs named."""
        inputs = {"rst": 0} | dict(inputs)
        if self.limit is not None and self.cycles >= self.limit:
            raise StoppedError
        self.cycles += 1
        self._handle("clk").value = 0
        for name, value in inputs.items():
            if self.inputs[name] != value:
                self._handle(name).value = value
        self.inputs.update(inputs)
        await Timer(1, "ns")
        values = self._read({*outputs, *(name for monitor in self.monitors for name in monitor.outputs)})
        for monitor in self.monitors:
            monitor.see(self.inputs | values)
        if self.streams and self.random.random() < FLIPS:
            await self._flip(values)
        self._handle("clk").value = 1
        await Timer(1, "ns")
        return {name: values[name] for name in outputs}

    def clear(self, name: str) -> None:
        """Drive an input to 0 from the beginning on."""
        self.inputs[name] = 0
        self._handle(name).value = 0

    async def reset(self, cycles: int = 1) -> None:
        """The other inputs stay as they are."""
        for _ in range(cycles):
            await self.step({"rst": 1}, ())

    async def _flip(self, values: Mapping[str, int]) -> None:
        """Valid never waits for ready: other readies in the same cycle change nothing that a stream offers."""
        for flipped in (1, 0):
            for stream in self.streams:
                name = f"{stream.name}_ready"
                self._handle(name).value = self.inputs.get(name, 0) ^ flipped
            await Timer(1, "ns")
            for stream in self.streams:
                for name, value in self._read(stream.outputs).items():
                    assert value == values[name], f"{name} follows {stream.name}_ready within the cycle"

    def _read(self, names: Iterable[str]) -> dict[str, int]:
        return {name: _number(self._handle(name).value) for name in names}

    def _handle(self, name: str) -> Any:
        return getattr(self.dut, name)


def _number(value: Any) -> Any:
    """Of a port of one bit or more, or a list of those of its elements."""
    if isinstance(value, LogicArray):
        return value.to_unsigned()
    return int(value) if isinstance(value, Logic) else [_number(element) for element in value]
