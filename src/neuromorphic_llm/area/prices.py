"""Areas of single units at the accounts' node, and the numbers of them on a chip (docs/reference/area.md)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import yaml

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.devices.readout import BlockReadout
from neuromorphic_llm.energy.constants import Constant, Range, of_width, parse_constants
from neuromorphic_llm.energy.prices import NODE_NM

RESOLVED: Mapping[str, str] = MappingProxyType(
    {
        "cell_pair": "two cells of the device of `synapse.cell`, `cell_pcm` and so on, times `macro_spread` for the rest of the macro",
        "converter": "converter, the mean over the slices, by a power law in 2^bits between and beyond the entries, times `macro_spread`; "
        "by decrement `decrement` times `macro_spread` and two `register_bit` for each bit",
        "column_sample": "`sample_hold` times `macro_spread`",
        "column_clamp": "`clamp` times `macro_spread`",
        "membrane": "`membrane_capacitance` times `capacitor`",
        "low_membrane": "the same times `low_slice_capacitance`",
    }
)
"""Area that follows from the chip -> its meaning; every constant in gates is one too: times `gate` and `logic_spread`."""

NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "tiles": "tiles of the mesh",
        "synapse_tiles": "synapse tiles of the mesh, with or without weights",
        "vector_tiles": "vector tiles of the mesh",
        "crossbars": "`synapse.crossbars`",
        "groups": "macros that hold a slice of the weights of a tile: crossbars / slices, rounded down",
        "lower_slices": "`synapse.slices` - 1",
        "rows": "`synapse.rows`",
        "columns": "`synapse.columns`",
        "converters": "converters of a macro: columns / `readout.column_mux`, rounded up",
        "adders": "values that the converters of a macro deliver per cycle: converters / `readout.conversion_cycles`, rounded up",
        "membrane_columns": "columns of a macro with a membrane: all of them, or none of an exact readout",
        "membrane_capacitors": "capacitors of a column and slice: 4 of membranes that are halved, 2 of those that decay",
        "membrane_converters": "converters of a macro, or none of an exact readout",
        "range_bits": "`readout.range_bits`; none of an exact readout",
        "accumulator_bits": "`synapse.accumulator_bits`",
        "read_lanes": "values that an output stage takes at once: `synapse.argmax_lanes`, at least 4",
        "lanes": "`vector.lanes`",
        "engines": "`vector.attention_engines`",
        "key_lanes": "`vector.key_lanes`",
        "head_lanes": "`vector.head_lanes`",
        "further_heads": "`vector.head_lanes` - 1",
        "maximum_lanes": "values compared while they are written (`vector.maximum` `written`): `lanes` by norm and as many by `add`, "
        "those of a flit; in each engine `lanes` of outputs and `key_lanes` of scores",
        "softmax_lanes": "`vector.softmax_lanes`",
        "encoder_stages": "further stages of a lane of the encoder: phases - 1 of the network's code with `element`, none with `phase` "
        "or where trains are stamped",
        "stamped_rows": "inputs of a tile that keep a slot and compare it: rows of its groups where trains are stamped, else none",
        "packet_bits": "bits of a flit, payload and header",
        "flit_bits": "bits of the payload of a flit",
        "fifo_depth": "`noc.fifo_depth`",
        "weights": "weights of the network",
        "outputs": "outputs of all its sites",
        "flit_inputs": "INT8 inputs that a flit brings: `noc.flit_bits` / 8",
    }
)
"""Number of a chip or of its network -> its meaning."""


@cache
def load_areas() -> Mapping[str, Constant]:
    """The package's constants of area by name; DataError if an entry is incomplete."""
    text = files("neuromorphic_llm.area").joinpath("area.yaml").read_text(encoding="utf-8")
    return parse_constants(yaml.safe_load(text), "area/area.yaml")


def unit_areas(program: Program, constants: Mapping[str, Constant]) -> dict[str, Range]:
    """Area in m2 of one of every unit, by the names of RESOLVED and of the constants in m2 and in gates."""
    spec, value = program.spec, {name: constant.value for name, constant in constants.items()}
    in_macro, gate = value["macro_spread"], value["gate"].scaled(value["logic_spread"])
    membrane = value["membrane_capacitance"].scaled(value["capacitor"])
    widths = spec.readout_circuit.converter_widths
    converter = Range.total([of_width(constants, "converter", bits) for bits in widths]).scaled(in_macro) * (1 / len(widths))
    if spec.readout_circuit.by_decrement:  # with the capacitors of the membrane, and registers of its decisions
        converter = value["decrement"].scaled(in_macro) + value["register_bit"].scaled(gate) * (2 * spec.converter_bits)
    here = {name: c for name, c in constants.items() if c.node_nm == NODE_NM}
    return {
        **{name: c.value for name, c in here.items() if c.unit == "m2"},
        **{name: c.value.scaled(gate) for name, c in here.items() if c.unit == "gates"},
        "cell_pair": value[f"cell_{spec.synapse.cell}"].scaled(in_macro) * 2,
        "converter": converter,
        "column_sample": value["sample_hold"].scaled(in_macro),
        "column_clamp": value["clamp"].scaled(in_macro),
        "membrane": membrane,
        "low_membrane": membrane.scaled(value["low_slice_capacitance"]),
    }


def numbers(program: Program) -> dict[str, int]:
    """Numbers by the names of NUMBERS."""
    spec, config = program.spec, program.weights.config
    synapse, vector, circuit = spec.synapse, spec.vector, spec.readout_circuit
    blocks, converters = isinstance(circuit, BlockReadout), -(-synapse.columns // spec.readout.column_mux)
    return {
        "tiles": spec.topology.tiles,
        "synapse_tiles": len(spec.topology.synapse_tiles()),
        "vector_tiles": len(spec.topology.vector_tiles()),
        "crossbars": synapse.crossbars,
        "groups": synapse.crossbars // synapse.slices,
        "lower_slices": synapse.slices - 1,
        "rows": synapse.rows,
        "columns": synapse.columns,
        "converters": converters,
        "adders": -(-converters // spec.readout.conversion_cycles),
        "membrane_columns": synapse.columns if blocks else 0,
        "membrane_capacitors": circuit.capacitors if isinstance(circuit, BlockReadout) else 0,
        "membrane_converters": converters if blocks else 0,
        "range_bits": circuit.largest_range.bit_length() if isinstance(circuit, BlockReadout) else 0,
        "accumulator_bits": synapse.accumulator_bits,
        "read_lanes": max(synapse.argmax_lanes, 4),
        "lanes": vector.lanes,
        "engines": vector.attention_engines,
        "key_lanes": vector.key_lanes,
        "head_lanes": vector.head_lanes,
        "further_heads": vector.head_lanes - 1,
        "maximum_lanes": spec.maximum_lanes,
        "softmax_lanes": vector.softmax_lanes,
        "encoder_stages": spec.site_encoder.banks(program.weights.code.phases) - 1 if spec.site_encoder.whole_train else 0,
        "stamped_rows": synapse.crossbars // synapse.slices * synapse.rows if spec.stamped else 0,
        "packet_bits": spec.noc.flit_bits + spec.header_bits,
        "flit_bits": spec.noc.flit_bits,
        "fifo_depth": spec.noc.fifo_depth,
        "weights": sum(site.inputs * site.outputs for site in config.sites),
        "outputs": sum(site.outputs for site in config.sites),
        "flit_inputs": spec.noc.flit_bits // 8,
    }
