"""The account is counts times constants: totals recomputed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy import RIVALS, EnergyAccount, Memory, account, fp16_reference, int8_reference, load_constants, records_for
from neuromorphic_llm.energy.digital import ARRAYS, SCOPE, SCOPE_SRAM, token_seconds
from neuromorphic_llm.reference.blocks import Attention, FeedForward
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.random_decoder import SMOLLM2_135M
from neuromorphic_llm.simulation.counters import Counters

SPEC = ChipSpec("tiny").with_fields({"mesh.width": 4, "mesh.height": 2, "mesh.vector_period": 4, "mesh.vector_offset": 2})
CONFIG = DecoderConfig(288, 64, 128, 2, 4, 2, 16, 512, 1e-5, 1e4)
COUNTS = Counters(
    row_drives=5,
    cell_reads=1024,
    conversions=10,
    accumulations=10,
    accumulator_bits_read=448,
    accumulator_bits_written=320,
    output_values=4,
    gate_operations=2,
    norm_elements=8,
    square_roots=1,
    divisions=2,
    maximum_elements=20,
    encode_elements=24,
    add_elements=8,
    rope_elements=4,
    attention_values=6,
    score_operations=12,
    softmax_elements=3,
    probability_spikes=2,
    value_operations=16,
    kv_bits_read=256,
    kv_bits_written=128,
    score_bits_read=192,
    score_bits_written=120,
    vector_bits_read=512,
    vector_bits_written=64,
    event_bank_bits_read=48,
    event_bank_bits_written=40,
    axon_bits_read=32,
    axon_bits_written=16,
    rotary_bits_read=64,
    output_parameter_bits_read=80,
    routing_bits_read=90,
    flits=3,
    flit_hops=7,
    dram_bits_read=1024,
)
MEMORIES = {
    "vector_memory": Memory(65536, 2),
    "event_banks": Memory(1 << 20, 4),
    "key_value": Memory(262144, 8),
    "attention_scores": Memory(8192, 8),
    "rotary_tables": Memory(32768, 2),
    "axon": Memory(2048, 5),
    "accumulators": Memory(1024, 5, registers=True),
    "output_parameters": Memory(131072, 5),
    "routing_tables": Memory(64, 8),
}
# 22 nm nominal figures written out: published value x (22/45) (0.8/0.9)^2 = 0.386, or x 0.543 from 32 nm
ADD, MULTIPLY, REGISTER_BIT = 1.0e-13 * 0.386, 3.1e-12 * 0.386, 1.0e-15 * 0.386
SRAM_512B, SRAM_2KB, SRAM_8KB, SRAM_32KB, SRAM_256KB, SRAM_1MB = (
    bit * 0.386 for bit in (6.655e-14, 8.442e-14, 1.5625e-13, 3.125e-13, 8.21e-13, 1.5625e-12)
)
SRAM_64KB, SRAM_128KB = (SRAM_32KB * (8.21 / 3.125) ** (share / 3) for share in (1, 2))


def test_total_by_hand() -> None:
    seconds = 2.0e-6
    additions = 3 * 4 + 9 * 2 + 5 * 8 + 5 * 24 + 2 * 8 + 3 * 4 + 2 * 6 + 128 // 4 + 20 + 64 * (1 + 2)
    bytes_leaking = 2 * 65536 + 4 * (1 << 20) + 8 * 262144 + 8 * 8192 + 2 * 32768 + 5 * 2048 + 5 * 131072 + 8 * 64
    expected = {
        "cells": 1024 * 3.0e-14 + 5 * 4.17e-13 * 0.543,
        "converters": 10 * (1.64e-12 * (500 / 113.4) ** 0.661 + 1.0e-14),
        "accumulators": 10 * ADD + (448 + 320) * REGISTER_BIT,
        "soma": (4 + 6 + 24 + 8 + 6) * MULTIPLY + additions * ADD + 2 * 32 * SRAM_512B,
        "attention": (2 * (12 + 16) + 6 * 3 + 3 * 2) * ADD
        + 32 * (12 + 16) * REGISTER_BIT
        + 48 * SRAM_512B
        + 384 * SRAM_256KB
        + 312 * SRAM_8KB,
        "sram": 576 * SRAM_64KB + 88 * SRAM_1MB + 48 * SRAM_2KB + 64 * SRAM_32KB + 80 * SRAM_128KB,
        "noc": 10 * (64 + 9 + 1 + 16) * 8.09e-14 * 0.543 + 90 * SRAM_512B,
        "dram": 1024 * 2.03e-11,
        "leakage": seconds * (8 * 1.0e-4 + 8 * bytes_leaking * 1.0e-11 + 8 * 5 * 1024 * 2.0e-11),
    }
    result = account(COUNTS, SPEC, MEMORIES, seconds, tokens=2)
    for name, value in expected.items():
        assert result.parts[name].nominal == pytest.approx(value, rel=1e-9, abs=0), name
    assert result.chip_energy_j.nominal == pytest.approx(sum(expected.values()), rel=1e-9, abs=0)
    assert result.chip_energy_j_per_token.nominal == pytest.approx(sum(expected.values()) / 2, rel=1e-9, abs=0)


def test_parts_scope_and_bounds() -> None:
    result = account(COUNTS, SPEC, MEMORIES, 1e-6, tokens=2)
    assert result.scope == "chip and its DRAM accesses"
    assert all(part.low <= part.nominal <= part.high for part in result.parts.values())
    assert result.to_json() == {
        "scope": result.scope,
        "tokens": 2,
        "energy_j_per_token": result.chip_energy_j_per_token.to_json(),
        "energy_breakdown_j": {name: (part * 0.5).to_json() for name, part in result.parts.items()},
    }
    assert account(COUNTS, SPEC, MEMORIES, 1e-6).tokens == 1


def test_constants_of_the_caller() -> None:
    """Every figure comes from the constants that are passed."""
    doubled = {
        name: replace(each, value=each.value * 2) if each.unit in ("J", "J/bit") else each for name, each in load_constants().items()
    }
    ours = account(COUNTS, SPEC, MEMORIES, 0.0)
    assert account(COUNTS, SPEC, MEMORIES, 0.0, constants=doubled).chip_energy_j.nominal == pytest.approx(2 * ours.chip_energy_j.nominal)
    for reference in (int8_reference, fp16_reference):
        once, twice = (reference(CONFIG, 10, SPEC, constants=constants) for constants in (None, doubled))
        for name, part in once.parts.items():
            assert twice.parts[name].nominal == pytest.approx(part.nominal * (1 if name == "leakage" else 2)), name


def test_invalid_time_and_tokens() -> None:
    with pytest.raises(ValueError, match="seconds"):
        account(COUNTS, SPEC, MEMORIES, -1.0)
    with pytest.raises(ValueError, match="tokens"):
        account(COUNTS, SPEC, MEMORIES, 1.0, tokens=0)
    for reference in RIVALS.values():
        with pytest.raises(ValueError, match="context"):
            reference(CONFIG, 0, SPEC)
    assert int8_reference(CONFIG, 1, SPEC).tokens == 1


def between(size: int, below: int, at_below: float, above: int, at_above: float) -> float:
    """Energy of a bit of an SRAM of `size` bytes, on the power law between two sizes."""
    assert below <= size <= above
    return float(at_below * (at_above / at_below) ** (math.log(size / below) / math.log(above / below)))


@pytest.mark.parametrize(
    ("reference", "bits", "multiply", "accumulate"),
    [(int8_reference, 8, 2.0e-13 * 0.386, ADD), (fp16_reference, 16, 1.1e-12 * 0.386, 0.9e-12 * 0.386)],
)
def test_reference_by_hand(reference: Callable[..., EnergyAccount], bits: int, multiply: float, accumulate: float) -> None:
    """CONFIG: 2 layers of hidden 64, 4 heads and 2 key/value heads of 16, 128 hidden values, vocabulary 288; 10 visible tokens."""
    shapes = [(64, 128), (64, 64), (64, 256), (128, 64)]
    weights, outputs = 2 * sum(inputs * outputs for inputs, outputs in shapes) + 64 * 288, 2 * (128 + 64 + 256 + 64) + 288
    product, pairs, stored = multiply + accumulate + 32 * REGISTER_BIT, 2 * 4 * 10, bits * 2 * 2 * 32
    context = 262144 // (2 * 16 + 1)  # of a key/value memory, beyond the model's 512 positions
    assert context > 512
    scores = pairs * (24 + 24 + bits + 24 + bits) * between(512 * (3 * 2 + bits // 8), 2048, SRAM_2KB, 8192, SRAM_8KB)
    key_value = between(262144 * bits // 8, 262144, SRAM_256KB, 1 << 20, SRAM_1MB)
    gates, norms, rotated, columns = 2 * 128, 5 * 64, 2 * 96, 24 * 256 * 256 // 2 // 64  # 64 weights in a column, two bytes of multiplier
    multiplications = outputs + 3 * gates + 3 * norms + 2 * rotated + 2 * 64
    additions = 3 * outputs + 9 * gates + 5 * norms + 3 * rotated + 2 * 2 * 64 + 2 * (2 * 2 * 64) + 2 * stored // 8
    additions += norms + pairs + 288 + 64 * (5 + 5 + 2 * 4)
    # vector memory, in 32 bits: norm and gains, adds, sends, rope, kv-write, the head's choice; in `bits`: site inputs, queries
    inputs = bits * (2 * (64 + 64 + 64 + 128) + 64)
    read = 32 * (5 * 4 * 64 + 2 * 4 * 64 + 2 * 64 + 2 * (96 + 64) + 2) + inputs + bits * 2 * 64
    written = 32 * (3 * 64 + 2 * 2 * 64 + 2 * 96 + 2 * (128 + 64 + 64) + 2) + inputs
    tables = 16 * rotated * between(2 * 16 * 512, 8192, SRAM_8KB, 32768, SRAM_32KB)
    if bits == 8:
        tables += 16 * outputs * between(2 * columns, 8192, SRAM_8KB, 32768, SRAM_32KB)
    routers, seconds = token_of_links(bits)
    leaking = (
        2 * 65536 + 8 * (262144 * bits // 8) + 8 * 512 * (3 * 2 + bits // 8) + 2 * (2 * 16 * 512) + (5 * 2 * columns if bits == 8 else 0)
    )
    expected = {
        "macs": weights * product,
        "weights": bits * weights * REGISTER_BIT,
        "soma": multiplications * MULTIPLY + additions * ADD + 32 * gates * SRAM_512B,
        "attention": 2 * pairs * 16 * product + pairs * (6 * ADD + 16 * SRAM_512B) + scores + stored * (10 + 1) * key_value,
        "sram": (read + written) * SRAM_64KB + tables,
        "noc": 64 * routers * 8.09e-14 * 0.543,
        "dram": 16 * 64 * 2.03e-11,
        "leakage": seconds * (8 * 1.0e-4 + 8 * leaking * 1.0e-11 + bits * weights * 2.0e-11),
    }
    assert {name: part.nominal for name, part in reference(CONFIG, 10, SPEC).parts.items()} == pytest.approx(expected, rel=1e-9, abs=0)


def token_of_links(bits: int) -> tuple[int, float]:
    """(routers that flits of 64 bits enter, seconds) of a token of CONFIG, every site in one tile."""
    routers = cycles = 0
    for inputs, sent in [*2 * [(64, 32 * 128), (64, 32 * 64), (64, bits * 128), (128, 32 * 64)], (64, 64)]:
        input_flits, sent_flits = math.ceil(inputs * bits / 64), math.ceil(sent / 64)
        routers += input_flits * (1 + 1 + 1) + sent_flits * (1 + 2)
        cycles += input_flits + sent_flits
    routers += 3 * (32 * 64 // 64) * (1 + 4)  # the residual to each layer and to the head
    cycles += 2 * 2 * 16  # a head for each engine, all keys at once
    return routers, cycles / 5.0e8


def test_improved_int8_by_hand() -> None:
    """Memories of the vector tiles in banks of 8 KB with wires over a square of 1.44 um2 a byte; idle tiles gated."""
    plain, improved = int8_reference(CONFIG, 10, SPEC), ARRAYS["int8_improved"].account(CONFIG, 10, SPEC)
    wires = {size: 8.9e-11 * math.sqrt(1.44e-12 * size) for size in (16384, 65536, 262144)}
    inputs = 8 * (2 * (64 + 64 + 64 + 128) + 64)
    words = 5 * 4 * 64 + 2 * 4 * 64 + 2 * 64 + 2 * (96 + 64) + 2 + 3 * 64 + 2 * 2 * 64 + 2 * 96 + 2 * (128 + 64 + 64) + 2
    products = 2 * (64 * 128 + 64 * 64 + 64 * 256 + 128 * 64) + 64 * 288
    saved = {
        "macs": products * (32 - 4) * load_constants()["register_bit"].value.nominal,  # one register for 8 products
        "attention": 8 * 2 * 2 * 32 * 11 * (SRAM_256KB - SRAM_8KB - wires[262144])
        + 2 * 4 * 10 * 24 * between(512 * 7, 2048, SRAM_2KB, 8192, SRAM_8KB),  # scores are not read for their maximum
        "sram": (32 * words + 2 * inputs + 8 * 2 * 64) * (SRAM_64KB - SRAM_8KB - wires[65536])
        + 32 * 5 * 64 * (SRAM_8KB + wires[65536])  # nor are the inputs of norms
        + 16 * 2 * 96 * (between(16384, 8192, SRAM_8KB, 32768, SRAM_32KB) - SRAM_8KB - wires[16384]),
    }
    for name, part in plain.parts.items():
        if name != "leakage":
            assert improved.parts[name].nominal == pytest.approx(part.nominal - saved.get(name, 0), rel=1e-9, abs=0), name
    cycles = 2 * [8 + 64, 8 + 32, 8 + 16, 16 + 32] + [8 + 1]  # link cycles of qkv, output, gate/up, down; head
    weights = 2 * [64 * 128, 64 * 64, 64 * 256, 128 * 64] + [64 * 288]
    total = sum(cycles) + 2 * 2 * 16
    assert total / 5.0e8 == token_of_links(8)[1]
    awake, on = sum(cycles) + 9 * 64, total + 3 * 64  # each of 9 sites in one tile, and of 3 vector tiles, wakes for 64 cycles
    logic = (total + on + awake) / (8 * total)  # host, a vector tile, and the tile of the site that runs, of 8
    bits = sum(weight * (cycle + 64) for weight, cycle in zip(weights, cycles, strict=True)) / (sum(weights) * total)
    vector, columns = 8 * (2 * 65536 + 8 * 262144 + 8 * 512 * 7 + 2 * 16384), 24 * 256 * 256 // 2 // 64
    watts = (
        8 * 1.0e-4 * (logic + 0.045 * (1 - logic))  # with routers
        + vector * 1.0e-11 * (on / (2 * total) * (1 - 0.146) + 0.146)  # one of two vector tiles
        + 8 * 5 * 2 * columns * 1.0e-11 * (awake / (5 * total) * (1 - 0.146) + 0.146)
        + 8 * sum(weights) * 2.0e-11 * (bits + 0.146 * (1 - bits))
    )
    synapse = 8 * (5 * 2 * columns + sum(weights))
    wakes = (3 + 9) * 1.28e-10 + 1.0e-16 * (3 * vector / 2 + 9 * synapse / 5)
    assert improved.parts["leakage"].nominal == pytest.approx(total / 5.0e8 * watts + wakes, rel=1e-9, abs=0)


def test_improved_int8_has_the_banks_of_the_chip() -> None:
    """Beside a chip with one large bank it has banks of 8 KB; the plain arrays have one bank beside any chip."""
    large = SPEC.with_fields({"vector.kv_bank_bytes": 2048, "vector.memory_bank_bytes": 4096})
    explicit = SPEC.with_fields({"vector.kv_bank_bytes": 8192, "vector.memory_bank_bytes": 8192})
    assert ARRAYS["int8_improved"].account(CONFIG, 10, explicit) == ARRAYS["int8_improved"].account(CONFIG, 10, SPEC)
    assert (
        ARRAYS["int8_improved"].account(CONFIG, 10, large).parts["attention"]
        != ARRAYS["int8_improved"].account(CONFIG, 10, SPEC).parts["attention"]
    )
    for reference in (int8_reference, fp16_reference):
        assert reference(CONFIG, 10, large) == reference(CONFIG, 10, SPEC)


@pytest.mark.parametrize(("reference", "bits"), [(int8_reference, 8), (fp16_reference, 16)])
def test_weights_in_an_sram(reference: Callable[..., EnergyAccount], bits: int) -> None:
    """Only where the weights lie changes: each is read from one of as many memories of 8 KB as hold them."""
    weights = 2 * (64 * 128 + 64 * 64 + 64 * 256 + 128 * 64) + 64 * 288
    seconds = token_seconds(CONFIG, 10, SPEC, bits)
    registers, sram = reference(CONFIG, 10, SPEC), reference(CONFIG, 10, SPEC, weights_in_sram=True)
    assert (registers.scope, sram.scope) == (SCOPE, SCOPE_SRAM)
    assert sram.parts["weights"].nominal == pytest.approx(bits * weights * SRAM_8KB, rel=1e-9)
    memories = math.ceil(bits * weights / 8 / 8192)
    leaking = seconds * 8 * 8192 * memories * 1.0e-11 - seconds * bits * weights * 2.0e-11
    assert sram.parts["leakage"].nominal - registers.parts["leakage"].nominal == pytest.approx(leaking, rel=1e-6)
    assert all(registers.parts[name] == sram.parts[name] for name in registers.parts if name not in ("weights", "leakage"))


def test_references_have_the_blocks_of_the_network() -> None:
    """A second layer without attention: half of its work, and the whole of the feed-forward's."""
    stack = (Attention(0, 4, 2, 16), FeedForward(0, 128), FeedForward(1, 128))
    config = replace(CONFIG, stack=stack)
    one, both = int8_reference(config, 10, SPEC), int8_reference(CONFIG, 10, SPEC)
    assert 2 * one.parts["attention"].nominal == pytest.approx(both.parts["attention"].nominal, rel=1e-12, abs=0)
    assert both.parts["weights"].nominal - one.parts["weights"].nominal == pytest.approx(8 * (64 * 128 + 64 * 64) * REGISTER_BIT)
    links = (64 + 64) * 8 // 64 + (128 + 64) * 32 // 64  # inputs and results of qkv and output
    assert token_seconds(CONFIG, 10, SPEC, 8) - token_seconds(config, 10, SPEC, 8) == pytest.approx((links + 2 * 16) / 5.0e8)


