"""Crossbars with bit-serial INT8 inputs: every part recounted by hand."""

from __future__ import annotations

import math

import pytest

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy import load_constants
from neuromorphic_llm.energy.bit_serial import bit_serial_reference
from neuromorphic_llm.energy.digital import ARRAYS
from neuromorphic_llm.reference.config import DecoderConfig

MESH = {"mesh.width": 4, "mesh.height": 2, "mesh.vector_period": 4, "mesh.vector_offset": 2}
CROSSBARS = {"synapse.crossbars": 384, "synapse.rows": 64, "synapse.columns": 64, "readout.active_rows": 8}
EXACT = ChipSpec("small").with_fields({**MESH, **CROSSBARS})
MEMBRANE = EXACT.with_fields({"readout.kind": "membrane", "readout.converter_bits": 9, "readout.read_latency": 5})
CONFIG = DecoderConfig(288, 64, 128, 2, 4, 2, 16, 512, 1e-5, 1e4)
SITES = [*2 * [(64, 128), (64, 64), (64, 256), (128, 64)], (64, 288)]  # inputs, outputs
# 22 nm, nominal
ADD, REGISTER_BIT, CELL, ROW = 1.0e-13 * 0.386, 1.0e-15 * 0.386, 3.0e-14, 4.17e-13 * 0.543
SRAM_512B = 6.655e-14 * 0.386
NINE_BITS = 0.342 * math.sqrt(0.85e-12 * 1.64e-12) * (500 / (113.4 * 3.07)) ** 0.661 + 1.0e-14  # by decrement
EIGHT_BITS = 0.85e-12 + 1.0e-14  # 500 MS/s are below the corner; 2 * 8 rows * 15 levels


@pytest.mark.parametrize("spec", [EXACT, MEMBRANE], ids=["exact", "membrane"])
def test_recount_by_hand(spec: ChipSpec) -> None:
    """A quarter of the bits, 16 of the 64 rows of a block in each of 7 phases, in two reads of 8 rows."""
    membrane = spec is MEMBRANE
    cells = converters = accumulators = axon = 0.0
    cycles = []
    for inputs, outputs in SITES:
        blocks = inputs // 64
        driven = 7 * 16 * blocks
        cells += driven * (2 * outputs * CELL + 2 * math.ceil(outputs / 64) * ROW)
        conversions = outputs * blocks * (1 if membrane else 7 * 2 * 2)
        converters += conversions * (NINE_BITS if membrane else EIGHT_BITS)
        converters += 2 * outputs * blocks * (14 * 1.0e-13 + 6 * 3.0e-15) if membrane else 0
        accumulators += conversions * (ADD + 2 * 32 * REGISTER_BIT) + outputs * 32 * REGISTER_BIT
        axon += 2 * 8 * inputs * SRAM_512B
        gated = outputs == 256
        streamed = inputs * 8 // 64 + (1 if outputs == 288 else outputs // 2 * 8 // 64 if gated else outputs * 32 // 64)
        cycles.append(streamed + (5 * 14 + 7 + 8 * 4 if membrane else 7 * (2 + 8 * 2)))
    found, array = bit_serial_reference(CONFIG, 10, spec).parts, ARRAYS["int8_improved"].account(CONFIG, 10, spec).parts
    expected = {
        "cells": cells,
        "converters": converters,
        "accumulators": accumulators,
        **{name: array[name].nominal for name in ("soma", "attention", "noc", "dram")},
        "sram": array["sram"].nominal + axon,
        "leakage": leakage(cycles),
    }
    assert {name: part.nominal for name, part in found.items()} == pytest.approx(expected, rel=1e-9, abs=0)


def leakage(cycles: list[int]) -> float:
    """Leakage in J: host and one of two vector tiles always work, and of 5 synapse tiles that of the site; no bit keeps a weight."""
    total = sum(cycles) + 2 * 2 * 16
    awake, on = sum(cycles) + 9 * 64, total + 3 * 64  # 9 sites in one tile each and 3 stages; a tile wakes for 64 cycles
    logic, synapse = (total + on + awake) / (8 * total), awake / (5 * total)
    columns = 384 * 64 * 64 // 2 // 64
    vector = 2 * 65536 + 8 * 262144 + 8 * 512 * 7 + 2 * 16384
    in_synapse_tiles = 8 * 5 * ((2 * columns + 128) * 1.0e-11 + 4 * columns * 2.0e-11)
    retained = on / (2 * total) + 0.146 * (1 - on / (2 * total))
    watts = 8 * 1.0e-4 * (logic + 0.045 * (1 - logic)) + 8 * vector * 1.0e-11 * retained
    wakes = (3 + 9) * 1.28e-10 + 1.0e-16 * 8 * (3 * vector / 2 + 9 * (2 * columns + 128 + 4 * columns))
    return total / 5.0e8 * (watts + in_synapse_tiles * (synapse + 0.146 * (1 - synapse))) + wakes


@pytest.mark.parametrize("spec", [EXACT, MEMBRANE], ids=["exact", "membrane"])
def test_bounds_are_those_of_the_bits_too(spec: ChipSpec) -> None:
    """Low: 13 of 64 rows, high: half of them."""
    cells, constants = bit_serial_reference(CONFIG, 10, spec).parts["cells"], load_constants()
    pairs = sum(7 * inputs // 64 * 2 * outputs for inputs, outputs in SITES)
    rows = sum(7 * inputs // 64 * 2 * math.ceil(outputs / 64) for inputs, outputs in SITES)
    assert cells.low == pytest.approx(13 * (pairs * constants["cell_read"].value.low + rows * constants["row_drive"].value.low))
    assert cells.high == pytest.approx(32 * (pairs * constants["cell_read"].value.high + rows * constants["row_drive"].value.high))


def test_blocks_that_are_not_full() -> None:
    """64 inputs in blocks of 48 rows and 16: 12 and 4 rows driven."""
    spec = EXACT.with_fields({"synapse.rows": 48})
    per_head = bit_serial_reference(CONFIG, 10, spec).parts["cells"].nominal
    rows = {64: 12 + 4, 128: 12 + 12 + 8}
    expected = sum(7 * rows[inputs] * 2 * (outputs * CELL + math.ceil(outputs / 64) * ROW) for inputs, outputs in SITES)
    assert per_head == pytest.approx(expected, rel=1e-9, abs=0)


def test_squares_of_the_inputs_are_charged() -> None:
    spec = MEMBRANE.with_fields({"readout.kind": "membrane-energy"})
    more = (
        bit_serial_reference(CONFIG, 10, spec).parts["converters"].nominal
        - bit_serial_reference(CONFIG, 10, MEMBRANE).parts["converters"].nominal
    )
    assert more == pytest.approx(sum(inputs for inputs, _ in SITES) * (3.1e-12 * 0.386 + ADD), rel=1e-9)
