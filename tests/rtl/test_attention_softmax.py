"""Softmax of the attention engine alone: every exponential and its code at every least phase."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.attention import PROBABILITY_TOP, encode_probabilities, softmax_base2
from neuromorphic_llm.reference.fixed_point import bit_length
from neuromorphic_llm.rtl.bench import Bench, pack, unpack
from neuromorphic_llm.spikes.signed_digit import signed_digits

LANES = 8
PHASES = 11
PERIOD = 16
CODED, DONE = 9, 11
"""Cycles after that of the scores, with `start` in the next one."""


def digits_of(fired: NDArray[np.uint32], negative: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Digits of the phases 15 .. 5 of the first two keys, [phases, rows, keys]."""
    bits = [1] * PHASES * LANES
    fires, signs = (np.array(unpack(words, bits), np.int64)[-2 * PHASES :] for words in (fired, negative))
    digits = (fires * (1 - 2 * signs)).reshape(2, PHASES, -1)  # the last key and the most significant phase first
    return digits[::-1].transpose(1, 2, 0)


def test_every_distance_at_every_precision() -> None:
    """Two keys, one of them the largest: their u add up to less than 2^16, so m = 15 - P but for equal scores."""
    bench = Bench("nmllm_attention_softmax", {"KEY_LANES": LANES, "SOFTMAX_LANES": LANES, "GROUP": 1, "CONTEXT": 64})
    distance = np.append(np.arange(18 * 256), [2**16, 2**22, 2**24 - 1])
    for bits in range(1, 11):
        top = np.random.default_rng(bits).integers(0, 2**23, len(distance))
        top[-1] = 2**23 - 1
        z = np.stack([top, top - distance], axis=1)
        z = np.where((np.arange(len(z)) % 2 == 1)[:, None], z[:, ::-1], z)
        u = softmax_base2(z)
        cycles = PERIOD * len(z)
        words = np.zeros((cycles, 6), np.uint32)
        words[::PERIOD] = pack([(np.full(len(z), 2**23 - 1), 24)] * (LANES - 2) + [(z[:, 1], 24), (z[:, 0], 24)])  # hidden keys are larger
        at = np.arange(cycles) % PERIOD
        inputs = {"z_valid": at == 0, "z": words, "start": at == 1, "context_size": 2, "probability_bits": bits, "coded_ready": 1}
        found = bench.run(inputs)
        assert np.array_equal(found["coded_valid"] == 1, at == CODED)
        assert np.array_equal(found["done"] == 1, at == DONE)
        assert np.array_equal(found["sum"][at == DONE], encode_probabilities(u, bits, spiking=True).p.sum(axis=1).astype(np.uint64))
        least = np.clip(bit_length(u.sum(axis=1)) - 1 - bits, 0, 14)
        assert np.array_equal(found["least"][at == DONE], least.astype(np.uint64))
        coded = digits_of(found["coded_fired"][at == CODED], found["coded_negative"][at == CODED])
        expected = signed_digits(u, np.zeros(1, np.int64), np.full_like(least, PROBABILITY_TOP), least)
        padded = np.zeros_like(coded)
        for row, m in enumerate(least.tolist()):  # signed_digits aligns the last phases
            padded[: PROBABILITY_TOP - m + 1, row] = expected[len(expected) - (PROBABILITY_TOP - m + 1) :, row]
        assert np.array_equal(coded, padded)


def test_keys_beyond_the_context_count_for_nothing() -> None:
    """Ten keys whose u add up to 2^16 - 6: one more for each of the six lanes that are left would change m."""
    bench = Bench("nmllm_attention_softmax", {"KEY_LANES": LANES, "SOFTMAX_LANES": LANES, "GROUP": 1, "CONTEXT": 64})
    distance = np.append(np.arange(9) * 256, 0)
    nearby = np.arange(2048, 2304)
    u = softmax_base2(np.stack([np.zeros_like(nearby), -nearby], axis=1))[:, 1]
    rest = (1 << 16) - 6 - int(softmax_base2(-distance[None, :9]).sum())
    distance[9] = nearby[np.flatnonzero(u == rest)[0]]
    u = softmax_base2(-distance[None])
    assert u.sum() == (1 << 16) - 6
    keys = np.full(2 * LANES, 2**23 - 1)  # those beyond are larger
    keys[:10] = 1000 - distance
    blocks = keys.reshape(2, LANES)[:, ::-1]
    words = np.zeros((40, 6), np.uint32)
    words[:2] = pack([(blocks[:, lane] & 0xFFFFFF, 24) for lane in range(LANES)])
    at = np.arange(40)
    for bits in range(1, 11):
        inputs = {"z_valid": at < 2, "z_block": at == 1, "z": words, "start": at == 2, "context_size": 10, "coded_ready": 1}
        found = bench.run(inputs | {"probability_bits": bits}, cycles=40)
        (done,) = np.flatnonzero(found["done"])
        assert found["least"][done] == 15 - bits
        assert found["sum"][done] == encode_probabilities(u, bits, spiking=True).p.sum()
