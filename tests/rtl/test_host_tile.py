"""Host tile against its rules in timing.md: DRAM reads, flits and tokens in every cycle. The rules meet the cycle-stepped model's host."""

from __future__ import annotations

import functools
import itertools
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from timing_oracle import Chip, Oracle, ceil

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.rtl.bench import Bench, pack, unpack
from neuromorphic_llm.rtl.package import SEQUENCES
from neuromorphic_llm.simulation.trace import ActivityTrace

ROW_ROUTE, TOKEN_ROUTE, CREDIT_ROUTE, END_TOKEN = 7, 300, 41, 49
CREDITS = 2
OUTPUTS = (
    "out_valid",
    "out_flit",
    "dram_enable",
    "dram_address",
    "token_valid",
    "token",
    "token_sequence",
    "done",
    "orders",
    "token_ended",
)
ORDER_STAGE = 1 << 5


@dataclass(frozen=True)
class Texts:
    """A run of the host tile. A sequence ends with its `new_tokens`, or where `limit` is larger with END_TOKEN before it."""

    spec: ChipSpec
    table: NDArray[np.int16]  # embeddings, [END_TOKEN + 1, hidden]
    shift: int
    prompts: list[list[int]]
    new_tokens: list[int]
    limit: int

    @property
    def hidden(self) -> int:
        return self.table.shape[1]

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))

    @property
    def words(self) -> int:
        """Words of DRAM of a row."""
        return ceil(2 * self.hidden, self.spec.host.dram_bytes_per_cycle)

    @functools.cached_property
    def sequence(self) -> list[int]:
        """Sequence of every row: all prompts, then rounds."""
        rows = [number for number, prompt in enumerate(self.prompts) for _ in prompt]
        for turn in range(1, max(self.new_tokens)):
            rows += [number for number, count in enumerate(self.new_tokens) if turn < count]
        return rows

    @functools.cached_property
    def wanted(self) -> list[bool]:
        """Of every row, whether a token comes back."""
        ends = np.cumsum([len(prompt) for prompt in self.prompts]) - 1
        return [row in ends or row >= self.prompt_tokens for row in range(len(self.sequence))]


def random_texts(
    spec: ChipSpec, hidden: int, shift: int, lengths: Sequence[tuple[int, int]], rng: np.random.Generator, limit: int = 0
) -> Texts:
    """Texts with (tokens of the prompt, new ones) of each sequence."""
    table = rng.integers(-(1 << 15), 1 << 15, (END_TOKEN + 1, hidden)).astype(np.int16)
    table[0], table[1] = -(1 << 15), (1 << 15) - 1
    prompts = [rng.integers(0, END_TOKEN + 1, prompt).tolist() for prompt, _ in lengths]
    new_tokens = [new for _, new in lengths]
    return Texts(spec, table, shift, prompts, new_tokens, max(limit, *new_tokens))


@dataclass
class Script:
    """What happens in a run, row by row: what the tile is given, and what it must do."""

    ready: NDArray[np.bool_]
    """Whether the router takes a flit, by cycle."""
    tokens: list[int]
    """Of every row."""
    steps: list[int] = field(default_factory=list)
    sends: list[int] = field(default_factory=list)
    """Cycle in which a row's first flit is offered."""
    pushes: list[NDArray[np.int64]] = field(default_factory=list)
    arrivals: list[tuple[int, int, int]] = field(default_factory=list)
    """Cycle, sequence and token of every token that arrives."""
    credit_cycles: list[int] = field(default_factory=list)
    cycles: int = 0

    @property
    def token_cycles(self) -> list[int]:
        return [cycle for cycle, _, _ in self.arrivals]


def step_cycles(texts: Texts) -> int:
    """From the beginning of a step to its first flit; the vector tile that it goes to wakes meanwhile."""
    return max(texts.spec.host.latency + texts.spec.host.dram_latency + texts.words, texts.spec.wake_wait)


