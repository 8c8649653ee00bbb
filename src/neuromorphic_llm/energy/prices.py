"""Prices of operations on one chip, and the names that actions may use for them (docs/reference/energy.md, Actions)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.constants import Constant, Range, converter_energy, sram_bit
from neuromorphic_llm.energy.leakage import gating_prices, leakage_power
from neuromorphic_llm.energy.memories import TABLE_BYTES, Memory
from neuromorphic_llm.simulation.counters import MEMORY_COUNTERS

NODE_NM = 22
"""Process node that all accounts share."""

RESOLVED: Mapping[str, str] = MappingProxyType(
    {
        "device_read": "read of a cell: `cell_read`, or that of the chip's `synapse.cell`",
        "conversion": "conversion of `converter_bits` in `conversion_cycles` (Converters), the mean over the slices",
        "table.bit": "bit of the table of powers of two or of the sigmoid (Memories)",
        "leakage": "leakage in a second: `tile_logic_leakage` of every tile and the further logic of vector tiles, `sram_leakage_bit` or "
        "`register_leakage_bit` of every bit; less where tiles are gated (Power gating)",
        "vector_tile_on": "leakage of a vector tile in a cycle, less what it leaks while it is off (Power gating)",
        "synapse_tile_on": "leakage of a synapse tile in a cycle, less what it leaks while it is off",
        "router_on": "leakage of a router in a cycle, less what it leaks while it is off",
        "vector_tile_wake": "`logic_wake` and `bit_wake` for every bit of a vector tile's memories",
        "synapse_tile_wake": "`logic_wake` and `bit_wake` for every bit of a synapse tile's memories",
        "router_wake": "`router_logic_share` of `logic_wake`",
        "multiply": "product of the number format",
        "accumulate": "addition of a product to its sum",
    }
)
"""Operation whose energy follows from the chip or the number format -> its meaning."""

QUANTITIES: Mapping[str, str] = MappingProxyType(
    {
        "packet_bits": "bits of a flit, payload and header: `flit_bits + header_bits`",
        "flit_bits": "bits of the payload of a flit",
        "weight_bits": "width of a weight",
        "sum_bits": "bits of a sum's register per product: 32, of the improved array 32 for all products of a flit",
    }
)
"""Number of operations that follows from the chip or the number format -> its meaning."""


def constant_prices(constants: Mapping[str, Constant]) -> dict[str, Range]:
    """Energy in J of the operations that are constants of the accounts' node."""
    return {c.name: c.value for c in constants.values() if c.unit in ("J", "J/bit") and c.node_nm == NODE_NM}


def operation_names(constants: Mapping[str, Constant]) -> set[str]:
    """Names of all operations that an action may have."""
    memories = (*MEMORY_COUNTERS, "weights")
    return {*constant_prices(constants), *RESOLVED, *(f"{memory}.bit" for memory in memories)}


def chip_prices(
    spec: ChipSpec,
    memories: Mapping[str, Memory],
    constants: Mapping[str, Constant],
    working: Mapping[str, float] | None = None,
    further: Range | None = None,
) -> dict[str, Range]:
    """Energy in J of an operation on a chip with `memories`; of those of a number format the caller knows the prices.

    working: shares of the time in which its parts work if they are gated; further: leakage of other logic of a vector tile than the chip's
    (leakage.leakage_power).
    """
    return {
        **constant_prices(constants),
        **{f"{name}.bit": memory.bit(constants) for name, memory in memories.items()},
        "device_read": constants["cell_read" if spec.synapse.cell == "generic" else f"cell_read_{spec.synapse.cell}"].value,
        "conversion": _conversion(spec, constants),
        "table.bit": sram_bit(constants, TABLE_BYTES),
        "leakage": leakage_power(spec, memories, constants, working, further),
        **gating_prices(spec, memories, constants),
    }


def _conversion(spec: ChipSpec, constants: Mapping[str, Constant]) -> Range:
    """Energy of a conversion in J."""
    circuit, rate_hz = spec.readout_circuit, spec.clock_hz / spec.readout.conversion_cycles
    widths = circuit.converter_widths
    if len(set(widths)) == 1:
        widths = widths[:1]
    converter = Range.total([converter_energy(constants, bits, rate_hz) for bits in widths]) * (1 / len(widths))
    return converter.scaled(constants["decrement_share"].value) if circuit.by_decrement else converter


def chip_quantities(spec: ChipSpec) -> dict[str, int]:
    """Quantities that follow from the chip."""
    return {"packet_bits": spec.noc.flit_bits + spec.header_bits, "flit_bits": spec.noc.flit_bits}
