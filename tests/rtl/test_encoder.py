"""Spike encoders: every flit and its cycle, remainders and counters equal to the codes and to timing.md, under random backpressure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from vector_script import WORDS, Script, chip, lanes_of, random_vector, words

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench, unpack
from neuromorphic_llm.simulation.encoder_kernels import CODES
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code


@dataclass(frozen=True)
class Size:
    """A build: chip, phases of a train at most, and whether they are sent from the least significant one on (encoder `element` only)."""

    spec: ChipSpec
    phases: int = 256
    ascending: bool = False

    def __str__(self) -> str:
        return f"{self.spec.vector.encoder}-{self.spec.vector.maximum}-L{self.spec.vector.lanes}-E{self.spec.noc.events_per_flit}"

    @property
    def parameters(self) -> dict[str, int]:
        return {"PHASES": self.phases, "ASCENDING": int(self.ascending)}

    def bench(self) -> Bench:
        return Bench("nmllm_encoder_tb", self.parameters, spec=self.spec)


def by_elements(lanes: int, phases: int, ascending: bool, **changes: int) -> Size:
    paths = {{"events": "noc.events_per_flit", "latency": "vector.latency"}[name]: value for name, value in changes.items()}
    return Size(chip(lanes, {"vector.encoder": "element", **paths}), phases, ascending)


FEW_STAGES = by_elements(16, 3, True, events=1)
SIZES = [
    Size(chip(8)),
    Size(chip(2, {"vector.latency": 7, "noc.events_per_flit": 2})),
    Size(chip(4, {"mesh.width": 12, "mesh.height": 12})),
    Size(chip(32, {"vector.latency": 5})),
    Size(chip(16, {"noc.events_per_flit": 1})),
    by_elements(8, 32, False),
    by_elements(2, 14, True, latency=7, events=2),
    by_elements(4, 20, True),
    by_elements(32, 14, False, latency=5),
    FEW_STAGES,
    Size(chip(8, {"vector.maximum": "written"})),
    Size(chip(4, {"vector.maximum": "written", "vector.encoder": "element", "vector.latency": 6}), 20, True),
]
LONG_TRAINS = by_elements(4, 256, True)
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
    """Per phase, the flits (flag, tag, four events) of digits [phases, inputs] in the order in which they are sent."""
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


def schedule(begin: int, scan: int, flits: list[int], ready: np.ndarray, hold: np.ndarray) -> tuple[list[int], list[int]]:
    """Cycles in which flits are offered, and pushed, by timing.md; `flits` per phase, first scan at `begin`, or later if it is held."""
    while hold[begin - 1]:
        begin += 1
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

    def __init__(self, bench: Bench, size: Size, seed: int, cycles: int, backpressure: float | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.bench, self.size, self.spec, self.lanes, self.cycles = bench, size, size.spec, size.spec.vector.lanes, cycles
        self.script = Script(self.lanes)
        drawn = self.rng.choice([0.0, 0.1, 0.5, 0.9])
        self.ready = self.rng.random(cycles + 400_000) >= (drawn if backpressure is None else backpressure)
        held = self.rng.random(len(self.ready) // 16 + 1) < self.rng.choice([0.0, 0.0, 0.5])
        self.hold = np.repeat(held, 16)  # a few cycles on end
        self.done: list[int] = []
        self.offered: list[int] = []
        self.pushed: list[int] = []
        self.flits: list[np.ndarray] = []  # of a phase: flag, tag, four events
        self.routes: list[int] = []
        self.left: list[tuple[int, np.ndarray]] = []  # remainders after a signed-digit train: words written before, values
        self.written = 0
        self.counts = np.zeros(len(COUNTERS), np.int64)

    def encode(self, name: str, limit: int, x: np.ndarray) -> None:
        """One encoding, from the loading of the memories on."""
        rng, script, size = self.rng, self.script, len(x)
        passes = -(-size // self.lanes)
        if limit == 1:
            x = np.maximum(x, -(2**31) + 1)  # k_min of -2^31 would not fit the tag
        stop = random_stop(rng, x)
        vector_base, stop_base = (int(base) for base in rng.integers(0, WORDS - passes + 1, 2))
        route = int(rng.integers(0, 512))
        script.configure(0, CODES[name])
        script.configure(1, limit)
        script.load(vector_base, words(x, self.lanes, rng), 0)
        script.load(stop_base, words(stop, self.lanes, rng), 1)
        maximum = int(np.abs(x.astype(np.int64)).max())
        script.drive(start=1, size=size, vector_base=vector_base, stop_base=stop_base, route=route, maximum=maximum)
        train = get_code(name, limit).encode(x[None], stop[None])
        digits, phases = train.digits[-int(train.phases[0]) :, 0], int(train.phases[0])
        sent = digits[::-1] if self.size.ascending else digits
        flits = flits_of(sent, int(train.exponent[0]), self.spec.noc.events_per_flit)
        encoder = self.spec.encoder
        is_read = self.spec.maximum_read
        begin = script.cycle + is_read * passes + self.spec.vector.latency + encoder.before_scans(passes, phases)
        offered, pushed = schedule(begin, encoder.scan(passes), [len(phase) for phase in flits], self.ready, self.hold)
        self.offered += offered
        self.pushed += pushed
        self.flits += flits
        self.routes += [route] * len(pushed)
        self.done.append(pushed[-1])
        script.cycle = pushed[-1] + 1
        coded, events = size * phases, int(np.count_nonzero(digits))
        read, written = encoder.words(size, coded, coded if name == "signed-digit" else size)
        if written:
            self.written += passes * phases
        if written and name == "signed-digit":
            decoded = get_code(name, limit).decode(train)[0]
            self.left.append((self.written - passes, x - decoded))
        self.counts += [size, coded, is_read * size + read, written, 2 * coded, events, len(pushed)]

    def run(self) -> None:
        while self.script.cycle < self.cycles:
            name = str(self.rng.choice(list(CODES), p=[0.55, 0.15, 0.15, 0.15]))
            code = SPIKE_CODES[name]
            limit = int(self.rng.integers(1, code.largest_phases + 1)) if self.rng.random() < 0.3 else code.default_phases
            limit = min(limit, self.size.phases)
            size = int(self.rng.integers(1, 3 * self.lanes) if self.rng.random() < 0.4 else self.rng.integers(1, MAX_INPUTS + 1))
            self.encode(name, limit, random_vector(self.rng, size))
            self.script.cycle += int(self.rng.integers(0, 3))
        self.finish()

    def finish(self) -> None:
        """Run the script and compare."""
        self.script.cycle += 1
        self.bench.reset()
        streams = {"spike_ready": self.ready, "hold": self.hold}
        inputs = self.script.inputs(self.bench) | {name: values[: self.script.cycle].astype(np.int64) for name, values in streams.items()}
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


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_encoder(size: Size) -> None:
    bench = size.bench()
    for seed in range(4):
        Run(bench, size, seed, 50_000).run()


@pytest.mark.parametrize("size", [SIZES[0], SIZES[5]], ids=str)
def test_zeros_in_one_phase(size: Size) -> None:
    run = Run(size.bench(), size, 0, 1000)
    for name in CODES:
        run.encode(name, 1, np.zeros(5, np.int64))
    run.finish()


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


@pytest.mark.parametrize("size", [SIZES[0], SIZES[5]], ids=str)
def test_an_exponent_beyond_the_tag_and_a_start_too_early_are_refused(size: Size) -> None:
    bench = size.bench()
    bench.run(single_phase("signed-digit", 0).inputs(bench))  # k_min 31, the largest that fits
    bench.reset()
    with pytest.raises(SimulationError, match="k_min_fits: k_min is 32"):
        bench.run(single_phase("first-spike", 0).inputs(bench))
    bench.reset()
    with pytest.raises(SimulationError, match="start_when_idle"):
        bench.run(single_phase("signed-digit", 0, 3).inputs(bench))


def test_a_train_with_more_phases_than_stages_is_refused() -> None:
    size = FEW_STAGES
    bench, script = size.bench(), Script(size.spec.vector.lanes)
    script.configure(0, CODES["bit-planes"])
    script.configure(1, size.phases + 1)
    script.load(0, np.ones((1, script.lanes), np.int64), 0)
    script.drive(start=1, size=1)
    script.cycle += 12
    with pytest.raises(SimulationError, match="stages_suffice: a train of 4 phases, there are 3 stages"):
        bench.run(script.inputs(bench))


@pytest.mark.slow
@pytest.mark.parametrize("size", [*SIZES, LONG_TRAINS], ids=str)
def test_encoder_long(size: Size) -> None:
    bench = size.bench()
    for seed in range(100, 120):
        Run(bench, size, seed, 100_000).run()
