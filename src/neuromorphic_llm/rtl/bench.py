"""Verilated modules run in bulk from numpy arrays (docs/reference/rtl.md, Verification)."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.build import Port, build

Words = NDArray[np.uint64] | NDArray[np.uint32]
Rows = Mapping[str, ArrayLike] | ArrayLike
"""What a source sends: values of its only field, [transfers, ..]; values of each field; or, without fields, how many transfers."""

_MESSAGE_BYTES = 16384
_RESET_CYCLES = 2


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
    """What `Bench.stream` saw; cycles count from the start of the call."""

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

    `spec` is the chip of its package (nano), `parameters` and `defines` those of the module, `sources` files besides rtl/*.sv and rtl/tb/*.sv.
    Raises SimulationError if it cannot be built, and from then on wherever an assertion of the module fails, with its name and cycle.
    """

    def __init__(
        self,
        top: str,
        parameters: Mapping[str, int] | None = None,
        defines: Sequence[str] = (),
        spec: ChipSpec | None = None,
        sources: Sequence[Path] = (),
        seed: int = 1,
    ) -> None:
        library, ports = build(top, spec or load_spec("nano"), parameters or {}, defines, sources)
        self.top = top
        self.ports: dict[str, Port] = {port.name: port for port in ports}
        self._index = {port.name: index for index, port in enumerate(ports)}
        self._seed = seed
        self._library = _load(library)
        self.reset()

    def reset(self) -> None:
        """A new instance, whatever has no reset filled with other random values than before, after two cycles of `rst`."""
        self._model = ctypes.c_void_p(self._library.nmllm_new(self._seed & 0x7FFFFFFF))
        self._finalizer = weakref.finalize(self, self._library.nmllm_delete, self._model)
        self._seed += 1
        if "rst" in self.ports:
            self.run({"rst": np.ones(_RESET_CYCLES, np.uint64)}, outputs=())

    def run(self, inputs: Mapping[str, ArrayLike], cycles: int | None = None, outputs: Sequence[str] | None = None) -> dict[str, Words]:
        """Drive inputs [cycles, ..], or single values held for all cycles, and return outputs (all, or those named) [cycles, ..].

        Ports of up to 64 bits are uint64, wider ones uint32 words, the lowest first, in a last axis; array ports have their axes after that of the
        cycles. Inputs not named are 0. Outputs are as seen before the clock edge that ends the cycle. The state stays between calls.
        """
        if cycles is None:
            given = [len(np.asarray(v)) for name, v in inputs.items() if np.ndim(v) > self._held_axes(name)]
            if not given:
                raise ValueError(f"{self.top}: all inputs are held; say for how many cycles")
            cycles = given[0]
        columns, keep = self._driven(inputs, cycles, set())
        observed = self._observed([p.name for p in self.ports.values() if p.output] if outputs is None else outputs, cycles)
        self._call(cycles, columns, observed[0], [], [])
        del keep
        return observed[1]

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

        Stream X has the ports X_valid, X_ready (none: always ready) and fields X_..; "X[2]" is element 2 of array ports of these names. A source pauses with
        probability `idle` before each transfer, a sink is not ready with probability `backpressure` in each cycle. `drive` and `observe` are other ports, as in `run`.
        """
        keep: list[Any] = []
        used: set[str] = set()
        sources = [self._source(name, rows, idle, seed + index, used, keep) for index, (name, rows) in enumerate(inputs.items())]
        results: list[dict[str, NDArray[Any]]] = []
        sinks = []
        for index, name in enumerate(outputs):
            stream, fields = self._sink(name, cycles, backpressure, seed + 1000 + index, used, keep)
            stream.wanted = (until or {}).get(name, 0)
            sinks.append(stream)
            results.append(fields)
        columns, held = self._driven(drive or {}, cycles, used)
        observed = self._observed(observe, cycles)
        ran = self._call(cycles, columns, observed[0], sources, sinks)
        del held
        return StreamResult(
            cycles=ran,
            accepted={name: keep_[: s.moved].copy() for name, s, keep_ in zip(inputs, sources, keep, strict=False)},
            outputs={name: {f: v[: s.moved].copy() for f, v in r.items()} for name, s, r in zip(outputs, sinks, results, strict=True)},
            observed={name: values[:ran] for name, values in observed[1].items()},
        )

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
        for streams, done in ((sources, source_array), (sinks, sink_array)):
            for stream, entry in zip(streams, done, strict=True):
                stream.moved = entry.moved
        if message.value:
            raise SimulationError(f"{self.top}, cycle {ran} of this call: {message.value.decode(errors='replace').strip()}; start again with reset()")
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
        """Columns of all inputs but the clock and those that streams drive, and the arrays they point to."""
        columns, keep = [], []
        for name, port in self.ports.items():
            if port.output or name == "clk" or (name in used and name not in inputs):
                continue
            value = np.asarray(inputs.get(name, np.zeros(_row_shape(port), np.uint64)))
            held = value.ndim == len(_row_shape(port))
            rows = _to_words(port, value[None] if held else value, f"{self.top}.{name}")
            if not held and len(rows) < cycles:
                raise ValueError(f"{self.top}.{name}: {len(rows)} values for {cycles} cycles; give one for each, or a single one to hold")
            keep.append(rows)
            columns.append(_Column(self._index[name], -1, rows.ctypes.data, 0 if held else rows.strides[0]))
        for name in inputs:
            self._port(name, output=False)
        return columns, keep

    def _observed(self, names: Sequence[str], cycles: int) -> tuple[list[_Column], dict[str, Words]]:
        values = {name: _empty(self._port(name, output=True), cycles) for name in names}
        return [_Column(self._index[name], -1, v.ctypes.data, v.strides[0]) for name, v in values.items()], values

    def _stream(self, name: str, output: bool, columns: list[_Column], cycles: NDArray[np.int64], pause: float, seed: int, used: set[str]) -> _Stream:
        base, element = _element(name)
        self._port(f"{base}_valid", output)
        ready = self._index.get(f"{base}_ready", -1)
        used |= {f"{base}_valid", f"{base}_ready"}
        array = (_Column * len(columns))(*columns)
        random = (seed * 0x9E3779B97F4A7C15 + 0x1234567) % (1 << 64) or 1
        valid = self._index[f"{base}_valid"]
        return _Stream(valid, ready, element, array, len(columns), cycles.ctypes.data, len(cycles), 0, 0, pause, random, 0)

    def _source(self, name: str, rows: Rows, pause: float, seed: int, used: set[str], keep: list[Any]) -> _Stream:
        base, element = _element(name)
        fields = [p for p in self.ports if p.startswith(f"{base}_") and p not in (f"{base}_valid", f"{base}_ready") and not self.ports[p].output]
        if isinstance(rows, Mapping):
            values = {f"{base}_{field}": np.asarray(v) for field, v in rows.items()}
        elif np.ndim(rows) == 0:
            values = {}
        elif len(fields) == 1:
            values = {fields[0]: np.asarray(rows)}
        else:
            raise ValueError(f"{self.top}: stream {name} has the fields {', '.join(fields)}; give values for each by name")
        count = len(next(iter(values.values()))) if values else int(np.asarray(rows))  # type: ignore[arg-type]
        columns = []
        words = []
        for field, value in values.items():
            port = self._port(field, output=False)
            port = Port(port.name, port.output, port.bits, port.size) if element >= 0 else port
            data = _to_words(port, value, f"{self.top}.{field}")
            if len(data) != count:
                raise ValueError(f"{self.top}.{field}: {len(data)} values, other fields of {name} have {count}; give as many")
            columns.append(_Column(self._index[field], element, data.ctypes.data, data.strides[0]))
            used.add(field)
            words.append(data)
        cycles = np.zeros(count, np.int64)
        stream = self._stream(name, False, columns, cycles, pause, seed, used)
        keep.append(cycles)
        stream._words = words
        return stream

    def _sink(
        self, name: str, cycles: int, pause: float, seed: int, used: set[str], keep: list[Any]
    ) -> tuple[_Stream, dict[str, NDArray[Any]]]:
        base, element = _element(name)
        values: dict[str, NDArray[Any]] = {}
        columns = []
        for port in self.ports.values():
            if port.output and port.name.startswith(f"{base}_") and port.name not in (f"{base}_valid", f"{base}_ready"):
                single = Port(port.name, True, port.bits, port.size) if element >= 0 else port
                data = _empty(single, cycles)
                columns.append(_Column(self._index[port.name], element, data.ctypes.data, data.strides[0]))
                values[port.name.removeprefix(f"{base}_")] = data
        values["cycle"] = np.zeros(cycles, np.int64)
        return self._stream(name, True, columns, values["cycle"], pause, seed, used), values


def signed(values: Words, bits: int) -> NDArray[np.int64]:
    """Two's complement reading of `bits`-bit values, bits <= 64."""
    shift = np.uint64(64 - bits)
    return (np.asarray(values, np.uint64) << shift).view(np.int64) >> np.int64(64 - bits)


