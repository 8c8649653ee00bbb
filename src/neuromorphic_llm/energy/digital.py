"""INT8 and FP16 digital weight-stationary accelerators of the same node and shapes (docs/reference/energy.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.chip.widths import SCORE_BITS, TABLE_BITS, WORD_BITS
from neuromorphic_llm.energy.account import EnergyAccount
from neuromorphic_llm.energy.actions import all_counts, load_actions
from neuromorphic_llm.energy.constants import Constant, load_constants
from neuromorphic_llm.energy.memories import Memory, reference_memories, tile_weights
from neuromorphic_llm.energy.prices import chip_prices, chip_quantities
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.simulation.counters import Counters

SCOPE = "chip and its DRAM accesses, estimated from operation counts; weights held in registers beside their multipliers"
SCOPE_SRAM = "chip and its DRAM accesses, estimated from operation counts; each weight read from an 8 KB SRAM for every token"


@dataclass(frozen=True)
class NumberFormat:
    """Word widths in bits of weights and activations, and the constants of a product and of its sum."""

    weight_bits: int
    activation_bits: int
    multiply: str
    accumulate: str
    scaled: bool  # a multiplier for each output channel


FORMATS: Mapping[str, NumberFormat] = {
    "INT8": NumberFormat(8, 8, "int8_multiply", "int32_add", True),
    "FP16": NumberFormat(16, 16, "fp16_multiply", "fp32_add", False),
}


def _sent_bits(config: DecoderConfig, activation_bits: int) -> list[int]:
    """Bits from each site to its vector tile: 32 per value, a gated product in its input width, of the head one value and its index."""
    sent = []
    for site in config.sites[:-1]:
        sent.append(activation_bits * (site.outputs // 2) if site.epilogue == "gate" else 32 * site.outputs)
    return [*sent, 64]


def token_seconds(config: DecoderConfig, context: int, spec: ChipSpec, activation_bits: int) -> float:
    """Time of one decoded token in s: inputs and outputs of every site stream over one link, attention as the chip's lanes."""
    cycles = sum(math.ceil(bits / spec.noc.flit_bits) for bits in _sent_bits(config, activation_bits))
    cycles += sum(math.ceil(config.sites[site].shape[0] * activation_bits / spec.noc.flit_bits) for site in range(len(config.sites)))
    heads_per_engine = math.ceil(config.heads / spec.vector.attention_engines)
    cycles += config.layers * heads_per_engine * 2 * config.head_dim * math.ceil(context / spec.vector.key_lanes)
    return cycles / spec.clock_hz


def _flits(config: DecoderConfig, spec: ChipSpec, activation_bits: int) -> tuple[int, int]:
    """(flits, links crossed): inputs visit every tile of their site and one link more, results cross two, the residual a vector period."""
    flits = links = 0
    for site, sent in enumerate(_sent_bits(config, activation_bits)):
        inputs, outputs = config.sites[site].shape
        input_flits, sent_flits = math.ceil(inputs * activation_bits / spec.noc.flit_bits), math.ceil(sent / spec.noc.flit_bits)
        flits += input_flits + sent_flits
        links += input_flits * (1 + math.ceil(inputs * outputs / tile_weights(spec))) + 2 * sent_flits
    residual_flits = (config.layers + 1) * math.ceil(32 * config.hidden_size / spec.noc.flit_bits)
    return flits + residual_flits, links + residual_flits * spec.mesh.vector_period


