"""Random sequences in flight on random small chips in RTL: tokens, cycles and counters of the simulation, tokens of each sequence alone."""

from __future__ import annotations

import numpy as np
import pytest
from chip_parity import check
from parity import with_membranes

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.devices.membrane import Membrane
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.rtl.chip import RtlChip
from neuromorphic_llm.simulation.run import simulate

MOST = 6
"""Sequences, twice as many as stages."""


def random_program(seed: int) -> Program:
    """A random decoder on a chip with memories for some tokens of each sequence alone."""
    rng = np.random.default_rng(seed)
    lanes, engines = int(rng.choice([2, 4, 8])), int(rng.integers(1, 3))
    chip = "nano2" if seed % 2 else "nano"
    spec = load_spec(chip).with_fields(
        {
            "mesh.width": 5,
            "mesh.height": 3,
            "noc.fifo_depth": int(rng.integers(1, 5)),
            "synapse.crossbars": 4,
            "vector.lanes": lanes,
            "vector.key_lanes": int(rng.choice([lanes, 16])),
            "vector.softmax_lanes": int(rng.choice([2, 4, 8])),
            "vector.attention_engines": engines,
            "vector.kv_bytes_per_engine": 4096,
            "host.latency": int(rng.integers(1, 40)),
            "host.dram_latency": int(rng.integers(1, 40)),
        }
    )
    weights = random_decoder(seed, config=SMALL_CONFIG)
    if isinstance(spec.readout_circuit, Membrane):
        weights = with_membranes(weights, spec.readout_circuit)
    return compile_network(weights, spec)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_sequences_on_a_random_chip(seed: int) -> None:
    program, rng = random_program(seed), np.random.default_rng(seed)
    rtl, vocabulary = RtlChip(program), program.weights.config.vocab_size
    for _ in range(8):
        prompts = [rng.integers(0, vocabulary, rng.integers(1, 20)).tolist() for _ in range(rng.integers(1, MOST + 1))]
        new, stop = int(rng.integers(1, 7)), rng.integers(0, vocabulary, rng.integers(0, 5)).tolist()
        tokens = check(rtl, prompts, new, stop)
        assert tokens == tuple(simulate(program, prompt, new, stop=stop).token_ids for prompt in prompts)
