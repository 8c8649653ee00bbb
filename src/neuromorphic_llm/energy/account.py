"""Energy account: counts times constants, split by part (docs/reference/energy.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.constants import Constant, Range, converter_energy, load_constants, sram_bit
from neuromorphic_llm.energy.memories import TABLE_BYTES, Memory, access_energy, leakage_power
from neuromorphic_llm.simulation.counters import SRAM, Counters

PARTS = ("cells", "converters", "accumulators", "soma", "attention", "sram", "noc", "dram", "leakage")
SCOPE = "chip and its DRAM accesses"
ROOT_ADDITIONS = 64
"""Additions of 32 bits in a square root or a division: 32 steps of 64 bits."""


@dataclass(frozen=True)
class EnergyAccount:
    """Energy in J by part, for `tokens` tokens."""

    parts: Mapping[str, Range]
    tokens: int
    scope: str

    @property
    def chip_energy_j(self) -> Range:
        """Sum of all parts, J; its scope is `scope`."""
        return Range.total(list(self.parts.values()))

    @property
    def chip_energy_j_per_token(self) -> Range:
        """Mean over the tokens of the account, J."""
        return self.chip_energy_j * (1 / self.tokens)

    def to_json(self) -> dict[str, Any]:
        """Scope, tokens, total and breakdown per token, J."""
        return {
            "scope": self.scope,
            "tokens": self.tokens,
            "energy_j_per_token": self.chip_energy_j_per_token.to_json(),
            "energy_breakdown_j": {name: (part * (1 / self.tokens)).to_json() for name, part in self.parts.items()},
        }


def soma_energy(c: Counters, constants: Mapping[str, Constant]) -> Range:
    """Vector units and output stages: multiplications, additions (shifts, comparisons and saturations too), the sigmoid table."""
    multiplications = c.output_values + 3 * c.gate_operations + 3 * c.norm_elements + 2 * c.rope_elements + c.attention_values
    additions = (
        3 * c.output_values
        + 9 * c.gate_operations
        + 5 * c.norm_elements
        + 5 * c.encode_elements
        + 2 * c.add_elements
        + 3 * c.rope_elements
        + 2 * c.attention_values
        + c.kv_bits_written // 4  # shift and saturation of each byte stored
        + c.maximum_elements
        + ROOT_ADDITIONS * (c.square_roots + c.divisions)
    )
    sigmoid = sram_bit(constants, TABLE_BYTES) * (32 * c.gate_operations)  # two entries
    return constants["int32_multiply"].value * multiplications + constants["int32_add"].value * additions + sigmoid


def softmax_energy(c: Counters, constants: Mapping[str, Constant]) -> Range:
    """Additions of the softmax and one entry of the table of powers of two an element."""
    return constants["int32_add"].value * (6 * c.softmax_elements) + sram_bit(constants, TABLE_BYTES) * (16 * c.softmax_elements)


def account(
    counters: Counters,
    spec: ChipSpec,
    memories: Mapping[str, Memory],
    seconds: float,
    *,
    tokens: int = 1,
    constants: Mapping[str, Constant] | None = None,
) -> EnergyAccount:
    """Energy of the counted operations on a chip with `memories` (chip_memories) that was powered for `seconds`.

    counters: what happened (prefill or decode); tokens: how many tokens that was, for the figures per token.
    Raises ValueError for a negative time or fewer than one token.
    """
    if seconds < 0 or tokens < 1:
        raise ValueError(f"an account needs seconds >= 0 and tokens >= 1, got {seconds} and {tokens}")
    constants = load_constants() if constants is None else constants

    def energy(name: str, count: int) -> Range:
        return constants[name].value * count

    def accesses(*names: str) -> Range:
        return access_energy(counters, memories, names, constants)

    c = counters
    sums = c.score_operations + c.value_operations
    attention = [
        energy("int32_add", 2 * sums + 3 * c.probability_spikes),
        energy("register_bit", 32 * sums),
        softmax_energy(c, constants),
        accesses("key_value", "attention_scores"),
    ]
    parts = {
        "cells": energy("cell_read", c.cell_reads) + energy("row_drive", c.row_drives),
        "converters": converter_energy(constants, spec.converter_bits, spec.clock_hz) * c.conversions
        + energy("sample_hold", c.conversions),
        "accumulators": energy("int32_add", c.accumulations) + accesses("accumulators"),
        "soma": soma_energy(c, constants),
        "attention": Range.total(attention),
        "sram": accesses(*SRAM),
        "noc": energy("router_bit", (spec.flit_bits + spec.header_bits) * (c.flits + c.flit_hops)) + accesses("routing_tables"),
        "dram": energy("dram_bit", c.dram_bits_read),
        "leakage": leakage_power(spec, memories, constants) * seconds,
    }
    return EnergyAccount(parts, tokens, SCOPE)
