"""Injection of a vector tile: every flit in its cycle (timing.md), for random credits, vectors, tokens, spikes and router."""

from __future__ import annotations

import numpy as np
import pytest
from vector_script import chip

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.rtl.bench import Bench, pack
from neuromorphic_llm.rtl.package import SEQUENCES

VECTOR_ROUTE, CREDIT_ROUTE, SPIKE_ROUTE = 77, 301, 9
WORDS = 64
CHIPS = [chip(8), chip(2), chip(32)]
PULSES = ("credit_due", "credit_arrives", "prefetch", "send", "send_token", "wanted", "stream_sequence", "size", "token", "spike_valid")
DONES = ("send_done", "token_done", "spike_ready")


class Run:
    """Work of a vector tile, one thing after another as its sequencer orders it; `cycle` is the first one that is free."""

    def __init__(self, spec: ChipSpec, cycles: int, backpressure: float, rng: np.random.Generator) -> None:
        self.spec, self.lanes, self.rng = spec, spec.vector.lanes, rng
        room = cycles + 100_000
        self.ready = rng.random(room) >= backpressure
        self.inputs = {name: np.zeros(room, np.int64) for name in PULSES}
        self.words = [(0, rng.integers(-(2**31), 2**31, self.lanes))]  # what the memory shows from a cycle on
        self.spikes = rng.integers(0, 2**63, room).astype(np.uint64)  # anything where none is valid
        self.expected = {name: np.zeros(room, np.int64) for name in ("out_valid", "read_enable", "read_address", *DONES)}
        self.flits: list[tuple[int, int, int, int, int]] = []  # cycle, route, flag, tag, payload
        self.cycle, self.credits = 1, [0, 0]  # first cycle in which each of the receiver's credits can be used
        self.blocked = 0  # by a credit that goes first, until this cycle
        while self.cycle < cycles:
            if rng.random() < 0.3:
                self.owe_credit()
            rng.choice([self.send, self.send_token, self.send_spikes])()  # type: ignore[operator]
            self.cycle += int(rng.choice([0, 0, 1, rng.integers(0, 30)]))
        self.cycles = self.cycle + 1

    def push(self, cycle: int, route: int, flag: int, tag: int, payload: int) -> int:
        """A flit offered from this cycle on; returns the cycle of its push."""
        pushed = cycle + int(self.ready[cycle:].argmax())
        self.expected["out_valid"][cycle : pushed + 1] = 1
        self.flits += [(c, route, flag, tag, payload) for c in range(cycle, pushed + 1)]
        return pushed

    def owe_credit(self) -> None:
        """A credit goes first; whatever else begins meanwhile waits."""
        self.inputs["credit_due"][self.cycle] = 1
        self.blocked = self.push(self.cycle, CREDIT_ROUTE, 0, 0, 0) + 1
        self.cycle = int(self.rng.integers(self.cycle, self.blocked + 1))

    def send(self) -> None:
        """A residual, read word by word, when the receiver has a credit."""
        rng, size = self.rng, int(self.rng.choice([1, 2, 3, self.rng.integers(1, 4 * self.lanes + 2), self.rng.integers(1, 100)]))
        words = rng.integers(-(2**31), 2**31, (-(-size // self.lanes) + 1, self.lanes))
        wanted, sequence = int(rng.integers(0, 2)), int(rng.integers(0, SEQUENCES))
        self.inputs["prefetch"][self.cycle] = self.expected["read_enable"][self.cycle] = 1
        begin = self.cycle + 1
        cycle = max(begin, self.blocked, self.credits.pop(0))
        self.words.append((begin, words[0]))
        for element in range(0, size, 2):
            word, lane = divmod(element, self.lanes)
            low, high = int(words[word, lane]), int(words[word, lane + 1])
            odd = element + 1 == size
            payload = (low & 0xFFFFFFFF) | (0 if odd else (high & 0xFFFFFFFF) << 32)
            pushed = self.push(cycle, VECTOR_ROUTE, int(odd), wanted << 15 | sequence, payload)
            if lane + 2 == self.lanes:
                self.expected["read_enable"][pushed], self.expected["read_address"][pushed] = 1, word + 1
                self.words.append((pushed + 1, words[word + 1]))
            cycle = pushed + 1
        self.inputs["send"][begin:cycle] = 1
        self.inputs["size"][begin:cycle] = size
        self.inputs["wanted"][begin:cycle] = wanted
        self.inputs["stream_sequence"][begin:cycle] = sequence
        self.expected["send_done"][cycle - 1] = 1
        arrives = cycle + int(rng.integers(0, 60))  # the receiver returns it
        while self.inputs["credit_arrives"][arrives]:
            arrives += 1
        self.inputs["credit_arrives"][arrives] = 1
        self.credits = sorted([*self.credits, arrives + 1])
        self.cycle = cycle

    def send_token(self) -> None:
        token, sequence = int(self.rng.integers(0, 2**31)), int(self.rng.integers(0, SEQUENCES))
        pushed = self.push(max(self.cycle, self.blocked), VECTOR_ROUTE, 0, sequence, token)
        self.inputs["stream_sequence"][self.cycle : pushed + 1] = sequence
        self.inputs["wanted"][self.cycle : pushed + 1] = 1  # as of every token of the head
        self.inputs["send_token"][self.cycle : pushed + 1] = 1
        self.inputs["token"][self.cycle : pushed + 1] = token
        self.expected["token_done"][pushed] = 1
        self.cycle = pushed + 1

    def send_spikes(self) -> None:
        """Flits of the encoder with pauses between them, passed on as they are."""
        for _ in range(int(self.rng.integers(1, 20))):
            payload = int(self.rng.integers(0, 2**63))
            pushed = self.push(max(self.cycle, self.blocked), SPIKE_ROUTE, 1, 37, payload)
            self.inputs["spike_valid"][self.cycle : pushed + 1] = 1
            self.spikes[self.cycle : pushed + 1] = payload
            self.expected["spike_ready"][pushed] = 1
            self.cycle = pushed + 1 + int(self.rng.choice([0, 0, 3]))

    def check(self, bench: Bench) -> int:
        bench.reset()
        cycles, spec = self.cycles, self.spec
        inputs = {name: values[:cycles] for name, values in self.inputs.items()}
        inputs |= {"vector_route": VECTOR_ROUTE, "credit_route": CREDIT_ROUTE, "out_ready": self.ready[:cycles].astype(np.int64)}
        inputs["spike_flit"] = pack([(SPIKE_ROUTE, spec.route_bits), (1, 1), (37, 16), (self.spikes[:cycles], 64)])
        first, words = zip(*self.words, strict=True)
        read = np.repeat(words, np.diff([*first, cycles]), axis=0)
        inputs["read_data"] = read if self.lanes > 2 else (read[:, 0] & 0xFFFFFFFF) | read[:, 1] << 32
        found = bench.run(inputs, outputs=["out_valid", "out_flit", "read_enable", "read_address", *DONES])
        for name in ("out_valid", "read_enable", "send_done", "token_done"):
            wrong = np.flatnonzero(found[name] != self.expected[name][:cycles])
            assert not len(wrong), f"{name}: first in cycle {wrong[0]}, {found[name][wrong[0]]}"
        accepted = (found["spike_ready"] == 1) & (self.inputs["spike_valid"][:cycles] == 1)
        assert np.array_equal(accepted, self.expected["spike_ready"][:cycles] == 1)
        at = self.expected["read_enable"][:cycles] == 1
        assert np.array_equal(found["read_address"][at], self.expected["read_address"][:cycles][at] % WORDS)
        offered, route, flag, tag, payload = np.array(self.flits, np.uint64).T
        flits = pack([(route, spec.route_bits), (flag, 1), (tag, 16), (payload, 64)])
        assert np.array_equal(found["out_flit"][offered], flits)
        return cycles


def run(spec: ChipSpec, seed: int, cycles: int) -> None:
    rng, bench = np.random.default_rng(seed), Bench("nmllm_injection", {"WORDS": WORDS}, spec=spec)
    while cycles > 0:
        cycles -= Run(spec, 40_000, float(rng.choice([0.0, 0.3, 0.8])), rng).check(bench)


@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector.lanes}")
def test_injection(spec: ChipSpec) -> None:
    run(spec, 1, 340_000)


def test_after_a_reset_in_the_middle_both_credits_are_there_and_nothing_is_granted() -> None:
    bench, at = Bench("nmllm_injection", {"WORDS": WORDS}, spec=CHIPS[0]), np.arange(10)
    found = bench.run({"send": np.ones(10, np.int64), "size": np.where(at < 3, 40, 2), "rst": at == 2, "out_ready": 1})
    assert np.flatnonzero(found["out_valid"][3:]).tolist() == [0, 1]  # a flit each


@pytest.mark.slow
@pytest.mark.parametrize("spec", CHIPS, ids=lambda spec: f"L{spec.vector.lanes}")
def test_injection_long(spec: ChipSpec) -> None:
    run(spec, 2, 3_400_000)
