"""The three buffers of the residual: what the stream reads, through arrivals, turns and writes, in every cycle."""

from __future__ import annotations

import numpy as np
import pytest
from vector_script import chip, lanes_of

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.package import SEQUENCES

WORDS = 64
CHIPS = [chip(8), chip(2), chip(32), chip(8, {"vector.maximum": "written"}), chip(4, {"vector.maximum": "written"})]

ARRIVAL = ("arrives", "arriving_tag", "arriving_mask", "arriving_lanes")
INPUTS = (*ARRIVAL, "take", "read_enable", "read_address", "write_enable", "write_address", "write_data")


class Run:
    """Vectors that arrive, become the stream, are read and written, and leave it; `size` elements each."""

    def __init__(self, spec: ChipSpec, size: int, cycles: int, idle: float, rng: np.random.Generator) -> None:
        self.lanes, self.size, self.idle, self.rng = spec.vector.lanes, size, idle, rng
        self.words, self.written = -(-size // self.lanes), not spec.maximum_read
        vectors = cycles // (size // 2 + 5) + 2
        self.values = rng.integers(-(2**31), 2**31, (vectors, self.words * self.lanes))
        self.wanted, self.sequence = rng.integers(0, 2, vectors), rng.integers(0, SEQUENCES, vectors)
        self.schedule(vectors)
        self.cycles = self.takes[-1] + 1
        self.inputs = {
            name: np.zeros((self.cycles, self.lanes) if name.endswith(("lanes", "data")) else self.cycles, np.int64) for name in INPUTS
        }
        self.reads: list[tuple[int, np.ndarray]] = []  # cycle of the data, its word
        self.magnitudes = np.zeros(self.cycles, np.int64)  # of the stream, from its turn on
        for vector in range(vectors):
            self.arrive(vector)
        for vector in range(vectors - 1):
            self.use(vector)

    def schedule(self, vectors: int) -> None:
        """Cycles of the arrivals and of the turns: a slot is free again in the cycle in which it becomes the stream."""
        self.arrivals: list[np.ndarray] = []
        self.takes: list[int] = []
        end = 0
        for vector in range(vectors):
            begin = max(end, self.takes[vector - 2] if vector > 1 else 0) + int(self.rng.choice([0, 0, 1, 9]))
            at = begin + np.cumsum(self.rng.geometric(1 - self.idle, -(-self.size // 2))) - 1
            self.arrivals.append(at)
            end = int(at[-1]) + 1
            earliest = max(end, self.takes[-1] + 1 if self.takes else 0)
            self.takes.append(earliest + int(self.rng.choice([0, 0, self.rng.integers(0, 2 * self.size + 2)])))

    def arrive(self, vector: int) -> None:
        at, element, lanes = self.arrivals[vector], np.arange(0, self.size, 2), np.arange(self.lanes)
        pair = (np.minimum(self.size - element, 2) == 2) * 2 + 1  # both values, or the first only
        self.inputs["arrives"][at] = 1
        self.inputs["arriving_tag"][at] = self.wanted[vector] << 15 | self.sequence[vector]
        self.inputs["arriving_mask"][at] = pair << element % self.lanes
        word, lane = element // self.lanes, element % self.lanes
        values = self.values[vector].reshape(-1, self.lanes)[word]
        chosen = (lanes >= lane[:, None]) & (lanes < lane[:, None] + 2)
        self.inputs["arriving_lanes"][at] = np.where(chosen, values, self.rng.integers(-(2**31), 2**31, values.shape))

    def use(self, vector: int) -> None:
        """Reads from the cycle of the turn on, writes from the next one on."""
        rng, begin, end = self.rng, self.takes[vector], self.takes[vector + 1]
        memory = self.values[vector].reshape(-1, self.lanes).copy()
        full = self.size // self.lanes  # the last word's other lanes hold what was there before
        self.inputs["take"][begin] = 1
        joined = int(np.bitwise_or.reduce(np.abs(self.values[vector][: self.size])))
        self.magnitudes[begin:end] = joined
        if full == 0:
            return
        kinds, addresses = rng.integers(0, 4, end - begin), rng.integers(0, [[full], [self.words]], (2, end - begin))
        fresh = rng.integers(-(2**31), 2**31, (end - begin, self.lanes))
        for step, kind in enumerate(kinds.tolist()):
            cycle = begin + step
            if kind & 1:
                self.inputs["read_enable"][cycle], self.inputs["read_address"][cycle] = 1, addresses[0, step]
                if cycle + 1 < end:
                    self.reads.append((cycle + 1, memory[addresses[0, step]].copy()))
            if kind & 2 and step:
                self.inputs["write_enable"][cycle], self.inputs["write_address"][cycle] = 1, addresses[1, step]
                self.inputs["write_data"][cycle] = memory[addresses[1, step]] = fresh[step]
                inside = fresh[step][: self.size - addresses[1, step] * self.lanes]
                joined = int(np.bitwise_or.reduce(np.abs(inside))) | (joined if addresses[1, step] else 0)
                self.magnitudes[cycle + 1 : end] = joined

    def check(self, bench: Bench) -> int:
        bench.reset()
        if self.lanes == 2:  # they are one 64-bit port
            for name in ("arriving_lanes", "write_data"):
                low, high = self.inputs[name].T
                self.inputs[name] = (low & 0xFFFFFFFF) | high << 32
        outputs = ["available", "wanted", "stream_sequence", "magnitudes", "arriving_element", "read_data"]
        found = bench.run(self.inputs | {"size": self.size}, outputs=outputs)
        arrived = np.concatenate(self.arrivals)
        assert np.array_equal(found["arriving_element"][arrived], np.tile(np.arange(0, self.size, 2), len(self.arrivals)))
        full = np.zeros(self.cycles + 1, np.int64)
        for at in self.arrivals:
            full[at[-1] + 1] += 1
        full[np.array(self.takes) + 1] -= 1
        assert np.array_equal(found["available"], np.cumsum(full)[:-1] > 0)
        for vector, (begin, end) in enumerate(zip(self.takes, self.takes[1:], strict=False)):
            assert (found["wanted"][begin + 1 : end + 1] == self.wanted[vector]).all()
            assert (found["stream_sequence"][begin + 1 : end + 1] == self.sequence[vector]).all()
        stream = slice(self.takes[0], self.takes[-1])
        assert np.array_equal(found["magnitudes"][stream], self.magnitudes[stream] if self.written else 0 * self.magnitudes[stream])
        at = np.array([cycle for cycle, _ in self.reads], np.int64)
        assert np.array_equal(
            lanes_of(found["read_data"][at], self.lanes), np.array([word for _, word in self.reads]).reshape(-1, self.lanes)
        )
        return self.cycles


def run(spec: ChipSpec, seed: int, cycles: int) -> None:
    rng, bench = np.random.default_rng(seed), Bench("nmllm_residual_buffers", {"WORDS": WORDS}, spec=spec)
    while cycles > 0:
        size = int(rng.choice([1, 2, 3, rng.integers(1, WORDS * spec.vector.lanes + 1), rng.integers(1, 100)]))
        size = min(size, WORDS * spec.vector.lanes)
        cycles -= Run(spec, size, 20_000, float(rng.choice([0.0, 0.3, 0.8])), rng).check(bench)


@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"{spec.vector.maximum}-L{spec.vector.lanes}")
def test_residual_buffers(spec: ChipSpec) -> None:
    run(spec, 1, 340_000)


@pytest.mark.slow
@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"{spec.vector.maximum}-L{spec.vector.lanes}")
def test_residual_buffers_long(spec: ChipSpec) -> None:
    run(spec, 2, 3_400_000)
