"""Spike encoder: every flit and its cycle, remainders and counters equal to the codes and to timing.md, under random backpressure."""

from __future__ import annotations

import numpy as np
import pytest
from vector_script import WORDS, Script, chip, lanes_of, random_vector, words

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench, unpack
from neuromorphic_llm.simulation.encoder_kernels import CODES
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

CHIPS = [
    chip(8),
    chip(2, {"vector.latency": 7, "noc.events_per_flit": 2}),
    chip(4, {"mesh.width": 12, "mesh.height": 12}),
    chip(32, {"vector.latency": 5}),
    chip(16, {"noc.events_per_flit": 1}),
]
COUNTERS = (
    "count_maximum_elements",
    "count_encode_elements",
    "count_words_read",
    "count_words_written",
    "count_bank_bits",
    "count_spikes",
    "count_flits",
)
OUTPUTS = ("done", "spike_valid", "spike_flit", "write_enable", "write_address", "write_data")
MAX_INPUTS = 512


def random_stop(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Prices: none, of the size of x squared, or the largest ones."""
    kind = rng.integers(4)
    if kind == 0:
        return np.zeros(len(x), np.int64)
    scale = float(np.square(x.astype(float)).mean()) if kind < 3 else 2.0**31
    return np.minimum(np.rint(rng.lognormal(0, 1, len(x)) * scale * (kind / 2)), 2**31 - 1).astype(np.int64)


def flits_of(digits: np.ndarray, k_min: int, events_per_flit: int) -> list[np.ndarray]:
    """Per phase, the flits (flag, tag, four events) of digits [phases, inputs]."""
    phases = []
    for number, row in enumerate(digits):
        at = np.flatnonzero(row)
        flits = np.zeros((max(-(-len(at) // events_per_flit), 1), 6), np.int64)
        slots = np.zeros(len(flits) * events_per_flit, np.int64)
        slots[: len(at)] = 1 << 15 | (row[at] < 0).astype(np.int64) << 14 | at
        flits[:, 2 : 2 + events_per_flit] = slots.reshape(len(flits), events_per_flit)
        flits[-1, 0] = 1
        flits[:, 1] = k_min | int(number == len(digits) - 1) << 5
        phases.append(flits)
    return phases


def schedule(begin: int, scan: int, flits: list[int], ready: np.ndarray) -> tuple[list[int], list[int]]:
    """Cycles in which flits are offered, and pushed, by the rules of timing.md; `flits` per phase, first scan at `begin`."""
    scanned: list[int] = []
    injected: list[int] = []
    offered: list[int] = []
    pushed: list[int] = []
    for phase, count in enumerate(flits):
        scanned.append(max(scanned[-1] if phase else begin, injected[phase - 2] if phase > 1 else begin) + scan)
        cycle = max(scanned[-1], injected[-1] if phase else begin)
        for _ in range(count):
            while not ready[cycle]:
                offered.append(cycle)
                cycle += 1
            offered.append(cycle)
            pushed.append(cycle)
            cycle += 1
        injected.append(cycle)
    return offered, pushed


class Run:
    """A script of encodings and all that the encoder must do in it."""

    def __init__(self, bench: Bench, spec, seed: int, cycles: int, backpressure: float | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.bench, self.spec, self.lanes, self.cycles = bench, spec, spec.vector.lanes, cycles
        self.script = Script(self.lanes)
        drawn = self.rng.choice([0.0, 0.1, 0.5, 0.9])
        self.ready = self.rng.random(cycles + 400_000) >= (drawn if backpressure is None else backpressure)
        self.done: list[int] = []
        self.offered: list[int] = []
        self.pushed: list[int] = []
        self.flits: list[np.ndarray] = []  # of a phase: flag, tag, four events
        self.routes: list[int] = []
        self.left: list[tuple[int, np.ndarray]] = []  # remainders after a signed-digit train: words written before, values
        self.written = 0
        self.counts = np.zeros(len(COUNTERS), np.int64)

    def encode(self, name: str, limit: int, size: int) -> None:
        """One encoding, from the loading of the memories on."""
        rng, script, passes = self.rng, self.script, -(-size // self.lanes)
        x = random_vector(rng, size)
        if limit == 1:
            x = np.maximum(x, -(2**31) + 1)  # k_min of -2^31 would not fit the tag
        stop = random_stop(rng, x)
        vector_base, stop_base = (int(base) for base in rng.integers(0, WORDS - passes + 1, 2))
        route = int(rng.integers(0, 512))
        script.configure(0, CODES[name])
        script.configure(1, limit)
        script.load(vector_base, words(x, self.lanes, rng), 0)
        script.load(stop_base, words(stop, self.lanes, rng), 1)
        script.drive(start=1, size=size, vector_base=vector_base, stop_base=stop_base, route=route)
        train = get_code(name, limit).encode(x[None], stop[None])
        digits, phases = train.digits[-int(train.phases[0]) :, 0], int(train.phases[0])
        flits = flits_of(digits, int(train.exponent[0]), self.spec.noc.events_per_flit)
        begin = script.cycle + passes + self.spec.vector.latency
        offered, pushed = schedule(begin, passes, [len(phase) for phase in flits], self.ready)
        self.offered += offered
        self.pushed += pushed
        self.flits += flits
        self.routes += [route] * len(pushed)
        self.done.append(pushed[-1])
        script.cycle = pushed[-1] + 1
        self.written += passes * phases
        if name == "signed-digit":
            decoded = get_code(name, limit).decode(train)[0]
            self.left.append((self.written - passes, x - decoded))
        stops = size * phases if name == "signed-digit" else size
        events = int(np.count_nonzero(digits))
        self.counts += [size, size * phases, size + size * phases + stops, size * phases, 2 * size * phases, events, len(pushed)]

    def run(self) -> None:
        while self.script.cycle < self.cycles:
            name = str(self.rng.choice(list(CODES), p=[0.55, 0.15, 0.15, 0.15]))
            code = SPIKE_CODES[name]
            limit = int(self.rng.integers(1, code.largest_phases + 1)) if self.rng.random() < 0.3 else code.default_phases
            size = int(self.rng.integers(1, 3 * self.lanes) if self.rng.random() < 0.4 else self.rng.integers(1, MAX_INPUTS + 1))
            self.encode(name, limit, size)
            self.script.cycle += int(self.rng.integers(0, 3))
        self.script.cycle += 1
        self.bench.reset()
        inputs = self.script.inputs(self.bench) | {"spike_ready": self.ready[: self.script.cycle].astype(np.int64)}
        self.check(self.bench.run(inputs, outputs=[*OUTPUTS, *COUNTERS]))

    def check(self, outputs) -> None:
        assert np.flatnonzero(outputs["done"]).tolist() == self.done
        assert np.flatnonzero(outputs["spike_valid"]).tolist() == self.offered
        slot, bits = 64 // 4, self.bench.ports["spike_flit"].bits - 81
        route, flag, tag, payload = unpack(outputs["spike_flit"][self.pushed], [bits, 1, 16, 64])
        events = (payload[:, None] >> np.arange(0, 64, slot, dtype=np.uint64)) & np.uint64(0xFFFF)
        assert route.tolist() == self.routes
        assert np.array_equal(np.column_stack([flag, tag, events]), np.concatenate(self.flits))
        data = lanes_of(outputs["write_data"][np.flatnonzero(outputs["write_enable"])], self.lanes)
        assert len(data) == self.written
        for first, remainder in self.left:
            rows = data[first : first - (-len(remainder) // self.lanes)]
            assert np.array_equal(rows.ravel()[: len(remainder)], remainder)
        assert [int(outputs[name][-1]) for name in COUNTERS] == self.counts.tolist()


def identity(spec) -> str:
    return f"L{spec.vector.lanes}-E{spec.noc.events_per_flit}"


@pytest.mark.parametrize("spec", CHIPS, ids=identity)
def test_encoder(spec) -> None:
    bench = Bench("nmllm_encoder_tb", spec=spec)
    for seed in range(4):
        Run(bench, spec, seed, 50_000).run()


def single_phase(code: str, *starts: int) -> Script:
    """Encodes a word of -2^31 in one phase, with `start` in these cycles after the loading."""
    script = Script(8)
    script.configure(0, CODES[code])
    script.configure(1, 1)
    script.load(0, np.full((1, 8), -(2**31)), 0)
    script.load(0, np.zeros((1, 8), np.int64), 1)
    for wait in starts:
        script.cycle += wait
        script.drive(start=1, size=8)
    script.cycle += 12
    return script


def test_an_exponent_beyond_the_tag_and_a_start_too_early_are_refused() -> None:
    bench = Bench("nmllm_encoder_tb", spec=CHIPS[0])
    bench.run(single_phase("signed-digit", 0).inputs(bench))  # k_min 31, the largest that fits
    bench.reset()
    with pytest.raises(SimulationError, match="k_min_fits: k_min is 32"):
        bench.run(single_phase("first-spike", 0).inputs(bench))
    bench.reset()
    with pytest.raises(SimulationError, match="start_when_idle"):
        bench.run(single_phase("signed-digit", 0, 3).inputs(bench))


@pytest.mark.slow
@pytest.mark.parametrize("spec", CHIPS, ids=identity)
def test_encoder_long(spec) -> None:
    bench = Bench("nmllm_encoder_tb", spec=spec)
    for seed in range(100, 120):
        Run(bench, spec, seed, 100_000).run()
