"""Energy account: counts times constants, split by part (docs/reference/energy.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.constants import Constant, Range, converter_energy, load_constants

PARTS = ("cells", "converters", "accumulators", "soma", "attention", "sram", "noc", "dram", "leakage")
SCOPE = "chip and its DRAM accesses"


class Counts(Protocol):
    """The counters that an account needs (simulate/counters.py, docs/reference/timing.md)."""

    @property
    def cell_reads(self) -> int: ...
    @property
    def conversions(self) -> int: ...
    @property
    def accumulations(self) -> int: ...
    @property
    def output_values(self) -> int: ...
    @property
    def gate_operations(self) -> int: ...
    @property
    def norm_elements(self) -> int: ...
    @property
    def encode_elements(self) -> int: ...
    @property
    def add_elements(self) -> int: ...
    @property
    def rope_elements(self) -> int: ...
    @property
    def score_operations(self) -> int: ...
    @property
    def softmax_elements(self) -> int: ...
    @property
    def value_operations(self) -> int: ...
    @property
    def kv_bits_read(self) -> int: ...
    @property
    def kv_bits_written(self) -> int: ...
    @property
    def sram_bits_read(self) -> int: ...
    @property
    def sram_bits_written(self) -> int: ...
    @property
    def flit_hops(self) -> int: ...
    @property
    def dram_bits_read(self) -> int: ...


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


def tile_leakage(spec: ChipSpec, constants: Mapping[str, Constant]) -> Range:
    """Leakage power of the whole chip in W: logic of every tile, and the SRAM of the vector tiles."""
    vector_bits = 8 * (spec.vector_memory_bytes + spec.attention_engines * spec.kv_bytes_per_engine)
    sram_bits = len(spec.vector_tiles()) * vector_bits
    return constants["tile_logic_leakage"].value * spec.tiles + constants["sram_leakage_bit"].value * sram_bits


def account(
    counters: Counts, spec: ChipSpec, seconds: float, *, tokens: int = 1, constants: Mapping[str, Constant] | None = None
) -> EnergyAccount:
    """Energy of the counted operations on a chip that was powered for `seconds`.

    counters: what happened (prefill or decode); tokens: how many tokens that was, for the figures per token.
    Raises ValueError for a negative time or fewer than one token.
    """
    if seconds < 0 or tokens < 1:
        raise ValueError(f"an account needs seconds >= 0 and tokens >= 1, got {seconds} and {tokens}")
    constants = load_constants() if constants is None else constants

    def energy(name: str, count: float) -> Range:
        return constants[name].value * count

    c = counters
    # a row driver serves the columns of one macro
    cells = energy("cell_read", c.cell_reads) + energy("row_drive", c.cell_reads / spec.columns)
    accumulators = energy("int32_add", c.accumulations) + energy("register_bit", spec.accumulator_bits * c.accumulations)
    multiplications = c.output_values + 3 * c.gate_operations + 3 * c.norm_elements + 2 * c.rope_elements
    additions = 2 * c.output_values + 2 * c.gate_operations + c.norm_elements + 2 * c.encode_elements + c.add_elements + c.rope_elements
    attention = [
        energy("int32_add", c.score_operations + c.value_operations + 6 * c.softmax_elements),
        energy("sram_8kb_bit", 16 * c.softmax_elements),  # one entry of the table of powers of two
        energy("sram_256kb_bit", c.kv_bits_read + c.kv_bits_written),
    ]
    parts = {
        "cells": cells,
        "converters": converter_energy(constants, spec.converter_bits) * c.conversions,
        "accumulators": accumulators,
        "soma": energy("int32_multiply", multiplications) + energy("int32_add", additions),
        "attention": Range.total(attention),
        "sram": energy("sram_32kb_bit", c.sram_bits_read + c.sram_bits_written),
        "noc": energy("router_bit", spec.flit_bits * c.flit_hops),
        "dram": energy("dram_bit", c.dram_bits_read),
        "leakage": tile_leakage(spec, constants) * seconds,
    }
    return EnergyAccount(parts, tokens, SCOPE)