def play(texts: Texts, backpressure: float, rng: np.random.Generator) -> Script:
    """The rules of timing.md, Host tile and Several sequences, for random credits, tokens and router."""
    hidden, rows = texts.hidden, len(texts.sequence)
    longest = step_cycles(texts) + 8 * hidden + 20
    script = Script(rng.random(6 * rows * longest) >= backpressure, [token for prompt in texts.prompts for token in prompt])
    ready_at = np.flatnonzero(script.ready)
    taken: set[int] = set()

    def arrival(earliest: int) -> int:
        """One flit per cycle arrives."""
        while earliest in taken:
            earliest += 1
        taken.add(earliest)
        return earliest

    credits: list[int] = []  # in the order of their arrival
    given = [0] * len(texts.prompts)  # tokens of each sequence that came back
    fed = deque[int]()  # cycles in which those came that go on
    late = int(rng.choice([2 * hidden, 2 * longest]))  # with others on their way, tokens wait for one another
    step = 0
    for row, number in enumerate(texts.sequence):
        if row >= texts.prompt_tokens:
            step = max(step, fed.popleft() + 1)
        script.steps.append(step)
        send = step + step_cycles(texts)
        if row >= CREDITS:
            send = max(send, credits[row - CREDITS] + 1)
        first = int(np.searchsorted(ready_at, send))
        pushes = ready_at[first : first + ceil(hidden, 2)]
        script.sends.append(send)
        script.pushes.append(pushes)
        step = int(pushes[-1]) + 1
        insort(credits, arrival(step + int(rng.integers(0, 4 * hidden + 1))))
        if texts.wanted[row]:
            given[number] += 1
            last = given[number] == texts.new_tokens[number]
            # No chip answers before it has the row, but the rule holds for that too.
            early = row < rows - 1 and rng.random() < 0.2
            at = int(rng.integers(send, step)) if early else step + int(rng.integers(0, late + 1))
            at = arrival(max(at, script.arrivals[-1][0] + 1 if script.arrivals else 0))
            script.arrivals.append((at, number, END_TOKEN if last else int(rng.integers(0, END_TOKEN))))
            if not last:
                fed.append(at)
                script.tokens.append(script.arrivals[-1][2])
    script.credit_cycles = credits
    script.cycles = max(*taken, step) + 3
    return script


