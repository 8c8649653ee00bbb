"""Encoder of stamped trains: every flit and its cycle, and counters, equal to the code and to timing.md, under random backpressure."""

from __future__ import annotations

import numpy as np
import pytest
from test_encoder import COUNTERS, MAX_INPUTS, Run, Size, random_stop, schedule
from vector_script import WORDS, chip, random_vector, words

from neuromorphic_llm.reference.fixed_point import isqrt
from neuromorphic_llm.rtl.bench import unpack
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog


def stamped(lanes: int, steps: int, **changes: int | str) -> Size:
    places = {"events": "noc.events_per_flit", "latency": "vector.latency", "maximum": "vector.maximum"}
    paths = {places[name]: value for name, value in changes.items()}
    decay = {"readout.kind": "membrane-decay", "readout.steps": steps, "readout.converter_bits": 9}
    return Size(chip(lanes, {"vector.encoder": "element", **decay, **paths}))


SIZES = {
    "8 steps": stamped(8, 8),
    "4 steps": stamped(4, 4, latency=7, maximum="written"),
    "3 steps": stamped(2, 3, events=2),
    "2 steps": stamped(32, 2),
    "1 step": stamped(16, 1, events=1),
}


class LevelRun(Run):
    """A script of encodings of first-spike-log."""

    def encode_levels(self, code: FirstSpikeLog, x: np.ndarray) -> None:
        rng, script, size, spec = self.rng, self.script, len(x), self.spec
        passes, stop = -(-size // self.lanes), random_stop(rng, x)
        vector_base, stop_base = (int(base) for base in rng.integers(0, WORDS - passes + 1, 2))
        route = int(rng.integers(0, 512))
        script.configure(1, code.phases)
        script.load(vector_base, words(x, self.lanes, rng), 0)
        script.load(stop_base, words(isqrt(stop), self.lanes, rng), 1)
        maximum = int(np.abs(x.astype(np.int64)).max())
        script.drive(start=1, size=size, vector_base=vector_base, stop_base=stop_base, route=route, maximum=maximum)
        train = code.encode(x[None], stop[None])
        flits = stamped_flits(code, train.digits[:, 0], int(train.exponent[0]), spec.flit_events)
        begin = script.cycle + spec.maximum_read * passes + spec.vector.latency + passes + 1
        offered, pushed = schedule(begin, 0, [len(flits)], self.ready, self.hold)
        self.offered += offered
        self.pushed += pushed
        self.flits.append(flits)
        self.routes += [route] * len(pushed)
        self.done.append(pushed[-1])
        script.cycle = pushed[-1] + 1
        self.counts += [size, size, (2 + spec.maximum_read) * size, 0, 8 * size, int(np.count_nonzero(train.digits)), len(pushed)]

    def run(self) -> None:
        steps = self.spec.readout.steps
        assert steps is not None
        while self.script.cycle < self.cycles:
            longest = {8: 8, 4: 9, 3: 11, 2: 12, 1: 13}[steps]
            code = FirstSpikeLog(int(self.rng.integers(1, longest + 1)) if self.rng.random() < 0.4 else longest, steps=steps)
            size = int(self.rng.integers(1, 3 * self.lanes) if self.rng.random() < 0.4 else self.rng.integers(1, MAX_INPUTS + 1))
            x = random_vector(self.rng, size)
            if self.rng.random() < 0.3:  # at and beside the middles of levels
                x = self.rng.choice(np.array(code.levels), size) << int(self.rng.integers(0, 14))
                x = np.clip((x + np.roll(x, 1)) // 2 + self.rng.integers(-1, 2, size), -(2**31) + 1, 2**31 - 1) * self.rng.choice(
                    [-1, 1], size
                )
            self.encode_levels(code, x)
            self.script.cycle += int(self.rng.integers(0, 3))
        self.finish()

    def check(self, outputs: dict[str, np.ndarray]) -> None:
        assert np.flatnonzero(outputs["done"]).tolist() == self.done
        assert np.flatnonzero(outputs["spike_valid"]).tolist() == self.offered
        bits = self.bench.ports["spike_flit"].bits - 81
        found = unpack(outputs["spike_flit"][self.pushed], [bits, 1, 16, 64])
        assert found[0].tolist() == self.routes
        assert np.array_equal(np.column_stack(found[1:]).astype(np.int64), np.concatenate(self.flits))
        assert not outputs["write_enable"].any()
        assert [int(outputs[name][-1]) for name in COUNTERS] == self.counts.tolist()


def stamped_flits(code: FirstSpikeLog, digits: np.ndarray, k_min: int, held: int) -> np.ndarray:
    """Flits (flag, tag, payload) of digits [phases, inputs], in ascending order of the inputs."""
    pulses = code.slot_pulses(digits)
    at = np.flatnonzero(pulses.any(axis=0))
    slots = np.abs(pulses[:, at]).argmax(axis=0)
    events = (pulses[slots, at] < 0).astype(np.int64) << 20 | slots << 14 | at
    groups = [events[first : first + held] for first in range(0, len(events), held)] or [events]
    flits = np.array(
        [[0, k_min | 1 << 5 | len(group) << 6, sum(int(event) << 21 * i for i, event in enumerate(group))] for group in groups]
    )
    flits[-1, 0] = 1
    return flits


@pytest.mark.parametrize("name", SIZES)
def test_stamped_trains(name: str) -> None:
    size = SIZES[name]
    bench = size.bench()
    for seed in range(4):
        LevelRun(bench, size, seed, 50_000).run()


def test_zeros_and_one_phase() -> None:
    run = LevelRun(SIZES["8 steps"].bench(), SIZES["8 steps"], 0, 1000)
    for phases in (1, 8):
        run.encode_levels(FirstSpikeLog(phases, steps=8), np.zeros(5, np.int64))
        run.encode_levels(FirstSpikeLog(phases, steps=8), np.array([-(2**31) + 1, 1, 0]))
    run.finish()
