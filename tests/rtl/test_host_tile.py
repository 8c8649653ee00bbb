"""Host tile in lockstep with the host of the cycle-stepped model: DRAM reads, flits and tokens in every cycle."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from timing_oracle import Chip, Oracle, Unit, ceil

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.rtl.bench import Bench, pack, unpack
from neuromorphic_llm.simulate.trace import ActivityTrace

ROW_ROUTE, TOKEN_ROUTE, CREDIT_ROUTE, END_TOKEN = 7, 300, 41, 49
INPUTS = ("out_ready", "in_valid", "in_route", "in_payload")
OUTPUTS = ("out_valid", "dram_enable", "dram_address", "token_valid", "token", "done")


class HostOracle(Chip):
    """The model's host alone; `steps` are the cycles in which its steps begin."""

    def __init__(self, spec: ChipSpec, hidden: int, prompt: int, wanted: list[bool]) -> None:
        self.spec, self.config = spec, SimpleNamespace(hidden_size=hidden)  # type: ignore[assignment]
        self.program = SimpleNamespace(routes=SimpleNamespace(residual=[ROW_ROUTE]))  # type: ignore[assignment]
        trace: Any = SimpleNamespace(tokens=len(wanted), prompt_tokens=prompt, logits_wanted=np.array(wanted))
        self.trace: ActivityTrace = trace
        self.result, self.credits, self.tokens, self.cycle = Oracle(), [2], 0, 0
        self.steps: list[int] = []

    def pause(self, cycles: int, stage: int | None = None) -> Unit:
        self.steps.append(self.cycle)
        return super().pause(cycles, stage)


@dataclass
class Script:
    """Inputs and expected outputs of every cycle."""

    inputs: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in INPUTS})
    outputs: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in OUTPUTS})
    dram: list[np.ndarray] = field(default_factory=list)
    flits: list[tuple[int, int, int, int]] = field(default_factory=list)
    """flag, tag, low and high value of the flit offered."""


def play(spec: ChipSpec, table: np.ndarray, shift: int, prompt: list[int], new_tokens: int, seed: int, backpressure: float) -> Script:
    """Run the model's host with random credits, tokens and router; the last token is END_TOKEN. table: int16 [vocabulary, hidden]."""
    rng = np.random.default_rng(seed)
    hidden, rows = table.shape[1], len(prompt) + new_tokens - 1
    oracle, script = HostOracle(spec, hidden, len(prompt), [row >= len(prompt) - 1 for row in range(rows)]), Script()
    host, answer = oracle.host(), None
    per_word = spec.dram_bytes_per_cycle // 2
    words = ceil(hidden, per_word)
    padded = np.pad(table, ((0, 0), (0, -hidden % per_word)))
    tokens = list(prompt)  # of the rows
    sent = 0
    credits_due: list[int] = []
    token_due: list[int] = []
    finished = False
    while not finished or token_due or credits_due:
        offered = None
        if not finished:
            try:
                offered = next(host) if answer is None else host.send(answer)
            except StopIteration:
                finished = True
        cycle, row = oracle.cycle, len(oracle.steps) - 1
        values, expected = dict.fromkeys(INPUTS, 0), dict.fromkeys(OUTPUTS, 0)
        word = cycle - oracle.steps[-1] - spec.host_latency
        if 0 <= word < words:
            expected["dram_enable"], expected["dram_address"] = 1, tokens[row] * words + word
        word -= spec.dram_latency
        data = padded[tokens[row], per_word * word : per_word * (word + 1)] if 0 <= word < words else rng.integers(0, 99, per_word)
        flit = (0, 0, 0, 0)
        answer = None
        if offered is not None:
            index = 2 * (sent % ceil(hidden, 2))
            pair = [int(v) << shift for v in table[tokens[row], index : index + 2]]
            wanted = int(row >= len(prompt) - 1)
            flit = (int(len(pair) == 1), wanted << 15 | index, pair[0], pair[1] if len(pair) == 2 else 0)
            values["out_ready"] = int(rng.random() >= backpressure)
            expected["out_valid"], answer = 1, bool(values["out_ready"])
            if answer:
                sent += 1
                if sent % ceil(hidden, 2) == 0:
                    credits_due.append(cycle + int(rng.integers(1, 4 * hidden + 2)))
                    if wanted:
                        token_due.append(cycle + int(rng.integers(1, 2 * hidden + 2)))
        # one flit a cycle arrives, a credit before a token
        if credits_due and credits_due[0] <= cycle:
            credits_due.pop(0)
            values |= {"in_valid": 1, "in_route": CREDIT_ROUTE, "in_payload": 5}
            oracle.credits[0] += 1
        elif token_due and token_due[0] <= cycle:
            token_due.pop(0)
            tokens.append(END_TOKEN if len(tokens) == rows else int(rng.integers(0, END_TOKEN)))
            values |= {"in_valid": 1, "in_route": TOKEN_ROUTE, "in_payload": tokens[-1]}
            expected["token_valid"], expected["token"] = 1, tokens[-1]
            oracle.tokens += 1
        for name in INPUTS:
            script.inputs[name].append(values[name])
        for name in OUTPUTS:
            script.outputs[name].append(expected[name])
        script.dram.append(np.asarray(data, np.int16))
        script.flits.append(flit)
        oracle.cycle += 1
    ends = script.outputs["token_valid"]
    last = len(ends) - 1 - ends[::-1].index(1)
    script.outputs["done"][last + 1 :] = [1] * (len(ends) - last - 1)
    return script


