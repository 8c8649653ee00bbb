"""Levels and encoder of stamped trains by themselves, without the search for a vector's maximum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_encoder import random_stop, schedule
from test_level_encoder import SIZES, stamped_flits
from vector_script import chip, random_vector, words

from neuromorphic_llm.reference.fixed_point import isqrt
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog

PHASES = {8: 8, 4: 9, 3: 11, 2: 12, 1: 13}
LANES = 8


def spec_of(steps: int) -> Any:
    return chip(LANES, {"readout.kind": "membrane-decay", "readout.steps": steps, "readout.converter_bits": 9})


def values_around(code: FirstSpikeLog, k: int) -> np.ndarray:
    """Every level, every middle between two and what lies beside it, at the scale k."""
    levels = np.array([0, *code.levels], np.int64) << k
    middles = (levels[1:] + levels[:-1]) // 2
    return np.concatenate([levels, *(middles + beside for beside in (-1, 0, 1, 2)), [1, 2]])


@pytest.mark.parametrize("steps", PHASES)
def test_levels_are_the_nearest(steps: int) -> None:
    code, bench = FirstSpikeLog(PHASES[steps], steps=steps), Bench("nmllm_levels", spec=spec_of(steps))
    rng = np.random.default_rng(steps)
    for k in (0, 1, 7, 31 - code.largest_value.bit_length()):
        x = values_around(code, k)
        x = np.concatenate([x, -x, rng.integers(-code.largest_value << k, (code.largest_value << k) + 1, 200)])
        x = x[: len(x) // LANES * LANES].reshape(-1, LANES)
        price = np.where(rng.random(x.shape) < 0.5, 0, np.abs(x) + rng.integers(-1, 2, x.shape)).clip(0, 2**31 - 1)
        valid = rng.random(x.shape) < 0.9
        enable = rng.random(len(x)) < 0.95
        inputs = {"value": words32(x), "price": words32(price), "k": k, "enable": enable, "lane_valid": valid @ (1 << np.arange(LANES))}
        got = bench.run(inputs, outputs=["fires", "negative", "slots"])
        level = code._nearest(x, np.int64(k), np) * (valid & enable[:, None] & (np.abs(x) > price))
        fires, negative = level > 0, (level > 0) & (x < 0)
        assert np.array_equal(got["fires"].ravel(), fires @ (1 << np.arange(LANES)))
        assert np.array_equal(got["negative"].ravel(), negative @ (1 << np.arange(LANES)))
        slots = got["slots"].reshape(len(x), -1).astype(np.uint64)
        wide = slots[:, 0] if slots.shape[1] == 1 else slots[:, 0] | slots[:, 1] << np.uint64(32)
        found = (wide[:, None] >> np.uint64(6) * np.arange(LANES, dtype=np.uint64)) & np.uint64(63)
        assert np.array_equal(np.array(code.levels)[found.astype(int)][fires], level[fires])


def words32(values: np.ndarray) -> np.ndarray:
    """Lanes of 32 bits as the words of a port."""
    return values.astype(np.int64).astype(np.uint64).astype(np.uint32)


@pytest.mark.parametrize("name", ["8 steps", "4 steps", "1 step"])
def test_encoder_by_itself(name: str) -> None:
    spec, rng = SIZES[name].spec, np.random.default_rng(1)
    lanes, steps = spec.vector.lanes, spec.readout.steps
    assert steps is not None
    bench, code = Bench("nmllm_level_encoder", {"WORDS": 32}, spec=spec), FirstSpikeLog(PHASES[steps], steps=steps)
    ready_at, hold = rng.random(60_000) < 0.7, np.repeat(rng.random(4_000) < 0.3, 16)
    ports = ("words", "tail", "known", "k", "ready")
    rows = {port: np.zeros(50_000, np.int64) for port in ports}
    data, stops = (rng.integers(0, 2**32, (50_000, lanes)) for _ in range(2))
    done, offered, pushed, flits, cycle = [], [], [], [], 2
    while cycle < 40_000:
        x = random_vector(rng, int(rng.integers(1, 32 * lanes + 1)))
        stop, passes = random_stop(rng, x), -(-len(x) // lanes)
        train = code.encode(x[None], stop[None])
        rows["words"][cycle - 2 :], rows["tail"][cycle - 2 :] = passes, (len(x) - 1) % lanes + 1
        rows["known"][cycle - 1], rows["k"][cycle - 1], rows["ready"][cycle] = 1, train.exponent[0], 1
        data[cycle + 1 : cycle + 1 + passes] = words(x, lanes, rng)
        stops[cycle + 1 : cycle + 1 + passes] = words(isqrt(stop), lanes, rng)
        flits.append(stamped_flits(code, train.digits[:, 0], 0, spec.flit_events))
        shown, taken = schedule(cycle + 1 + passes + 1, 0, [len(flits[-1])], ready_at, hold)
        offered, pushed, done = offered + shown, pushed + taken, [*done, taken[-1]]
        cycle = taken[-1] + 3
    run = slice(cycle)
    inputs = {port: values[run] for port, values in rows.items()}
    inputs |= {"read_data": words32(data[run]), "stop_data": words32(stops[run]), "spike_ready": ready_at[run], "hold": hold[run]}
    got = bench.run(inputs, outputs=["spike_valid", "payload", "count", "last_flit", "done"])
    assert np.flatnonzero(got["spike_valid"]).tolist() == offered
    assert np.flatnonzero(got["done"]).tolist() == done
    expected = np.concatenate(flits)
    payload = got["payload"].reshape(cycle, -1)[pushed].astype(np.uint64)
    payload = payload[:, 0] if payload.shape[1] == 1 else payload[:, 0] | payload[:, 1] << np.uint64(32)
    assert np.array_equal(payload.astype(np.int64), expected[:, 2])
    assert np.array_equal(got["count"].ravel()[pushed].astype(np.int64), expected[:, 1] >> 6)
    assert np.array_equal(got["last_flit"].ravel()[pushed].astype(np.int64), expected[:, 0])
