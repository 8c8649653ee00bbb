"""Verilated modules run in bulk from numpy arrays (docs/reference/rtl/verification.md, Benches)."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.build import Port, build
from neuromorphic_llm.rtl.words import Words, empty_words, pack, row_shape, signed, to_words, unpack

__all__ = ["Bench", "StreamResult", "pack", "signed", "unpack"]

Rows = Mapping[str, ArrayLike] | ArrayLike
"""Input of a source: values of its only field, [transfers, ..]; values of each field; or, without fields, the number of transfers."""

EVENT = np.dtype([("cycle", "<i8"), ("channel", "<i4"), ("words", "<i4", 4), ("unused", "<i4")])
"""Record of an observer (observe.cpp)."""

_MESSAGE_BYTES = 16384
_RESET_CYCLES = 2
_SINK_SEEDS = 1000


class _Column(ctypes.Structure):
    _fields_ = (("port", ctypes.c_int64), ("element", ctypes.c_int64), ("data", ctypes.c_void_p), ("step", ctypes.c_int64))


class _Stream(ctypes.Structure):
    _fields_ = (
        ("valid", ctypes.c_int64),
        ("ready", ctypes.c_int64),
        ("element", ctypes.c_int64),
        ("fields", ctypes.POINTER(_Column)),
        ("number_of_fields", ctypes.c_int64),
        ("cycles", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("wanted", ctypes.c_int64),
        ("moved", ctypes.c_int64),
        ("pause", ctypes.c_double),
        ("random", ctypes.c_uint64),
        ("active", ctypes.c_int64),
    )


@dataclass(frozen=True)
class StreamResult:
    """Result of `Bench.stream`; cycles count from the start of the call."""

    cycles: int
    """Cycles run."""
    accepted: dict[str, NDArray[np.int64]]
    """Source -> cycle of each transfer that was accepted."""
    outputs: dict[str, dict[str, NDArray[Any]]]
    """Sink -> its fields [transfers, ..] and `cycle` [transfers]."""
    observed: dict[str, Words]
    """Output port -> values [cycles, ..]."""


class Bench:
    """A module in simulation. It starts, and starts again after `reset`, with two cycles of `rst`, other inputs 0.

    `spec` is the chip of its package (nano), `parameters` (numbers, or text as SystemVerilog writes it) and `defines` those of the module,
    `sources` files beside those of rtl/. `observe` binds the observers of rtl/tb to its units, `trace` makes waveforms possible. Without
    `assertions` a large module runs about 1.5 times as fast.
    Raises SimulationError if it cannot be built, and from then on wherever an assertion of the module fails, with its name and cycle.
    """

    def __init__(
        self,
        top: str,
        parameters: Mapping[str, int | str] | None = None,
        defines: Sequence[str] = (),
        spec: ChipSpec | None = None,
        sources: Sequence[Path] = (),
        seed: int = 1,
        observe: bool = False,
        trace: bool = False,
        assertions: bool = True,
    ) -> None:
        library, ports = build(top, spec or load_spec("nano"), parameters or {}, defines, sources, observe, trace, assertions)
        self.top = top
        self.cycle = 0
        """Cycles since `reset` began."""
        self.ports: dict[str, Port] = {port.name: port for port in ports}
        self._index = {port.name: index for index, port in enumerate(ports)}
        self._seed = seed
        self._library = _load(library)
        self.reset()

    def reset(self) -> None:
        """A new instance, whatever has no reset filled with other random values than before, after two cycles of `rst`."""
        self._model = ctypes.c_void_p(self._library.nmllm_new(_verilator_seed(self._seed)))
        discard = getattr(self._library, "nmllm_discard", self._library.nmllm_delete)
        self._finalizer = weakref.finalize(self, discard, self._model)
        self._seed += 1
        self.cycle = 0
        if "rst" in self.ports:
            self.run({"rst": np.ones(_RESET_CYCLES, np.uint64)}, outputs=())

    def run(self, inputs: Mapping[str, ArrayLike], cycles: int | None = None, outputs: Sequence[str] | None = None) -> dict[str, Words]:
        """Drive inputs [cycles, ..], or single values held for all cycles, and return outputs (all, or those named) [cycles, ..].

        Ports of up to 64 bits are uint64, wider ones uint32 words, the lowest first, in a last axis; array ports have their axes after that
        of the cycles. Inputs not named are 0. Outputs are as seen before the clock edge that ends the cycle. The state stays between calls.
        """
        if cycles is None:
            given = [len(np.asarray(v)) for name, v in inputs.items() if np.ndim(v) > self._held_axes(name)]
            if not given:
                raise ValueError(f"{self.top}: all inputs are held; say for how many cycles")
            cycles = given[0]
        columns, held = self._driven(inputs, cycles, set())
        names = [port.name for port in self.ports.values() if port.output] if outputs is None else outputs
        observed_columns, observed = self._observed(names, cycles)
        self._call(cycles, columns, observed_columns, [], [])
        del held  # until here the harness reads them
        return observed

    def stream(
        self,
        inputs: Mapping[str, Rows],
        outputs: Sequence[str],
        cycles: int,
        idle: float = 0.0,
        backpressure: float = 0.0,
        seed: int = 1,
        until: Mapping[str, int] | None = None,
        drive: Mapping[str, ArrayLike] | None = None,
        observe: Sequence[str] = (),
    ) -> StreamResult:
        """Feed ready/valid streams and take from others for `cycles` cycles, or until each output has brought `until[name]` transfers.

        Stream X has the ports X_valid, X_ready (none: always ready) and fields X_..; "X[2]" is element 2 of array ports of these names.
        A source pauses with probability `idle` before each transfer, a sink is not ready with probability `backpressure` in each cycle.
        `drive` and `observe` are other ports, as in `run`.
        """
        used: set[str] = set()
        sources, accepted, sent = [], {}, []
        for index, (name, rows) in enumerate(inputs.items()):
            source, accepted[name], words = self._source(name, rows, idle, seed + index, used)
            sources.append(source)
            sent.append(words)
        sinks, taken = [], {}
        for index, name in enumerate(outputs):
            sink, taken[name] = self._sink(name, cycles, backpressure, seed + _SINK_SEEDS + index, used)
            sink.wanted = (until or {}).get(name, 0)
            sinks.append(sink)
        columns, held = self._driven(drive or {}, cycles, used)
        observed_columns, observed = self._observed(observe, cycles)
        ran = self._call(cycles, columns, observed_columns, sources, sinks)
        del sent, held  # until here the harness reads them
        return StreamResult(
            cycles=ran,
            accepted={name: accepted[name][: s.moved] for name, s in zip(inputs, sources, strict=True)},
            outputs={name: {f: v[: s.moved].copy() for f, v in taken[name].items()} for name, s in zip(outputs, sinks, strict=True)},
            observed={name: values[:ran] for name, values in observed.items()},
        )

    def record(self, on: bool) -> None:
        """Start or end keeping what the observers report, from nothing."""
        self._library.nmllm_record(int(on))

    def recorded(self) -> NDArray[Any]:
        """Events of the observers since the last call, as EVENT; cycles are those of `cycle`."""
        first = ctypes.c_void_p()
        count = self._library.nmllm_recorded(ctypes.byref(first))
        return np.frombuffer(ctypes.string_at(first.value or 0, count * EVENT.itemsize) if count else b"", EVENT)

    def channels(self) -> list[str]:
        """`path signal` of every channel by its number."""
        names: list[str] = []
        while (name := self._library.nmllm_channel_name(len(names))) is not None:
            names.append(name.decode())
        return names

    def trace(self, path: Path, scope: str, begin: int, end: int) -> None:
        """Write the waveform of the cycles `begin` .. `end` - 1 from now on, and of what is in `scope` (empty: of everything), as VCD."""
        self._library.nmllm_trace(str(path).encode(), scope.encode(), *map(ctypes.c_int64, (self.cycle, begin, end)))

    def end_trace(self) -> None:
        """Complete the file of `trace`; SimulationError if it could not be written."""
        if not self._library.nmllm_trace(b"", b"", *map(ctypes.c_int64, (0, 0, 0))):
            raise SimulationError(f"{self.top}: the waveform could not be written; free space on its disk, or choose another folder")

    def _call(self, cycles: int, inputs: list[_Column], outputs: list[_Column], sources: list[_Stream], sinks: list[_Stream]) -> int:
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        source_array, sink_array = (_Stream * len(sources))(*sources), (_Stream * len(sinks))(*sinks)
        ran = self._library.nmllm_run(
            self._model,
            ctypes.c_int64(cycles),
            (_Column * len(inputs))(*inputs),
            ctypes.c_int64(len(inputs)),
            (_Column * len(outputs))(*outputs),
            ctypes.c_int64(len(outputs)),
            source_array,
            ctypes.c_int64(len(sources)),
            sink_array,
            ctypes.c_int64(len(sinks)),
            message,
            ctypes.c_int64(_MESSAGE_BYTES),
        )
        self.cycle += ran
        for streams, done in ((sources, source_array), (sinks, sink_array)):
            for stream, entry in zip(streams, done, strict=True):
                stream.moved = entry.moved
        if message.value:
            raise SimulationError(
                f"{self.top}, cycle {ran} of this call: {message.value.decode(errors='replace').strip()}; start again with reset()"
            )
        return int(ran)

    def _port(self, name: str, output: bool) -> Port:
        port = self.ports.get(name)
        if port is None or port.output != output:
            kind = "output" if output else "input"
            names = ", ".join(p.name for p in self.ports.values() if p.output == output)
            raise ValueError(f"{self.top} has no {kind} {name!r}; its {kind}s are {names}")
        return port

    def _held_axes(self, name: str) -> int:
        port = self._port(name, output=False)
        return len(port.shape) + (port.size > 8)

    def _driven(self, inputs: Mapping[str, ArrayLike], cycles: int, used: set[str]) -> tuple[list[_Column], list[Any]]:
        """Columns of all inputs but the clock, and the arrays they point to; streams write over the zeros of theirs, in `used`."""
        columns, keep = [], []
        for name, port in self.ports.items():
            if port.output or name == "clk":
                continue
            if name in inputs and name in used:
                raise ValueError(f"{self.top}.{name} belongs to a stream of this call; leave it out of drive")
            value = np.asarray(inputs.get(name, np.zeros(row_shape(port), np.uint64)))
            held = value.ndim == len(row_shape(port))
            rows = to_words(port, value[None] if held else value, f"{self.top}.{name}")
            if not held and len(rows) < cycles:
                raise ValueError(f"{self.top}.{name}: {len(rows)} values for {cycles} cycles; give one for each, or a single one to hold")
            keep.append(rows)
            columns.append(_Column(self._index[name], -1, rows.ctypes.data, 0 if held else rows.strides[0]))
        for name in inputs:
            self._port(name, output=False)
        return columns, keep

    def _observed(self, names: Sequence[str], cycles: int) -> tuple[list[_Column], dict[str, Words]]:
        values = {name: empty_words(self._port(name, output=True), cycles) for name in names}
        return [_Column(self._index[name], -1, v.ctypes.data, v.strides[0]) for name, v in values.items()], values

    def _stream(
        self, name: str, output: bool, columns: list[_Column], cycles: NDArray[np.int64], pause: float, seed: int, used: set[str]
    ) -> _Stream:
        base, element = _element(name)
        self._port(f"{base}_valid", output)
        ready = self._index.get(f"{base}_ready", -1)
        used |= {f"{base}_valid", f"{base}_ready"}
        array = (_Column * len(columns))(*columns)
        random = (seed * 0x9E3779B97F4A7C15 + 0x1234567) % (1 << 64) or 1
        valid = self._index[f"{base}_valid"]
        return _Stream(valid, ready, element, array, len(columns), cycles.ctypes.data, len(cycles), 0, 0, pause, random, 0)

    def _source(self, name: str, rows: Rows, pause: float, seed: int, used: set[str]) -> tuple[_Stream, NDArray[np.int64], list[Words]]:
        """A stream to feed, the cycles of its transfers to be filled in, and the arrays that it points to."""
        base, element = _element(name)
        values = self._fields_sent(name, base, rows)
        count = len(next(iter(values.values()))) if values else int(np.asarray(rows).item())
        columns = []
        words = []
        for field, value in values.items():
            port = self._port(field, output=False)
            data = to_words(replace(port, shape=()) if element >= 0 else port, value, f"{self.top}.{field}")
            if len(data) != count:
                raise ValueError(f"{self.top}.{field}: {len(data)} values, other fields of {name} have {count}; give as many")
            columns.append(_Column(self._index[field], element, data.ctypes.data, data.strides[0]))
            used.add(field)
            words.append(data)
        cycles = np.zeros(count, np.int64)
        return self._stream(name, False, columns, cycles, pause, seed, used), cycles, words

    def _fields_sent(self, name: str, base: str, rows: Rows) -> dict[str, NDArray[Any]]:
        """Port -> values of the fields of a source."""
        if isinstance(rows, Mapping):
            return {f"{base}_{field}": np.asarray(value) for field, value in rows.items()}
        if np.ndim(rows) == 0:
            return {}
        handshake = (f"{base}_valid", f"{base}_ready")
        fields = [p.name for p in self.ports.values() if p.name.startswith(f"{base}_") and p.name not in handshake and not p.output]
        if len(fields) != 1:
            raise ValueError(f"{self.top}: stream {name} has the fields {', '.join(fields)}; give values for each by name")
        return {fields[0]: np.asarray(rows)}

    def _sink(self, name: str, cycles: int, pause: float, seed: int, used: set[str]) -> tuple[_Stream, dict[str, NDArray[Any]]]:
        """A stream to take from, and its fields and cycles to be filled in."""
        base, element = _element(name)
        values: dict[str, NDArray[Any]] = {}
        columns = []
        for port in self.ports.values():
            if port.output and port.name.startswith(f"{base}_") and port.name not in (f"{base}_valid", f"{base}_ready"):
                data = empty_words(replace(port, shape=()) if element >= 0 else port, cycles)
                columns.append(_Column(self._index[port.name], element, data.ctypes.data, data.strides[0]))
                values[port.name.removeprefix(f"{base}_")] = data
        values["cycle"] = np.zeros(cycles, np.int64)
        return self._stream(name, True, columns, values["cycle"], pause, seed, used), values


def _verilator_seed(seed: int) -> int:
    """1 .. 2^31 - 1; Verilator takes a seed of its own for 0."""
    return (seed - 1) % 0x7FFFFFFF + 1


def _element(name: str) -> tuple[str, int]:
    """Base name and index of "X[2]"; -1 without one."""
    if not name.endswith("]"):
        return name, -1
    base, index = name[:-1].split("[")
    return base, int(index)


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.nmllm_new.restype = ctypes.c_void_p
    library.nmllm_delete.argtypes = [ctypes.c_void_p]
    library.nmllm_run.restype = ctypes.c_int64
    if hasattr(library, "nmllm_record"):
        library.nmllm_recorded.restype = ctypes.c_int64
        library.nmllm_channel_name.restype = ctypes.c_char_p
    return library
