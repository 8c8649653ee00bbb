"""Host tile against its rules in timing.md: DRAM reads, flits and tokens in every cycle. The rules meet the cycle-stepped model's host."""

from __future__ import annotations

import functools
from bisect import insort
from collections import deque
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
from neuromorphic_llm.simulation.trace import ActivityTrace

ROW_ROUTE, TOKEN_ROUTE, CREDIT_ROUTE, END_TOKEN = 7, 300, 41, 49
CREDITS = 2
OUTPUTS = ("out_valid", "out_flit", "dram_enable", "dram_address", "token_valid", "token", "done", "orders", "token_ended")
ORDER_STAGE = 1 << 5


@dataclass(frozen=True)
class Text:
    """A run of the host tile. It ends with `new_tokens`, or where `limit` is larger with END_TOKEN before it."""

    spec: ChipSpec
    table: NDArray[np.int16]  # embeddings, [END_TOKEN + 1, hidden]
    shift: int
    prompt: list[int]
    new_tokens: int
    limit: int = 0

    @property
    def hidden(self) -> int:
        return self.table.shape[1]

    @property
    def rows(self) -> int:
        return len(self.prompt) + self.new_tokens - 1

    @property
    def words(self) -> int:
        """Words of DRAM of a row."""
        return ceil(2 * self.hidden, self.spec.host.dram_bytes_per_cycle)


def random_text(spec: ChipSpec, hidden: int, shift: int, prompt: int, new_tokens: int, rng: np.random.Generator, limit: int = 0) -> Text:
    table = rng.integers(-(1 << 15), 1 << 15, (END_TOKEN + 1, hidden)).astype(np.int16)
    table[0], table[1] = -(1 << 15), (1 << 15) - 1
    return Text(spec, table, shift, rng.integers(0, END_TOKEN + 1, prompt).tolist(), new_tokens, limit)