def pack(fields: Sequence[tuple[ArrayLike, int]]) -> NDArray[np.uint32]:
    """Words [rows, words] of a packed vector of (values, bits), the highest field first as in a packed struct; up to 64 bits each."""
    total = sum(bits for _, bits in fields)
    arrays = np.broadcast_arrays(*(np.asarray(values) for values, _ in fields))
    words = np.zeros((*arrays[0].shape, -(-total // 32) + 2), np.uint64)
    low = 0
    for values, bits in reversed(list(zip(arrays, [b for _, b in fields], strict=True))):
        value = values.astype(np.int64).view(np.uint64) if values.dtype.kind != "u" else values.astype(np.uint64)
        value = value & np.uint64((1 << bits) - 1)
        word, offset = divmod(low, 32)
        words[..., word] |= (value << np.uint64(offset)) & np.uint64(0xFFFFFFFF)
        words[..., word + 1] |= (value >> np.uint64(32 - offset)) & np.uint64(0xFFFFFFFF)
        if offset:
            words[..., word + 2] |= value >> np.uint64(64 - offset)
        low += bits
    return np.ascontiguousarray(words[..., : -(-total // 32)].astype(np.uint32))


def unpack(words: NDArray[np.uint32], bits: Sequence[int]) -> list[NDArray[np.uint64]]:
    """Fields of a packed vector [.., words], the highest first; the inverse of `pack`."""
    wide = np.concatenate([words, np.zeros((*words.shape[:-1], 2), np.uint32)], axis=-1).astype(np.uint64)
    found = []
    low = 0
    for size in reversed(bits):
        word, offset = divmod(low, 32)
        value = (wide[..., word] >> np.uint64(offset)) | (wide[..., word + 1] << np.uint64(32 - offset))
        if offset:
            value = value | (wide[..., word + 2] << np.uint64(64 - offset))
        found.append(value & np.uint64((1 << size) - 1))
        low += size
    return found[::-1]


def _element(name: str) -> tuple[str, int]:
    """Base name and index of "X[2]"; -1 without one."""
    if not name.endswith("]"):
        return name, -1
    base, index = name[:-1].split("[")
    return base, int(index)


def _row_shape(port: Port) -> tuple[int, ...]:
    return (*port.shape, port.size // 4) if port.size > 8 else port.shape


def _empty(port: Port, rows: int) -> Words:
    return np.zeros((rows, *_row_shape(port)), np.uint32 if port.size > 8 else np.uint64)


def _to_words(port: Port, values: NDArray[Any], where: str) -> Words:
    """Rows for the harness; ValueError if the shape is wrong or a value does not fit, signed or unsigned."""
    shape = _row_shape(port)
    if values.shape[1:] != shape:
        raise ValueError(f"{where}: rows have the shape {list(values.shape[1:])}, expected {list(shape)}")
    if values.dtype.kind not in "biu":
        raise ValueError(f"{where}: values of type {values.dtype}, expected integers")
    bits = 32 if port.size > 8 else port.bits
    if values.size and (int(values.max()) >= 1 << bits or int(values.min()) < -(1 << (bits - 1))):
        raise ValueError(f"{where}: values from {values.min()} to {values.max()} do not fit {bits} bits")
    if port.size > 8:
        return np.ascontiguousarray(values.astype(np.int64) & 0xFFFFFFFF, np.uint32)
    words = values.astype(np.uint64) if values.dtype.kind != "i" else values.astype(np.int64).view(np.uint64)
    return np.ascontiguousarray(words & np.uint64((1 << bits) - 1))


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.nmllm_new.restype = ctypes.c_void_p
    library.nmllm_delete.argtypes = [ctypes.c_void_p]
    library.nmllm_run.restype = ctypes.c_int64
    return library