def _counters(config: DecoderConfig, context: int, spec: ChipSpec, number_format: NumberFormat) -> Counters:
    """Counters of one token in the chip's terms: every input meets every weight, every query element every key."""
    bits, layers, hidden = number_format.activation_bits, config.layers, config.hidden_size
    query, key_value = config.heads * config.head_dim, config.kv_heads * config.head_dim
    rotated, norms, pairs = query + key_value, 2 * layers + 1, layers * config.heads * context
    outputs = sum(config.sites[site].shape[1] for site in range(len(config.sites)))
    site_input_bits = bits * sum(config.sites[site].shape[0] for site in range(len(config.sites)))
    flits, links = _flits(config, spec, bits)
    # as timing.md counts the chip's vector tiles, without encoders: norm, copy of the residual, add, send; rope, kv-write
    read = hidden * (4 * norms + 4 * layers + layers) + layers * (rotated + 2 * key_value) + 2
    written = hidden * (layers + 1 + 2 * layers) + layers * rotated
    # site inputs are written once in their own width: norm and attention outputs, gated products; the other results arrive in 32 bits
    results = sum(_sent_bits(config, bits)) - layers * bits * config.intermediate_size
    return Counters(
        decoded_tokens=1,
        synaptic_operations=sum(math.prod(site.shape) for site in config.sites),
        output_values=outputs,
        gate_operations=layers * config.intermediate_size,
        norm_elements=norms * hidden,
        square_roots=norms,
        divisions=norms + layers * config.heads,
        maximum_elements=norms * hidden + pairs + config.vocab_size,
        add_elements=2 * layers * hidden,
        rope_elements=layers * rotated,
        score_operations=pairs * config.head_dim,
        softmax_elements=pairs,
        value_operations=pairs * config.head_dim,
        attention_values=layers * query,
        kv_bits_read=bits * 2 * layers * key_value * context,
        kv_bits_written=bits * 2 * layers * key_value,
        score_bits_read=(2 * SCORE_BITS + bits) * pairs,
        score_bits_written=(SCORE_BITS + bits) * pairs,
        vector_bits_read=WORD_BITS * read + site_input_bits + bits * layers * query,  # the queries too
        vector_bits_written=WORD_BITS * written + site_input_bits + results,
        rotary_bits_read=TABLE_BITS * layers * rotated,
        output_parameter_bits_read=TABLE_BITS * outputs if number_format.scaled else 0,
        flits=flits,
        flit_hops=links,
        dram_bits_read=16 * hidden,
    )


def _reference(
    config: DecoderConfig,
    context: int,
    spec: ChipSpec,
    number_format: NumberFormat,
    weights_in_sram: bool,
    constants: Mapping[str, Constant] | None,
) -> EnergyAccount:
    if context < 1:
        raise ValueError(f"context must be at least 1 token, got {context}")
    constants = load_constants() if constants is None else constants
    counters = _counters(config, context, spec, number_format)
    weight_bits = number_format.weight_bits * counters.synaptic_operations
    store = Memory(8192, -(-weight_bits // 65536)) if weights_in_sram else Memory(-(-weight_bits // 8), 1, registers=True)
    memories = {**reference_memories(config, spec, number_format.activation_bits, number_format.scaled), "weights": store}
    prices = {
        **chip_prices(spec, memories, constants),
        "multiply": constants[number_format.multiply].value,
        "accumulate": constants[number_format.accumulate].value,
    }
    quantities = {**chip_quantities(spec), "weight_bits": number_format.weight_bits}
    counts = all_counts(counters, token_seconds(config, context, spec, number_format.activation_bits))
    parts = load_actions("digital").energy(counts, prices, quantities)
    return EnergyAccount(parts, 1, SCOPE_SRAM if weights_in_sram else SCOPE)


def int8_reference(
    config: DecoderConfig, context: int, spec: ChipSpec, *, weights_in_sram: bool = False, constants: Mapping[str, Constant] | None = None
) -> EnergyAccount:
    """Energy of one decoded token with `context` visible tokens on an INT8 digital weight-stationary array of the same node.

    By default every weight sits in a register beside its multiplier, the strongest rival; `weights_in_sram` reads it from an 8 KB SRAM.
    """
    return _reference(config, context, spec, FORMATS["INT8"], weights_in_sram, constants)


def fp16_reference(
    config: DecoderConfig, context: int, spec: ChipSpec, *, weights_in_sram: bool = False, constants: Mapping[str, Constant] | None = None
) -> EnergyAccount:
    """The same array with FP16 multipliers, FP32 accumulation and FP16 activations and key/value memory."""
    return _reference(config, context, spec, FORMATS["FP16"], weights_in_sram, constants)