@dataclass
class Script:
    """What happens in a run, row by row: what the tile is given, and what it must do."""

    ready: NDArray[np.bool_]
    """Whether the router takes a flit, by cycle."""
    steps: list[int] = field(default_factory=list)
    sends: list[int] = field(default_factory=list)
    """Cycle in which a row's first flit is offered."""
    pushes: list[NDArray[np.int64]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """The prompt, and every token that arrives."""
    credit_cycles: list[int] = field(default_factory=list)
    token_cycles: list[int] = field(default_factory=list)
    cycles: int = 0


def step_cycles(text: Text) -> int:
    """From the beginning of a step to its first flit; the vector tile that it goes to wakes meanwhile."""
    return max(text.spec.host.latency + text.spec.host.dram_latency + text.words, text.spec.wake_wait)


def play(text: Text, backpressure: float, rng: np.random.Generator) -> Script:
    """The rules of timing.md, Host tile, for random credits, tokens and router."""
    hidden, prompt = text.hidden, len(text.prompt)
    longest = step_cycles(text) + 8 * hidden + 20
    script = Script(rng.random(3 * text.rows * longest) >= backpressure, tokens=list(text.prompt))
    ready_at = np.flatnonzero(script.ready)
    arrivals: set[int] = set()

    def arrival(earliest: int) -> int:
        """One flit per cycle arrives."""
        while earliest in arrivals:
            earliest += 1
        arrivals.add(earliest)
        return earliest

    credits: list[int] = []  # in the order of their arrival
    step = 0
    for row in range(text.rows):
        script.steps.append(step)
        send = step + step_cycles(text)
        if row >= CREDITS:
            send = max(send, credits[row - CREDITS] + 1)
        first = int(np.searchsorted(ready_at, send))
        pushes = ready_at[first : first + ceil(hidden, 2)]
        script.sends.append(send)
        script.pushes.append(pushes)
        step = int(pushes[-1]) + 1
        insort(credits, arrival(step + int(rng.integers(0, 4 * hidden + 1))))
        if row >= prompt - 1:
            last = row == text.rows - 1
            # No chip answers before it has the row, but the rule holds for that too.
            early = not last and rng.random() < 0.2
            script.token_cycles.append(arrival(int(rng.integers(send, step)) if early else step + int(rng.integers(0, 2 * hidden + 1))))
            script.tokens.append(END_TOKEN if last else int(rng.integers(0, END_TOKEN)))
            step = max(step, script.token_cycles[-1] + 1)
    script.credit_cycles = credits
    script.cycles = max(*arrivals, step) + 3
    return script


def inputs_of(text: Text, script: Script, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    spec, cycles, per_word = text.spec, script.cycles, text.spec.host.dram_bytes_per_cycle // 2
    valid, route, payload = np.zeros((3, cycles), np.int64)
    for at, destination, values in (
        (script.credit_cycles, CREDIT_ROUTE, 5),
        (script.token_cycles, TOKEN_ROUTE, script.tokens[len(text.prompt) :]),
    ):
        valid[at], route[at], payload[at] = 1, destination, values
    dram = rng.integers(-99, 99, (cycles, per_word)).astype(np.int16)
    padded = np.pad(text.table, ((0, 0), (0, -text.hidden % per_word))).reshape(len(text.table), text.words, per_word)
    returned = np.add.outer(script.steps, spec.host.latency + spec.host.dram_latency + np.arange(text.words))
    dram[returned] = padded[script.tokens[: text.rows]]
    flit = pack([(route, spec.route_bits), (0, 1), (0, 16), (payload, 64)])
    return {"in_valid": valid, "in_flit": flit, "out_ready": script.ready[:cycles].astype(np.int64), "dram_data": as_words(dram)}


def as_words(values: NDArray[np.int16]) -> NDArray[Any]:
    """int16 [cycles, n] as the words of a port of 16 n bits."""
    unsigned = values.view(np.uint16).astype(np.uint64)
    words = pack([(unsigned[:, i], 16) for i in reversed(range(unsigned.shape[1]))])
    return words if words.shape[1] > 2 else words[:, 0] | words[:, -1].astype(np.uint64) << np.uint64(32)


def expected_flits(text: Text, row: int, token: int) -> NDArray[np.int64]:
    """Flag, tag, low and high value of a row's flits."""
    first = np.arange(0, text.hidden, 2)
    values = np.zeros(2 * len(first), np.int64)
    values[: text.hidden] = text.table[token].astype(np.int64) << text.shift
    wanted = int(row >= len(text.prompt) - 1)
    pairs = values.reshape(-1, 2) & 0xFFFFFFFF
    return np.column_stack([first + 1 == text.hidden, wanted << 15 | first, pairs])


def check(bench: Bench, text: Text, backpressure: float, rng: np.random.Generator) -> int:
    """Compare a run in every cycle; returns its cycles."""
    script = play(text, backpressure, rng)
    configure(bench, text)
    seen = bench.run(inputs_of(text, script, rng), outputs=OUTPUTS)
    reads = np.add.outer(script.steps, text.spec.host.latency + np.arange(text.words))
    assert np.array_equal(np.flatnonzero(seen["dram_enable"]), reads.ravel())
    addresses = np.add.outer(np.array(script.tokens[: text.rows]) * text.words, np.arange(text.words))
    assert np.array_equal(seen["dram_address"][reads], addresses)
    assert np.array_equal(np.flatnonzero(seen["orders"] == ORDER_STAGE), np.array(script.steps) + 1)
    assert np.count_nonzero(seen["orders"]) == text.rows
    assert np.array_equal(np.flatnonzero(seen["token_ended"]), np.array(script.token_cycles) + 2)
    pushes = np.concatenate(script.pushes)
    offered = [np.arange(send, push[-1] + 1) for send, push in zip(script.sends, script.pushes, strict=True)]
    assert np.array_equal(np.flatnonzero(seen["out_valid"]), np.concatenate(offered))
    route, flag, tag, high, low = unpack(seen["out_flit"][pushes], [text.spec.route_bits, 1, 16, 32, 32])
    assert (route == ROW_ROUTE).all()
    flits = np.concatenate([expected_flits(text, row, script.tokens[row]) for row in range(text.rows)])
    assert np.array_equal(np.stack([flag, tag, low, high], 1), flits)
    assert np.array_equal(np.flatnonzero(seen["token_valid"]), script.token_cycles)
    assert seen["token"][script.token_cycles].tolist() == script.tokens[len(text.prompt) :]
    assert np.array_equal(np.flatnonzero(seen["done"]), np.arange(script.token_cycles[-1] + 1, script.cycles))
    assert bench.run({}, cycles=1)["dram_bits_read"][0] == 16 * text.hidden * text.rows
    return script.cycles


def configure(bench: Bench, text: Text) -> None:
    """The run begins with the next cycle."""
    end = 1 << 32 | END_TOKEN if text.limit else 0
    new_tokens = max(text.new_tokens, text.limit)
    registers = [text.hidden, text.words, text.shift, len(text.prompt), new_tokens, ROW_ROUTE, CREDIT_ROUTE, 0, 0, 0, end, 0]
    bench.reset()
    bench.run({"rst": 1, "cfg_valid": 1, "cfg_unit": 1, "cfg_address": np.arange(12), "cfg_data": registers}, outputs=())
    bench.run({"rst": 1, "cfg_valid": 1, "cfg_unit": 2, "cfg_address": np.arange(len(text.prompt)), "cfg_data": text.prompt}, outputs=())
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
    for hidden in (1, 2, 7, 96, 129):
        for backpressure in BACKPRESSURE:
            cycles += check(bench, random_text(spec, hidden, 7, 20, 21, rng), backpressure, rng)
            cycles += check(bench, random_text(spec, hidden, 16, 1, 12, rng, limit=30), backpressure, rng)
            cycles += check(bench, random_text(spec, hidden, 0, 5, 1, rng), backpressure, rng)
    run_cycles(name, 340_000 - cycles, rng)


def run_cycles(name: str, cycles: int, rng: np.random.Generator) -> None:
    """Random texts for at least so many cycles."""
    spec = chip(name)
    while cycles > 0:
        hidden, shift, new_tokens = int(rng.integers(1, 600)), int(rng.integers(0, 17)), int(rng.integers(1, 60))
        text = random_text(spec, hidden, shift, int(rng.integers(1, 60)), new_tokens, rng, limit=int(rng.choice([0, new_tokens + 5])))
        cycles -= check(bench_of(name), text, float(rng.choice(BACKPRESSURE)), rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHIPS)
def test_every_cycle_of_many(name: str) -> None:
    run_cycles(name, 3_400_000, np.random.default_rng(2))


class HostOracle(Chip):
    """The model's host alone."""

    def __init__(self, text: Text) -> None:
        wanted = [row >= len(text.prompt) - 1 for row in range(text.rows)]
        self.spec, self.config = text.spec, SimpleNamespace(hidden_size=text.hidden)  # type: ignore[assignment]
        self.program = SimpleNamespace(routes=SimpleNamespace(residual=[ROW_ROUTE]))  # type: ignore[assignment]
        rows: Any = SimpleNamespace(tokens=text.rows, prompt_tokens=len(text.prompt), logits_wanted=np.array(wanted))
        rows.sequence = np.zeros(text.rows, np.int32)
        self.trace: ActivityTrace = rows
        self.result, self.credits, self.returned, self.cycle, self.wake = Oracle(), [CREDITS], deque(), 0, text.spec.wake_wait


@pytest.mark.parametrize("backpressure", BACKPRESSURE)
@pytest.mark.parametrize("name", CHIPS)
def test_the_rules_are_those_of_the_cycle_stepped_model(name: str, backpressure: float) -> None:
    """The model's host, given the script's router, credits and tokens, offers its flits in the same cycles."""
    rng = np.random.default_rng(3)
    for hidden in (1, 2, 7, 96):
        text = random_text(chip(name), hidden, 7, 9, 12, rng)
        script = play(text, backpressure, rng)
        oracle, offered = HostOracle(text), []
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
            oracle.returned.extend([0] if oracle.cycle in script.token_cycles else [])
        expected = [np.arange(send, push[-1] + 1) for send, push in zip(script.sends, script.pushes, strict=True)]
        assert offered == np.concatenate(expected).tolist()
