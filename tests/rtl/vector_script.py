"""Scripts of the vector units' test benches: what drives each port in which cycle, and what the unit must do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.rtl.bench import Bench, signed, unpack

WORDS = 1 << 10
"""Words of every memory of the benches."""


def chip(lanes: int, changes: Mapping[str, int | str] = MappingProxyType({})) -> ChipSpec:
    """The chip nano with other vector lanes and other `changes`, by path."""
    return load_spec("nano").with_fields({"vector.lanes": lanes, **changes})


def words(values: NDArray[Any], lanes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Values as words of the memory, [words, lanes]; the lanes after the last value hold anything."""
    filled = rng.integers(-(2**31), 2**31, -(-len(values) // lanes) * lanes)
    filled[: len(values)] = values
    return filled.reshape(-1, lanes)


def random_vector(rng: np.random.Generator, size: int) -> NDArray[np.int64]:
    """Values of a random magnitude: zeros, a few large ones among small ones, saturated ones, the most negative number."""
    return random_vectors(rng, 1, size)[0]


def random_vectors(rng: np.random.Generator, count: int, size: int) -> NDArray[np.int64]:
    """Such vectors, each of a kind of its own, [count, size]."""
    kind, rows, at = rng.integers(8, size=count), np.arange(count), rng.integers(size, size=count)
    values = np.rint(rng.laplace(0.0, 1.0, (count, size)) * 2.0 ** rng.uniform(-1, 30, (count, 1)))
    values[kind == 0] = 0
    values[(kind == 1)[:, None] & (rng.random((count, size)) < 0.9)] = 0
    values[rows, at] *= np.where(kind == 2, 64, 1)
    values[rows, at] = np.where(kind == 3, rng.choice([-(2**31), 2**31 - 1], count), values[rows, at])
    powers = rng.choice([-1.0, 1.0], (count, size)) * 2.0 ** rng.integers(0, 31, (count, size))
    return np.clip(np.where((kind == 4)[:, None], powers, values), -(2**31), 2**31 - 1).astype(np.int64)


@dataclass
class Script:
    """Values of ports by cycle; `cycle` is the first one that is free."""

    lanes: int
    cycle: int = 0
    rows: dict[str, list[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(list))
    blocks: list[tuple[int, int, int, NDArray[np.int64]]] = field(default_factory=list)
    """Loaded words: cycle of the first, memory, address, [words, lanes]."""

    def drive(self, **ports: Any) -> None:
        """Values of ports in the present cycle."""
        for name, value in ports.items():
            self.rows[name].append((self.cycle, value))

    def configure(self, address: int, value: int) -> None:
        """One write of a register."""
        self.drive(cfg_valid=1, cfg_address=address, cfg_data=value)
        self.cycle += 1

    def load(self, address: int, values: NDArray[np.int64], memory: int = 0) -> None:
        """Words [words, lanes] into a memory, one per cycle."""
        self.blocks.append((self.cycle, memory, address, values))
        self.cycle += len(values)

    def inputs(self, bench: Bench) -> dict[str, NDArray[Any]]:
        """Arrays for `Bench.run`."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, entries in self.rows.items():
            arrays[name] = np.zeros(self.cycle, np.int64)
            arrays[name][[cycle for cycle, _ in entries]] = [value for _, value in entries]
        first, memory, address, data = zip(*self.blocks, strict=True)
        counts = [len(block) for block in data]
        offset = np.concatenate([np.arange(count) for count in counts])
        at = np.repeat(first, counts) + offset
        values = np.concatenate(data)
        if self.lanes == 2:  # they are one 64-bit port
            values = (values[:, 0] & 0xFFFFFFFF) | values[:, 1] << 32
        for name, of_words in (
            ("load_valid", np.ones_like(at)),
            ("load_address", np.repeat(address, counts) + offset),
            ("load_data", values),
            ("load_memory", np.repeat(memory, counts)),
        ):
            if name in bench.ports:
                arrays[name] = np.zeros((self.cycle, *of_words.shape[1:]), np.int64)
                arrays[name][at] = of_words
        return arrays


def lanes_of(values: NDArray[Any], lanes: int, bits: int = 32) -> NDArray[np.int64]:
    """A packed vector of lanes as the bench returns it, as signed numbers [rows, lanes]."""
    if values.dtype == np.uint32:
        return signed(np.stack(unpack(values, [bits] * lanes)[::-1], axis=-1), bits)
    shifts = np.arange(0, lanes * bits, bits, dtype=np.uint64)
    return signed((values[:, None] >> shifts) & np.uint64((1 << bits) - 1), bits)


@dataclass
class Expected:
    """What commands must do: (cycle of start, cycle of done, first address, words written)."""

    commands: list[tuple[int, int, int, NDArray[np.int64]]] = field(default_factory=list)

    def check(self, outputs: Mapping[str, NDArray[Any]], lanes: int) -> None:
        """`done` in exactly the cycles expected; the words written in order, and within the cycles of their command."""
        done = np.flatnonzero(outputs["done"])
        assert done.tolist() == [command[1] for command in self.commands]
        cycles = np.flatnonzero(outputs["write_enable"])
        counts = [len(written) for *_, written in self.commands]
        assert len(cycles) == sum(counts)
        assert (cycles >= np.repeat([command[0] for command in self.commands], counts)).all()
        assert (cycles <= np.repeat([command[1] for command in self.commands], counts)).all()
        data = lanes_of(outputs["write_data"][cycles], lanes)
        addresses = outputs["write_address"][cycles].astype(np.int64)
        position = 0
        for _, _, base, written in self.commands:
            part = slice(position, position + len(written))
            assert np.array_equal(np.sort(addresses[part]), base + np.arange(len(written)))
            assert np.array_equal(data[part][np.argsort(addresses[part])], written)
            position += len(written)