def test_references_are_ordered() -> None:
    spec = ChipSpec("nc1")
    int8, fp16 = int8_reference(SMOLLM2_135M, 256, spec), fp16_reference(SMOLLM2_135M, 256, spec)
    int8_sram = int8_reference(SMOLLM2_135M, 256, spec, weights_in_sram=True)
    assert int8.chip_energy_j.nominal < int8_sram.chip_energy_j.nominal
    assert int8.chip_energy_j.nominal < fp16.chip_energy_j.nominal
    # What keeps the weights leaks: latches more than an SRAM.
    assert int8.parts["leakage"].nominal > int8_sram.parts["leakage"].nominal


def test_seconds_of_a_token_by_hand() -> None:
    """SmolLM2-135M on nc1: flits of its own size over a link, and attention on the chip's lanes."""
    spec, config, bits = ChipSpec("nc1"), SMOLLM2_135M, 8
    cycles = 0
    for _ in range(config.layers):
        for inputs, sent in ((576, 32 * 960), (576, 32 * 576), (576, bits * 1536), (1536, 32 * 576)):
            cycles += math.ceil(inputs * bits / spec.noc.flit_bits) + math.ceil(sent / spec.noc.flit_bits)
        cycles += math.ceil(9 / spec.vector.attention_engines) * 2 * 64 * math.ceil(300 / spec.vector.key_lanes)
    cycles += math.ceil(576 * bits / spec.noc.flit_bits) + math.ceil(64 / spec.noc.flit_bits)
    assert token_seconds(config, 300, spec, bits) == cycles / spec.clock_hz


def test_gpu_records_are_labelled() -> None:
    records = records_for("SmolLM2-135M-Instruct")
    assert len(records) == 4
    assert all(record.to_json()["kind"] == "recorded" and record.recorded == "November 2026" for record in records)
    assert records_for("HuggingFaceTB/SmolLM2-135M") == records_for("a/b/smollm2-135m") == records
    assert [record.model for record in records_for("llama shape")] == [f"Llama shape, {size}, random weights" for size in ("1.3B", "13B")]
    assert records_for("random-tiny") == ()


@pytest.mark.parametrize("cell", ["pcm", "rram", "sonos"])
def test_cells_cost_what_their_device_takes(cell: str) -> None:
    counters, constants = Counters(cell_reads=1000, row_drives=7), load_constants()
    ours, generic = (account(counters, spec, {}, 0.0).parts["cells"] for spec in (SPEC.with_fields({"synapse.cell": cell}), SPEC))
    for bound in ("low", "nominal", "high"):
        read = (getattr(constants[name].value, bound) for name in (f"cell_read_{cell}", "cell_read"))
        saved = 1000 * (next(read) - next(read))
        assert getattr(ours, bound) - getattr(generic, bound) == pytest.approx(saved, rel=1e-9)
