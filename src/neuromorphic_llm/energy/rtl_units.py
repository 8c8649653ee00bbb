"""Units of the RTL in the counters of the account, and its charge for their operations (docs/reference/energy.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.actions import load_groups
from neuromorphic_llm.energy.constants import Constant, Range
from neuromorphic_llm.energy.memories import Memory
from neuromorphic_llm.energy.prices import chip_prices, chip_quantities

_REGISTERS: Mapping[str, Memory] = {"accumulators": Memory(1, 1, registers=True)}
"""Memories that are synthesised with their unit; the bits of registers cost the same whatever their number."""


@dataclass(frozen=True)
class RtlUnit:
    """Counts of the account's counters for each operation of a unit, priced by the actions of `group`.

    The first operation is the one that energies are divided by. Its number in a run is the sum of the counters of `in_a_run` times their
    factors; without any it is part of another unit's operation. Chips have the unit whose fields have one of the values of `chips`.
    """

    group: str
    operations: Mapping[str, Mapping[str, int]]
    in_a_run: Mapping[str, float] = field(default_factory=dict)
    chips: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def per(self) -> str:
        """Operation that energies are divided by."""
        return next(iter(self.operations))

    def runs_on(self, spec: ChipSpec) -> bool:
        """True if a chip has this unit."""
        return all(spec.value(path) in values for path, values in self.chips.items())

    def energy(self, operations: Mapping[str, int], spec: ChipSpec, constants: Mapping[str, Constant]) -> Range:
        """Energy by the account of one operation `per`, J, where `operations` of the unit's were counted."""
        counts: dict[str, float] = {}
        for operation, counters in self.operations.items():
            for counter, number in counters.items():
                counts[counter] = counts.get(counter, 0) + number * operations[operation]
        total = load_groups()[self.group].energy(counts, chip_prices(spec, _REGISTERS, constants), chip_quantities(spec))
        return total * (1 / operations[self.per])


_EXACT: Mapping[str, tuple[str, ...]] = {"readout.kind": ("exact", "reread")}
_MEMBRANES: Mapping[str, tuple[str, ...]] = {"readout.kind": ("membrane", "membrane-energy")}
_PHASE, _ELEMENT = ({"vector.encoder": (name,)} for name in ("phase", "element"))

_ACCUMULATION: Mapping[str, Mapping[str, int]] = {
    "accumulations": {"accumulations": 1, "accumulator_bits_read": 32, "accumulator_bits_written": 32}
}

_ACCUMULATOR_READ: Mapping[str, Mapping[str, int]] = {"values": {"accumulator_bits_read": 32}}

_ENCODING: Mapping[str, Mapping[str, int]] = {"encode_elements": {"encode_elements": 1}, "maximum_elements": {"maximum_elements": 1}}

RTL_UNITS: Mapping[str, RtlUnit] = {
    "router": RtlUnit("routers", {"flits": {"flits": 1}}, {"flits": 1, "flit_hops": 1}),
    "range_logic": RtlUnit("converters", {"conversions": {}}, {"conversions": 1}, _MEMBRANES),
    "accumulators (exact)": RtlUnit("accumulators", _ACCUMULATION, {"accumulations": 1}, _EXACT),
    "accumulators (exact, read)": RtlUnit("accumulators", _ACCUMULATOR_READ, {"output_values": 1}, _EXACT),
    "accumulators (membranes)": RtlUnit("accumulators", _ACCUMULATION, {"accumulations": 1}, _MEMBRANES),
    "accumulators (membranes, read)": RtlUnit("accumulators", _ACCUMULATOR_READ, {"output_values": 1}, _MEMBRANES),
    "output_stage": RtlUnit("vector", {"values": {"output_values": 1}}, {"output_values": 1, "gate_operations": -2}),
    "output_stage (gate)": RtlUnit("vector", {"gates": {"output_values": 2, "gate_operations": 1}}, {"gate_operations": 1}),
    "add": RtlUnit("vector", {"elements": {"add_elements": 1}}, {"add_elements": 1}),
    "norm": RtlUnit(
        "vector",
        {
            "elements": {"norm_elements": 1, "maximum_elements": 1},
            "square_roots": {"square_roots": 1},
            "divisions": {"divisions": 1},
        },
        {"norm_elements": 1},
    ),
    "rope": RtlUnit("vector", {"elements": {"rope_elements": 1}, "maximum_elements": {"maximum_elements": 1}}, {"rope_elements": 1}),
    "kv_write": RtlUnit("vector", {"elements": {"kv_bits_written": 8, "maximum_elements": 1}}, {"kv_bits_written": 1 / 8}),
    "encoder": RtlUnit("vector", _ENCODING, {"encode_elements": 1}, _PHASE),
    "encoder (element)": RtlUnit("vector", _ENCODING, {"encode_elements": 1}, _ELEMENT),
    "isqrt": RtlUnit("vector", {"commands": {"square_roots": 1}}),
    "divide": RtlUnit("vector", {"commands": {"divisions": 1}}),
    "attention_encoder": RtlUnit("vector", {"encode_elements": {"encode_elements": 1}}),
    "attention_encoder (element)": RtlUnit("vector", {"encode_elements": {"encode_elements": 1}}),
    "attention_scores": RtlUnit("spike_sums", {"score_operations": {"score_operations": 1}}, {"score_operations": 1}),
    "attention_softmax": RtlUnit("softmax", {"softmax_elements": {"softmax_elements": 1}}, {"softmax_elements": 1}),
    "attention_values": RtlUnit(
        "spike_sums",
        {"value_operations": {"value_operations": 1}, "probability_spikes": {"probability_spikes": 1}},
        {"value_operations": 1},
    ),
    "attention_output": RtlUnit("vector", {"attention_values": {"attention_values": 1}}, {"attention_values": 1}),
}
"""Units that `make synth` runs, by name; in the order of its table."""
