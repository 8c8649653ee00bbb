"""The energy of a small compiled program, recomputed from its counters with constants written out."""

from __future__ import annotations

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.energy import account
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulate.run import simulate

LOGIC_45, SRAM_45, LOGIC_32 = 0.386, 0.386, 0.543  # to 22 nm, nominal
ADD, MULTIPLY, REGISTER = 0.1e-12 * LOGIC_45, 3.1e-12 * LOGIC_45, 1e-15 * LOGIC_45
CONVERSION_9_BIT = (0.85e-12 * 1.64e-12) ** 0.5  # half way from 8 to 10 bits


def test_total_by_hand() -> None:
    program = compile_network(random_decoder(3), load_spec("nano"))
    result = simulate(program, [1, 2, 3], 4, stop=())
    spec, c = program.spec, result.decode
    assert c is not None
    assert (spec.columns, spec.converter_bits, c.tokens) == (64, 9, 3)
    seconds = c.cycles / 5.0e8
    vector_tiles, sram_bits = len(spec.vector_tiles()), 8 * (32768 + 2 * 65536)
    expected = {
        "cells": c.cell_reads * 30e-15 + c.cell_reads / 64 * 0.417e-12 * LOGIC_32,
        "converters": c.conversions * CONVERSION_9_BIT,
        "accumulators": c.accumulations * (ADD + 32 * REGISTER),
        "soma": (c.output_values + 3 * c.gate_operations + 3 * c.norm_elements + 2 * c.rope_elements) * MULTIPLY
        + (2 * c.output_values + 2 * c.gate_operations + c.norm_elements + 2 * c.encode_elements + c.add_elements + c.rope_elements) * ADD,
        "attention": (c.score_operations + c.value_operations + 6 * c.softmax_elements) * ADD
        + 16 * c.softmax_elements * 10e-12 / 64 * SRAM_45
        + (c.kv_bits_read + c.kv_bits_written) * 0.821e-12 * SRAM_45,
        "sram": (c.sram_bits_read + c.sram_bits_written) * 20e-12 / 64 * SRAM_45,
        "noc": c.flit_hops * 64 * 80.9e-15 * LOGIC_32,
        "dram": c.dram_bits_read * 20.3e-12,
        "leakage": seconds * (64 * 0.1e-3 + vector_tiles * sram_bits * 10e-12),
    }
    energy = account(c, spec, seconds, tokens=c.tokens)
    assert {name: part.nominal for name, part in energy.parts.items()} == pytest.approx(expected)
    assert energy.chip_energy_j_per_token.nominal == pytest.approx(sum(expected.values()) / 3)
    assert all(value > 0 for value in expected.values())