def bench_for(spec: ChipSpec, hidden: int, shift: int, prompt: list[int], new_tokens: int, end_token: int | None = None) -> Bench:
    """A configured host tile; its run begins with the next cycle."""
    bench = Bench("nmllm_host_tile", spec=spec)
    words = ceil(2 * hidden, spec.dram_bytes_per_cycle)
    end = 0 if end_token is None else 1 << 32 | end_token
    registers = [hidden, words, shift, len(prompt), new_tokens, ROW_ROUTE, CREDIT_ROUTE, 0, 0, 0, end, 0]
    bench.run({"rst": 1, "cfg_valid": 1, "cfg_unit": 1, "cfg_address": np.arange(12), "cfg_data": registers}, outputs=())
    bench.run({"rst": 1, "cfg_valid": 1, "cfg_unit": 2, "cfg_address": np.arange(len(prompt)), "cfg_data": prompt}, outputs=())
    bench.run({"rst": [1]}, outputs=())
    return bench


def as_words(values: np.ndarray) -> np.ndarray:
    """int16 [cycles, n] as the words of a port of 16 n bits."""
    unsigned = values.view(np.uint16).astype(np.uint64)
    words = pack([(unsigned[:, i], 16) for i in reversed(range(unsigned.shape[1]))])
    return words if words.shape[1] > 2 else words[:, 0] | words[:, -1].astype(np.uint64) << np.uint64(32)


def check(spec: ChipSpec, hidden: int, shift: int, prompt: int, new_tokens: int, seed: int, backpressure: float, limit: int = 0) -> int:
    """Compare a run that ends with `new_tokens`, or where `limit` is larger, with END_TOKEN before it; returns its cycles."""
    rng = np.random.default_rng(seed)
    table = rng.integers(-(1 << 15), 1 << 15, (END_TOKEN + 1, hidden)).astype(np.int16)
    table[0], table[1] = -(1 << 15), (1 << 15) - 1
    given = rng.integers(0, END_TOKEN + 1, prompt).tolist()
    script = play(spec, table, shift, given, new_tokens, seed, backpressure)
    bench = bench_for(spec, hidden, shift, given, max(new_tokens, limit), END_TOKEN if limit else None)
    inputs = {name: np.array(values) for name, values in script.inputs.items()}
    inputs["in_flit"] = pack([(inputs.pop("in_route"), spec.route_bits), (0, 1), (0, 16), (inputs.pop("in_payload"), 64)])
    seen = bench.run(inputs | {"dram_data": as_words(np.array(script.dram))})
    expected = {name: np.array(values) for name, values in script.outputs.items()}
    for name in ("out_valid", "dram_enable", "token_valid", "done"):
        wrong = np.flatnonzero(seen[name] != expected[name])
        assert not len(wrong), f"{name}: first in cycle {wrong[0]}, {seen[name][wrong[0]]}"
    for name, valid in (("dram_address", "dram_enable"), ("token", "token_valid")):
        at = expected[valid] == 1
        assert (seen[name][at] == expected[name][at]).all()
    offered = expected["out_valid"] == 1
    route, flag, tag, high, low = unpack(seen["out_flit"][offered], [spec.route_bits, 1, 16, 32, 32])
    assert (route == ROW_ROUTE).all()
    assert np.array_equal(np.stack([flag, tag, low, high], 1), np.array(script.flits)[offered] & 0xFFFFFFFF)
    assert bench.run({}, cycles=1)["dram_bits_read"][0] == 16 * hidden * (prompt + new_tokens - 1)
    return len(offered)


CHIPS = {
    "nano": {},
    "early": {"host_latency": 1, "dram_latency": 1, "dram_bytes_per_cycle": 8, "mesh_width": 12, "mesh_height": 9},
    "wide": {"host_latency": 5, "dram_latency": 3, "dram_bytes_per_cycle": 64},
}


@pytest.mark.parametrize("backpressure", [0.0, 0.4])
@pytest.mark.parametrize("hidden", [1, 2, 7, 96, 129])
@pytest.mark.parametrize("chip", CHIPS)
def test_every_cycle(chip: str, hidden: int, backpressure: float) -> None:
    spec = replace(load_spec("nano"), **CHIPS[chip])
    check(spec, hidden, 7, 20, 21, hidden, backpressure)
    check(spec, hidden, 16, 1, 12, hidden + 1, backpressure, limit=30)
    check(spec, hidden, 0, 5, 1, hidden + 2, backpressure)


@pytest.mark.slow
def test_a_million_cycles() -> None:
    cycles = sum(check(load_spec("nano"), 576, 3, 100, 200, seed, 0.3) for seed in range(6))
    assert cycles > 1_000_000
