"""Components of a chip and of its rivals: how many units of which area each part is made of (docs/reference/area.md, Components)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from neuromorphic_llm.energy.constants import Range


@dataclass(frozen=True)
class Component:
    """Units on the chip: their number is the product of `numbers`, their area in m2 that of `areas`, name -> how many of it."""

    numbers: tuple[str, ...]
    areas: Mapping[str, int]
    note: str = ""

    def area(self, numbers: Mapping[str, int], areas: Mapping[str, Range]) -> Range:
        """Area of all of them, m2."""
        each = Range.total([areas[name] * count for name, count in self.areas.items()])
        return each * math.prod(numbers[name] for name in self.numbers)


_OUTPUTS = Component(("synapse_tiles", "read_lanes"), {"output_lane": 1}, "shift, multiplier, bias, saturation, gate, largest logit")
_VECTOR = (
    Component(("vector_tiles", "lanes"), {"add_lane": 1, "norm_lane": 1, "rope_lane": 1, "kv_write_lane": 1}),
    Component(("vector_tiles",), {"vector_control": 1}, "sequencer, injection, residual buffers"),
)
_ENGINE = (
    Component(("vector_tiles", "engines", "key_lanes"), {"key_port": 1}),
    Component(("vector_tiles", "engines", "softmax_lanes"), {"softmax_lane": 1}),
    Component(("vector_tiles", "engines", "lanes"), {"attended_lane": 1}),
    Component(("vector_tiles", "engines"), {"engine_divider": 1}),
)
_HOST = Component((), {"host_control": 1}, "without the interface to the DRAM")

GROUPS: Mapping[str, tuple[Component, ...]] = MappingProxyType(
    {
        "crossbars": (Component(("synapse_tiles", "crossbars", "rows", "columns"), {"cell_pair": 1}, "a pair for each row and column"),),
        "converters": (
            Component(("synapse_tiles", "crossbars", "converters"), {"converter": 1}),
            Component(("synapse_tiles", "crossbars", "columns"), {"column_sample": 1}),
        ),
        "membranes": (
            Component(
                ("synapse_tiles", "groups", "membrane_columns", "membrane_capacitors"),
                {"membrane": 1},
                "highest slice: charge of either sign, and the twin of each where it is halved",
            ),
            Component(("synapse_tiles", "groups", "lower_slices", "membrane_columns", "membrane_capacitors"), {"low_membrane": 1}),
            Component(("synapse_tiles", "crossbars", "membrane_columns"), {"column_clamp": 1}),
            Component(("synapse_tiles", "groups", "membrane_columns", "range_bits"), {"register_bit": 1}, "ranges"),
            Component(
                ("synapse_tiles", "groups", "membrane_converters"), {"range_logic": 1}, "shifts of each conversion and of its result"
            ),
        ),
        "accumulators": (
            Component(("synapse_tiles", "groups", "columns", "accumulator_bits"), {"accumulator_bit": 1}, "register, shift, selection"),
            Component(("synapse_tiles", "crossbars", "adders"), {"accumulator_adder": 1}),
            Component(("synapse_tiles", "accumulator_bits", "read_lanes"), {"accumulator_port": 1}, "word that the output stage reads"),
        ),
        "schedulers": (Component(("synapse_tiles", "groups", "rows"), {"scheduled_row": 1}),),
        "stamps": (Component(("synapse_tiles", "stamped_rows"), {"register_bit": 8, "slot_match": 1}, "spike, sign and slot of an input"),),
        "outputs": (_OUTPUTS,),
        "vector": _VECTOR,
        "maxima": (Component(("vector_tiles", "maximum_lanes"), {"maximum_lane": 1}, "maxima taken while vectors are written"),),
        "encoders": (
            Component(("vector_tiles", "lanes"), {"encoder_lane": 1}),
            Component(("vector_tiles", "lanes", "encoder_stages"), {"encoder_stage": 1}),
        ),
        "spike_attention": (
            Component(("vector_tiles", "engines", "lanes"), {"query_encoder_lane": 1, "value_lane": 1}),
            Component(("vector_tiles", "engines", "key_lanes"), {"score_lane": 1}),
            Component(("vector_tiles", "engines", "key_lanes", "further_heads"), {"score_adder": 1}, "adders of further heads"),
            Component(("vector_tiles", "engines", "lanes", "further_heads"), {"value_adder": 1}),
            Component(("vector_tiles", "engines", "softmax_lanes", "further_heads"), {"probability_coder": 1}),
            *_ENGINE,
        ),
        "product_attention": (
            Component(
                ("vector_tiles", "engines", "key_lanes", "head_lanes"),
                {"dot_product": 1, "int8_product": 1},
                "scores and values one after the other",
            ),
            *_ENGINE,
        ),
        "routers": (
            Component(("tiles", "packet_bits"), {"router_bit": 1}),
            Component(("tiles", "packet_bits", "fifo_depth"), {"fifo_bit": 1}, "all five inputs"),
        ),
        "plain_routers": (
            Component(("tiles", "flit_bits"), {"router_bit": 1}),
            Component(("tiles", "flit_bits", "fifo_depth"), {"fifo_bit": 1}, "without headers"),
        ),
        "host": (_HOST,),
        "products": (
            Component(("outputs",), {"dot_product": 1}, "sum and register of an output"),
            Component(("outputs", "flit_inputs"), {"int8_product": 1}, "all outputs of a site take a flit of inputs per cycle"),
        ),
        "weight_registers": (Component(("weights",), {"weight_bit": 8}),),
    }
)
"""Components by name."""

_INT8 = {
    "macs": ("products",),
    "synapse": ("outputs",),
    "vector": ("vector",),
    "attention": ("product_attention",),
    "routers": ("plain_routers",),
    "host": ("host",),
}
_INT8_REGISTERS = {**_INT8, "weights": ("weight_registers",)}
PARTS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "chip": {
            "cells": ("crossbars",),
            "converters": ("converters",),
            "membranes": ("membranes",),
            "accumulators": ("accumulators",),
            "synapse": ("schedulers", "stamps", "outputs"),
            "vector": ("vector", "maxima", "encoders"),
            "attention": ("spike_attention",),
            "routers": ("routers",),
            "host": ("host",),
        },
        "int8": _INT8_REGISTERS,
        "int8_improved": {**_INT8_REGISTERS, "vector": ("vector", "maxima")},
        "int8_sram": _INT8,  # its weights are among its memories
        "bit_serial_crossbar": {
            "cells": ("crossbars",),
            "converters": ("converters",),
            "membranes": ("membranes",),
            "accumulators": ("accumulators",),
            "synapse": ("schedulers", "outputs"),
            "vector": ("vector", "maxima"),
            "attention": ("product_attention",),
            "routers": ("plain_routers",),
            "host": ("host",),
        },
    }
)
"""Account -> part -> names of GROUPS; the memories of an account are a further part, `sram`."""
