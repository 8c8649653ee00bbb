"""Cells: weights as levels of slices and back, and as the words that the RTL is loaded with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.devices.cells import Cell, words
from neuromorphic_llm.rtl.synapse import WEIGHTS, Epilogue, RegionLoad, synapse_writes

CELLS = [Cell(4, 2), Cell(3, 3), Cell(7, 1), Cell(1, 7), Cell(8, 2), Cell(16, 16)]
EVERY_WEIGHT = np.arange(-127, 128, dtype=np.int8)


@pytest.mark.parametrize("cell", CELLS)
def test_levels_are_bits_of_the_magnitude_with_the_weights_sign(cell: Cell) -> None:
    levels = cell.levels(EVERY_WEIGHT)
    assert levels.shape == (cell.slices, 255)
    assert levels.dtype == np.int8
    for s in range(cell.slices):
        for weight, level in zip(EVERY_WEIGHT.tolist(), levels[s].tolist(), strict=True):
            bits = abs(weight) // 2 ** (cell.bits * s) % 2**cell.bits
            assert level == (bits if weight > 0 else -bits)


@pytest.mark.parametrize("cell", CELLS)
def test_levels_hold_every_weight(cell: Cell) -> None:
    np.testing.assert_array_equal(cell.weights(cell.levels(EVERY_WEIGHT.reshape(5, 51))), EVERY_WEIGHT.reshape(5, 51))
    assert cell.largest_weight == 127
    assert np.abs(cell.levels(EVERY_WEIGHT)).max() <= cell.largest_level


def test_tensors_have_the_same_levels() -> None:
    found = Cell(3, 3).levels(torch.from_numpy(EVERY_WEIGHT), torch)
    assert found.dtype == torch.int8
    np.testing.assert_array_equal(found.numpy(), Cell(3, 3).levels(EVERY_WEIGHT))
    assert Cell() == Cell(bits=4, slices=2)


def test_a_cell_that_is_too_small_refuses_a_weight() -> None:
    cell = Cell(bits=2, slices=2)
    assert cell.largest_weight == 15
    assert cell.largest_level == 3
    assert cell.levels(np.array([15, -15])).tolist() == [[3, -3], [3, -3]]
    for weight in (16, -16, -128):
        with pytest.raises(ValueError, match=f"magnitude {abs(weight)} exceeds 2 slices of 2 bits"):
            cell.levels(np.array([0, weight], np.int8))


@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 5), st.integers(1, 19)), elements=st.integers(-127, 127)), st.integers(0, 9))
def test_words_are_the_bytes_of_eight_weights(weights: np.ndarray, more: int) -> None:
    rows, columns = weights.shape
    found = words(weights, columns + more)
    assert found.shape == (rows, -(-(columns + more) // 8))
    for row in range(rows):
        data = b"".join(int(word).to_bytes(8, "little") for word in found[row])
        assert data == weights[row].tobytes() + bytes(8 * found.shape[1] - columns)


@pytest.mark.parametrize("epilogue", [Epilogue.VALUES, Epilogue.GATE])
def test_a_tiles_memory_holds_the_weights_levels(epilogue: Epilogue) -> None:
    """The writes of a region, taken apart as the tile does, are its weights at their rows and columns."""
    spec = load_spec("nano").with_fields({"synapse.crossbars": 12, "synapse.rows": 21, "synapse.columns": 15})
    weight = np.random.default_rng(0).integers(-127, 128, (50, 26), dtype=np.int8)
    writes = synapse_writes(spec, RegionLoad(weight, np.ones(26, np.int64), None, 0, 1, epilogue, route=0))
    held = np.zeros((6, spec.synapse.rows, 16), np.int8)
    for unit, address, data in writes.tolist():
        if unit == WEIGHTS:
            word, row, group = address & 1, address >> 1 & 31, address >> 6
            held[group, row, 8 * word : 8 * word + 8] = np.frombuffer(data.to_bytes(8, "little"), np.int8)
    block = 14 if epilogue == Epilogue.GATE else 15
    for group in range(6):
        column_block, row_block = divmod(group, 3)
        part = weight[21 * row_block : 21 * row_block + 21, block * column_block : block * column_block + block]
        expected = np.zeros((21, 16), np.int8)
        expected[: part.shape[0], : part.shape[1]] = part
        np.testing.assert_array_equal(held[group], expected)
