"""The account is counts times constants: totals recomputed by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy import account, fp16_reference, int8_reference, load_constants, records_for
from neuromorphic_llm.energy.account import PARTS
from neuromorphic_llm.energy.digital import token_seconds
from neuromorphic_llm.reference.weights import DecoderConfig

SPEC = ChipSpec("tiny", mesh_width=4, mesh_height=2, vector_period=4, vector_offset=2)
CONFIG = DecoderConfig(288, 64, 128, 2, 4, 2, 16, 512, 1e-5, 1e4)
SMOLLM2 = DecoderConfig(49152, 576, 1536, 30, 9, 3, 64, 8192, 1e-5, 1e5)
COUNTS = SimpleNamespace(
    cell_reads=1024,
    conversions=10,
    accumulations=10,
    output_values=4,
    gate_operations=2,
    norm_elements=8,
    encode_elements=24,
    add_elements=8,
    rope_elements=4,
    score_operations=12,
    softmax_elements=3,
    value_operations=16,
    kv_bits_read=256,
    kv_bits_written=128,
    sram_bits_read=512,
    sram_bits_written=64,
    flit_hops=7,
    dram_bits_read=1024,
)
# 22 nm nominal figures written out: published value x (22/45) (0.8/0.9)^2 = 0.386, or x 0.543 from 32 nm
ADD, MULTIPLY, REGISTER_BIT = 1.0e-13 * 0.386, 3.1e-12 * 0.386, 1.0e-15 * 0.386


def test_total_by_hand() -> None:
    seconds = 2.0e-6
    expected = {
        "cells": 1024 * 3.0e-14 + 1024 / 256 * 4.17e-13 * 0.543,
        "converters": 10 * 1.64e-12,
        "accumulators": 10 * ADD + 10 * 32 * REGISTER_BIT,
        "soma": (4 + 6 + 24 + 8) * MULTIPLY + (8 + 4 + 8 + 48 + 8 + 4) * ADD,
        "attention": (12 + 16 + 18) * ADD + 48 * 1.5625e-13 * 0.386 + 384 * 8.21e-13 * 0.386,
        "sram": 576 * 3.125e-13 * 0.386,
        "noc": 7 * 64 * 8.09e-14 * 0.543,
        "dram": 1024 * 2.03e-11,
        "leakage": seconds * (8 * 1.0e-4 + 2 * 8 * (65536 + 4 * 262144) * 1.0e-11),
    }
    result = account(COUNTS, SPEC, seconds, tokens=2)
    assert len(SPEC.vector_tiles()) == 2
    for name, value in expected.items():
        assert result.parts[name].nominal == pytest.approx(value, rel=1e-9), name
    assert result.chip_energy_j.nominal == pytest.approx(sum(expected.values()), rel=1e-9)
    assert result.chip_energy_j_per_token.nominal == pytest.approx(sum(expected.values()) / 2, rel=1e-9)


def test_parts_scope_and_bounds() -> None:
    result = account(COUNTS, SPEC, 1e-6)
    assert tuple(result.parts) == PARTS
    assert "chip" in result.scope and "DRAM" in result.scope
    assert all(part.low <= part.nominal <= part.high for part in result.parts.values())
    written = result.to_json()
    assert sum(part["high"] for part in written["energy_breakdown_j"].values()) == pytest.approx(written["energy_j_per_token"]["high"])


def test_invalid_time_and_tokens() -> None:
    with pytest.raises(ValueError, match="seconds"):
        account(COUNTS, SPEC, -1.0)
    with pytest.raises(ValueError, match="tokens"):
        account(COUNTS, SPEC, 1.0, tokens=0)
    with pytest.raises(ValueError, match="context"):
        int8_reference(CONFIG, 0, SPEC)


def test_int8_macs_by_hand() -> None:
    weights = sum(inputs * outputs for inputs, outputs in map(CONFIG.site_shape, range(CONFIG.sites)))
    constants = load_constants()
    reference = int8_reference(CONFIG, 10, SPEC)
    macs = constants["int8_multiply"].value.nominal + constants["int32_add"].value.nominal + 32 * constants["register_bit"].value.nominal
    assert reference.parts["macs"].nominal == pytest.approx(weights * macs)
    assert reference.parts["dram"].nominal == pytest.approx(16 * 64 * 2.03e-11)


def test_references_are_ordered() -> None:
    spec = ChipSpec("nc1")
    int8, fp16 = int8_reference(SMOLLM2, 256, spec), fp16_reference(SMOLLM2, 256, spec)
    int8_sram = int8_reference(SMOLLM2, 256, spec, weights_in_sram=True)
    assert int8.chip_energy_j.nominal < int8_sram.chip_energy_j.nominal
    assert int8.chip_energy_j.nominal < fp16.chip_energy_j.nominal
    assert int8.scope != int8_sram.scope
    assert token_seconds(SMOLLM2, 512, spec, 8) > token_seconds(SMOLLM2, 64, spec, 8) > 0


def test_gpu_records_are_labelled() -> None:
    records = records_for("SmolLM2-135M-Instruct")
    assert len(records) == 4
    assert all(record.to_json()["kind"] == "recorded" and record.recorded == "November 2026" for record in records)
    assert records_for("random-tiny") == ()
