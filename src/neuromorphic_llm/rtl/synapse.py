"""Configuration of a synapse tile: the writes that load a region into nmllm_synapse_tile (its register map stands in the module)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.devices.cells import words
from neuromorphic_llm.devices.membrane import Membrane

REGISTERS, PARAMETERS, WEIGHTS, RANGES = 1, 2, 3, 4
"""cfg_unit of registers, of multipliers and biases, of weights, and of ranges."""

GROUP_REGISTERS = 256
"""Address of the register of the first group of macros."""


class Epilogue(IntEnum):
    """Operation of the output stage on the scaled columns."""

    VALUES = 0
    GATE = 1
    ARGMAX = 2


@dataclass(frozen=True)
class RegionLoad:
    """Content of a tile: columns in the order of the tile, in a gate/up site gate and up of each output in turn."""

    weight: NDArray[np.integer]  # [inputs, columns], -127 .. 127
    multiplier: NDArray[np.integer]  # [columns], below 2^16
    bias: NDArray[np.integer] | None  # [columns], int32
    output_shift: int  # S
    horner_shift: int
    epilogue: Epilogue
    route: int
    first_output: int = 0
    first_token: int = 0
    region: int = 0
    gate_fraction: int = 12
    hidden_fraction: int = 0
    ranges: NDArray[np.integer] | None = None  # [joined blocks, columns], of a tile with membranes
    least_range: int = 0  # of the site
    last_slot: int = 0  # of a stamped train
    octaves: int = 0  # from its first phase to its last one, beside which its ranges stand

    @property
    def inputs(self) -> int:
        """Inputs of the site."""
        return int(self.weight.shape[0])

    @property
    def columns(self) -> int:
        """Columns of the region."""
        return int(self.weight.shape[1])


def interleave(gate_up: NDArray[np.integer]) -> NDArray[np.integer]:
    """Rows of gate and up in turn, from those of gate stacked on those of up; [2 * outputs, ..]."""
    gate, up = np.split(gate_up, 2)
    return np.stack([gate, up], axis=1).reshape(gate_up.shape)


def synapse_writes(spec: ChipSpec, load: RegionLoad) -> NDArray[np.uint64]:
    """Writes [writes, 3] of cfg_unit, cfg_address, cfg_data. ValueError if the region does not fit a tile."""
    per_output = 2 if load.epilogue == Epilogue.GATE else 1
    row_blocks, block = spec.synapse.row_blocks(load.inputs), spec.synapse.usable_columns(per_output)
    column_blocks = spec.synapse.column_blocks(load.columns, per_output)
    groups, joined = spec.synapse.crossbars // spec.synapse.slices, _joined(spec)
    if row_blocks * column_blocks > groups:
        raise ValueError(
            f"a region of {load.inputs} x {load.columns} needs {row_blocks * column_blocks} groups of macros, a tile has {groups}"
        )
    registers = [
        load.inputs,
        load.columns,
        load.horner_shift,
        load.epilogue,
        load.output_shift & 0xFF,
        load.gate_fraction,
        load.hidden_fraction,
        load.route,
        load.first_output,
        load.first_token,
        load.region,
        int(load.bias is not None),
        row_blocks,
        (load.least_range + load.octaves) & 0xFF,
        load.last_slot,
    ]
    writes = [(REGISTERS, address, value) for address, value in enumerate(registers)]
    for group in range(groups):
        column_block, row_block = divmod(group, row_blocks)
        columns = max(min(load.columns - column_block * block, block), 0)
        last = row_block == row_blocks - 1
        converts = last or row_block % joined == joined - 1
        flags = converts << 27 | (row_block % joined > 0) << 26 | last << 25 | (row_block == 0) << 24
        writes.append((REGISTERS, GROUP_REGISTERS + group, flags | row_block << 16 | columns))
    bias = np.zeros(load.columns, np.int64) if load.bias is None else load.bias.astype(np.int64)
    parameters = (bias & 0xFFFFFFFF) << 16 | load.multiplier.astype(np.int64)
    writes += [(PARAMETERS, column, int(value)) for column, value in enumerate(parameters)]
    parts = [np.array(writes, np.uint64), _weight_writes(spec, load, row_blocks, block)]
    if load.ranges is not None:
        parts.append(_range_writes(spec, load.ranges - load.least_range, row_blocks, block))
    return np.concatenate(parts)


def _joined(spec: ChipSpec) -> int:
    """Row blocks whose membranes meet before a conversion."""
    circuit = spec.readout_circuit
    return circuit.joined if isinstance(circuit, Membrane) else 1


def _weight_writes(spec: ChipSpec, load: RegionLoad, row_blocks: int, block: int) -> NDArray[np.uint64]:
    """Writes of the weights, eight of a row each."""
    parts = []
    for first in range(0, load.columns, block):
        data = words(load.weight[:, first : first + block], spec.synapse.columns)
        word_bits, row_bits = max((data.shape[1] - 1).bit_length(), 1), max((spec.synapse.rows - 1).bit_length(), 1)
        inputs, word = np.divmod(np.arange(data.size), data.shape[1])
        group = first // block * row_blocks + inputs // spec.synapse.rows
        address = (group << row_bits | inputs % spec.synapse.rows) << word_bits | word
        parts.append(np.stack([np.full(data.size, WEIGHTS), address, data.reshape(-1)], axis=1, dtype=np.uint64, casting="unsafe"))
    return np.concatenate(parts)


def _range_writes(spec: ChipSpec, ranges: NDArray[np.integer], row_blocks: int, block: int) -> NDArray[np.uint64]:
    """Writes of the ranges [joined blocks, columns] beside the least one, eight each, into the groups that convert."""
    joined, parts = _joined(spec), []
    for number, first in enumerate(range(0, ranges.shape[1], block)):
        data = words(ranges[:, first : first + block], spec.synapse.columns)
        word_bits = max((data.shape[1] - 1).bit_length(), 1)
        joined_block, word = np.divmod(np.arange(data.size), data.shape[1])
        row_block = np.minimum(joined * (joined_block + 1), row_blocks) - 1
        address = (number * row_blocks + row_block) << word_bits | word
        parts.append(np.stack([np.full(data.size, RANGES), address, data.reshape(-1)], axis=1, dtype=np.uint64, casting="unsafe"))
    return np.concatenate(parts)