def inputs_of(texts: Texts, script: Script, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    spec, cycles, per_word = texts.spec, script.cycles, texts.spec.host.dram_bytes_per_cycle // 2
    valid, route, tag, payload = np.zeros((4, cycles), np.int64)
    at, numbers, tokens = map(list, zip(*script.arrivals, strict=True))
    valid[at], route[at], tag[at], payload[at] = 1, TOKEN_ROUTE, numbers, tokens
    at = script.credit_cycles
    valid[at], route[at], payload[at] = 1, CREDIT_ROUTE, 5
    dram = rng.integers(-99, 99, (cycles, per_word)).astype(np.int16)
    padded = np.pad(texts.table, ((0, 0), (0, -texts.hidden % per_word))).reshape(len(texts.table), texts.words, per_word)
    returned = np.add.outer(script.steps, spec.host.latency + spec.host.dram_latency + np.arange(texts.words))
    dram[returned] = padded[script.tokens]
    flit = pack([(route, spec.route_bits), (0, 1), (tag, 16), (payload, 64)])
    return {"in_valid": valid, "in_flit": flit, "out_ready": script.ready[:cycles].astype(np.int64), "dram_data": as_words(dram)}


def as_words(values: NDArray[np.int16]) -> NDArray[Any]:
    """int16 [cycles, n] as the words of a port of 16 n bits."""
    unsigned = values.view(np.uint16).astype(np.uint64)
    words = pack([(unsigned[:, i], 16) for i in reversed(range(unsigned.shape[1]))])
    return words if words.shape[1] > 2 else words[:, 0] | words[:, -1].astype(np.uint64) << np.uint64(32)


def expected_flits(texts: Texts, row: int, token: int) -> NDArray[np.int64]:
    """Flag, tag, low and high value of a row's flits."""
    first = np.arange(0, texts.hidden, 2)
    values = np.zeros(2 * len(first), np.int64)
    values[: texts.hidden] = texts.table[token].astype(np.int64) << texts.shift
    tag = np.full(len(first), int(texts.wanted[row]) << 15 | texts.sequence[row])
    return np.column_stack([first + 1 == texts.hidden, tag, values.reshape(-1, 2) & 0xFFFFFFFF])


def check(bench: Bench, texts: Texts, backpressure: float, rng: np.random.Generator) -> int:
    """Compare a run in every cycle; returns its cycles."""
    script, rows = play(texts, backpressure, rng), len(texts.sequence)
    configure(bench, texts)
    seen = bench.run(inputs_of(texts, script, rng), outputs=OUTPUTS)
    reads = np.add.outer(script.steps, texts.spec.host.latency + np.arange(texts.words))
    assert np.array_equal(np.flatnonzero(seen["dram_enable"]), reads.ravel())
    addresses = np.add.outer(np.array(script.tokens) * texts.words, np.arange(texts.words))
    assert np.array_equal(seen["dram_address"][reads], addresses)
    assert np.array_equal(np.flatnonzero(seen["orders"] == ORDER_STAGE), np.array(script.steps) + 1)
    assert np.count_nonzero(seen["orders"]) == rows
    assert np.array_equal(np.flatnonzero(seen["token_ended"]), np.array(script.token_cycles) + 2)
    pushes = np.concatenate(script.pushes)
    offered = [np.arange(send, push[-1] + 1) for send, push in zip(script.sends, script.pushes, strict=True)]
    assert np.array_equal(np.flatnonzero(seen["out_valid"]), np.concatenate(offered))
    route, flag, tag, high, low = unpack(seen["out_flit"][pushes], [texts.spec.route_bits, 1, 16, 32, 32])
    assert (route == ROW_ROUTE).all()
    flits = np.concatenate([expected_flits(texts, row, token) for row, token in enumerate(script.tokens)])
    assert np.array_equal(np.stack([flag, tag, low, high], 1), flits)
    arrived = np.flatnonzero(seen["token_valid"])
    assert np.array_equal(np.stack([arrived, seen["token_sequence"][arrived], seen["token"][arrived]], 1), script.arrivals)
    assert np.array_equal(np.flatnonzero(seen["done"]), np.arange(script.token_cycles[-1] + 1, script.cycles))
    assert bench.run({}, cycles=1)["dram_bits_read"][0] == 16 * texts.hidden * rows
    return script.cycles


def configure(bench: Bench, texts: Texts) -> None:
    """The run begins with the next cycle."""
    end = 1 << 32 | END_TOKEN if texts.limit > min(texts.new_tokens) else 0
    sequences, tokens = len(texts.prompts), texts.prompt_tokens
    registers = [texts.hidden, texts.words, texts.shift, tokens, texts.limit, ROW_ROUTE, CREDIT_ROUTE, sequences, 0, 0, end, 0]
    entries = [(place == len(prompt) - 1) << 32 | token for prompt in texts.prompts for place, token in enumerate(prompt)]
    bench.reset()
    bench.run({"rst": 1, "cfg_valid": 1, "cfg_unit": 1, "cfg_address": np.arange(12), "cfg_data": registers}, outputs=())
    bench.run({"rst": 1, "cfg_valid": 1, "cfg_unit": 2, "cfg_address": np.arange(tokens), "cfg_data": entries}, outputs=())
    bench.run({"rst": [1]}, outputs=())


CHIPS = {
    "nano": {},
    "early": {"host.latency": 1, "host.dram_latency": 1, "host.dram_bytes_per_cycle": 8, "mesh.width": 12, "mesh.height": 9},
    "gated": {"power.gating": "tiles", "power.wake_cycles": 120},
    "wide": {"host.latency": 5, "host.dram_latency": 3, "host.dram_bytes_per_cycle": 64},
}
BACKPRESSURE = (0.0, 0.4, 0.9)


def chip(name: str) -> ChipSpec:
    return load_spec("nano").with_fields(CHIPS[name])


@functools.cache
def bench_of(name: str) -> Bench:
    return Bench("nmllm_host_tile", spec=chip(name))


@pytest.mark.parametrize("name", CHIPS)
def test_every_cycle(name: str) -> None:
    rng, bench, spec, cycles = np.random.default_rng(1), bench_of(name), chip(name), 0
    several = [(3, 4), (1, 1), (5, 6), (2, 4)]
    for hidden in (1, 2, 7, 96, 129):
        for backpressure in BACKPRESSURE:
            for shift, lengths, limit in ((7, [(20, 21)], 0), (16, [(1, 12)], 30), (0, [(5, 1)], 0), (3, several, 0), (1, [(2, 3)] * 5, 0)):
                cycles += check(bench, random_texts(spec, hidden, shift, lengths, rng, limit), backpressure, rng)
    run_cycles(name, 340_000 - cycles, rng)


def test_as_many_sequences_as_there_are_places() -> None:
    """All but one wait in the queue behind the last prompt, where their tokens come at once."""
    rng = np.random.default_rng(4)
    for backpressure in BACKPRESSURE:
        check(bench_of("early"), random_texts(chip("early"), 3, 7, [(1, 4)] * SEQUENCES, rng), backpressure, rng)


def random_lengths(rng: np.random.Generator) -> list[tuple[int, int]]:
    """One sequence, or several short ones."""
    count = int(rng.choice([1, 1, 2, rng.integers(2, 40)]))
    most = 60 // count + 2
    if rng.random() < 0.3:
        return [(int(rng.integers(1, most)), most)] * count
    return [(int(rng.integers(1, most)), int(rng.integers(1, most))) for _ in range(count)]


def run_cycles(name: str, cycles: int, rng: np.random.Generator) -> None:
    """Random texts for at least so many cycles."""
    spec = chip(name)
    while cycles > 0:
        hidden, shift, lengths = int(rng.integers(1, 600)), int(rng.integers(0, 17)), random_lengths(rng)
        texts = random_texts(spec, hidden, shift, lengths, rng, limit=int(rng.choice([0, max(new for _, new in lengths) + 5])))
        cycles -= check(bench_of(name), texts, float(rng.choice(BACKPRESSURE)), rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHIPS)
def test_every_cycle_of_many(name: str) -> None:
    run_cycles(name, 3_400_000, np.random.default_rng(2))


class HostOracle(Chip):
    """The model's host alone."""

    def __init__(self, texts: Texts) -> None:
        self.spec, self.config = texts.spec, SimpleNamespace(hidden_size=texts.hidden)  # type: ignore[assignment]
        self.program = SimpleNamespace(routes=SimpleNamespace(residual=[ROW_ROUTE]))  # type: ignore[assignment]
        rows: Any = SimpleNamespace(tokens=len(texts.sequence), prompt_tokens=texts.prompt_tokens, logits_wanted=np.array(texts.wanted))
        rows.sequence = np.array(texts.sequence)
        self.trace: ActivityTrace = rows
        self.result, self.credits, self.returned, self.cycle, self.wake = Oracle(), [CREDITS], deque(), 0, texts.spec.wake_wait


@pytest.mark.parametrize("backpressure", BACKPRESSURE)
@pytest.mark.parametrize("name", CHIPS)
def test_the_rules_are_those_of_the_cycle_stepped_model(name: str, backpressure: float) -> None:
    """The model's host, given the script's router, credits and tokens, offers its flits in the same cycles."""
    rng = np.random.default_rng(3)
    for hidden, lengths in itertools.product((1, 2, 7, 96), ([(9, 12)], [(2, 3), (4, 1), (1, 5)])):
        texts = random_texts(chip(name), hidden, 7, lengths, rng)
        script = play(texts, backpressure, rng)
        going_on = {at: number for at, number, token in script.arrivals if token != END_TOKEN}
        oracle, offered = HostOracle(texts), []
        host = oracle.host()
        answer: bool | None = None
        for oracle.cycle in range(script.cycles):
            try:
                flit = next(host) if answer is None else host.send(answer)
            except StopIteration:
                break
            answer = None if flit is None else bool(script.ready[oracle.cycle])
            if flit is not None:
                offered.append(oracle.cycle)
            oracle.credits[0] += oracle.cycle in script.credit_cycles
            if oracle.cycle in going_on:
                oracle.returned.append(going_on[oracle.cycle])
        expected = [np.arange(send, push[-1] + 1) for send, push in zip(script.sends, script.pushes, strict=True)]
        assert offered == np.concatenate(expected).tolist()
