"""INT8 and FP16 digital weight-stationary accelerators of the same node and shapes (docs/reference/energy.md)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.chip.widths import SCORE_BITS, TABLE_BITS, WORD_BITS
from neuromorphic_llm.energy.account import EnergyAccount
from neuromorphic_llm.energy.actions import all_counts, load_actions
from neuromorphic_llm.energy.array_time import sent_bits, tiles_of_site, token_cycles
from neuromorphic_llm.energy.constants import Constant, load_constants
from neuromorphic_llm.energy.leakage import further_products
from neuromorphic_llm.energy.memories import Banks, Memory, reference_memories
from neuromorphic_llm.energy.prices import chip_prices, chip_quantities
from neuromorphic_llm.graph.ir import Node, ValueType
from neuromorphic_llm.reference.build import build_graph, outline
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.simulation.counters import Counters

SCOPE = "chip and its DRAM accesses, estimated from operation counts; weights held in registers beside their multipliers"
SCOPE_SRAM = "chip and its DRAM accesses, estimated from operation counts; each weight read from an 8 KB SRAM for every token"
SCOPE_IMPROVED = f"{SCOPE}; memories in small banks, idle tiles gated with their bits retained"

BANK_BYTES = 8192
"""Bank of the memories of improved rivals on a chip that has one large bank."""


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


def token_seconds(config: DecoderConfig, context: int, spec: ChipSpec, activation_bits: int, sequences: int = 1) -> float:
    """Time from one decoded token to the next in s, with `sequences` in flight."""
    return token_cycles(config, context, spec, activation_bits, sequences).interval(config) / spec.clock_hz


def _flits(config: DecoderConfig, spec: ChipSpec, activation_bits: int) -> tuple[int, int]:
    """(flits, links crossed): inputs visit every tile of their site and one link more, results cross two, the residual a vector period."""
    flits = links = 0
    for site, sent in zip(config.sites, sent_bits(config, activation_bits), strict=True):
        input_flits, sent_flits = math.ceil(site.inputs * activation_bits / spec.noc.flit_bits), math.ceil(sent / spec.noc.flit_bits)
        flits += input_flits + sent_flits
        links += input_flits * (1 + tiles_of_site(site, spec)) + 2 * sent_flits
    residual_flits = (config.layers + 1) * math.ceil(32 * config.hidden_size / spec.noc.flit_bits)
    return flits + residual_flits, links + residual_flits * spec.mesh.vector_period


def _work(node: Node, operands: Sequence[ValueType], context: int, bits: int, maximum_read: bool) -> dict[str, int]:
    """Counts of an operation of the vector tiles, as timing.md counts them but with no spikes; none of others, in their favour."""
    size = node.type.size
    if node.operation == "normalise":  # as `norm`: a pass for the maximum if it is read, two more, the gains
        roots = size // (node.integer("channels") if "channels" in node.attributes else size)
        elements = dict.fromkeys(("norm_elements", "maximum_elements"), size)
        return {**elements, "square_roots": roots, "divisions": roots, "vector_bits_read": WORD_BITS * (3 + maximum_read) * size}
    if node.operation == "add":
        return {"add_elements": size, "vector_bits_read": WORD_BITS * 2 * size, "vector_bits_written": WORD_BITS * size}
    if node.operation == "rope":
        turned = node.integer("rotated")
        words = dict.fromkeys(("vector_bits_read", "vector_bits_written"), WORD_BITS * turned)
        return {"rope_elements": turned, "rotary_bits_read": TABLE_BITS * turned, **words}
    if node.operation == "kv_write":
        return {"kv_bits_written": bits * 2 * size, "vector_bits_read": WORD_BITS * 2 * size}
    if node.operation == "attention":  # every query element meets every key
        heads = node.integer("heads")
        pairs = heads * context
        return {
            "divisions": heads,
            **dict.fromkeys(("maximum_elements", "softmax_elements"), pairs),
            **dict.fromkeys(("score_operations", "value_operations"), pairs * (size // heads)),
            "attention_values": size,
            "kv_bits_read": bits * 2 * operands[1].size * context,
            "score_bits_read": ((1 + maximum_read) * SCORE_BITS + bits) * pairs,
            "score_bits_written": (SCORE_BITS + bits) * pairs,
            "vector_bits_read": bits * size,  # the queries
        }
    if node.operation == "gate":
        return {"gate_operations": size}
    if node.operation == "argmax":  # in the head's tiles; the largest logit of them and its index are read
        return {"maximum_elements": operands[0].size, "vector_bits_read": WORD_BITS * 2}
    return {}


def token_counters(
    config: DecoderConfig, context: int, spec: ChipSpec, number_format: NumberFormat, *, maximum_read: bool = True
) -> Counters:
    """Counters of one token in the chip's terms: every input meets every weight.

    maximum_read: largest magnitudes, of the norm and the softmax, take a read of their vectors.
    """
    bits, layers, hidden = number_format.activation_bits, config.layers, config.hidden_size
    nodes = build_graph(outline(config)).nodes
    types = {node.name: node.type for node in nodes}
    counted = Counter[str]()
    for node in nodes:
        counted.update(_work(node, [types[operand] for operand in node.operands], context, bits, maximum_read))
    outputs = sum(site.outputs for site in config.sites)
    # Inputs of sites are written once, in their own width: results of norms, attention and gates; the other results arrive in 32 bits.
    inputs = bits * sum(site.inputs for site in config.sites)
    results = sum(sent for site, sent in zip(config.sites, sent_bits(config, bits), strict=True) if site.epilogue != "gate")
    # Every stage receives the residual stream, every layer sends it on.
    counted.update(vector_bits_read=WORD_BITS * layers * hidden + inputs)
    counted.update(vector_bits_written=WORD_BITS * (layers + 1) * hidden + inputs + results)
    flits, links = _flits(config, spec, bits)
    return Counters(
        decoded_tokens=1,
        synaptic_operations=sum(math.prod(site.shape) for site in config.sites),
        output_values=outputs,
        output_parameter_bits_read=TABLE_BITS * outputs if number_format.scaled else 0,
        flits=flits,
        flit_hops=links,
        dram_bits_read=16 * hidden,
        **counted,  # type: ignore[arg-type]  # of whole tokens, not of single sites
    )


@dataclass(frozen=True)
class DigitalArray:
    """A digital weight-stationary array; improved: its memories are banked, its tiles and routers gated, its maxima taken while written."""

    number_format: NumberFormat
    weights_in_sram: bool = False
    improved: bool = False

    @property
    def scope(self) -> str:
        """Scope of its account."""
        return SCOPE_IMPROVED if self.improved else SCOPE_SRAM if self.weights_in_sram else SCOPE

    def memories(self, config: DecoderConfig, spec: ChipSpec) -> dict[str, Memory]:
        """Memories, that of the weights included."""
        weight_bits = self.number_format.weight_bits * sum(math.prod(site.shape) for site in config.sites)
        store = Memory(8192, -(-weight_bits // 65536)) if self.weights_in_sram else Memory(-(-weight_bits // 8), 1, registers=True)
        banks = improved_banks(spec) if self.improved else Banks()
        others = reference_memories(config, spec, self.number_format.activation_bits, self.number_format.scaled, banks)
        return {**others, "weights": store}

    def account(
        self,
        config: DecoderConfig,
        context: int,
        spec: ChipSpec,
        sequences: int = 1,
        *,
        constants: Mapping[str, Constant] | None = None,
    ) -> EnergyAccount:
        """Energy of one decoded token with `context` visible tokens, and `sequences` in flight with a token each."""
        check_load(context, sequences)
        constants, number_format = load_constants() if constants is None else constants, self.number_format
        counters = token_counters(config, context, spec, number_format, maximum_read=not self.improved)
        cycles = token_cycles(config, context, spec, number_format.activation_bits, sequences)
        if self.improved:
            counters = cycles.with_wakes(counters, config, spec)
        working, further = cycles.working(config, spec) if self.improved else None, further_products(spec, constants, maxima=self.improved)
        prices = {
            **chip_prices(spec, self.memories(config, spec), constants, working, further),
            "multiply": constants[number_format.multiply].value,
            "accumulate": constants[number_format.accumulate].value,
        }
        products = spec.noc.flit_bits // number_format.activation_bits if self.improved else 1  # added to a sum at once
        quantities = {**chip_quantities(spec), "weight_bits": number_format.weight_bits, "sum_bits": 32 // max(products, 1)}
        seconds = cycles.interval(config) / spec.clock_hz
        parts = load_actions("digital").energy(all_counts(counters, seconds), prices, quantities)
        return EnergyAccount(parts, 1, self.scope, seconds)


ARRAYS: Mapping[str, DigitalArray] = MappingProxyType(
    {
        "int8": DigitalArray(FORMATS["INT8"]),
        "int8_improved": DigitalArray(FORMATS["INT8"], improved=True),
        "int8_sram": DigitalArray(FORMATS["INT8"], weights_in_sram=True),
        "fp16": DigitalArray(FORMATS["FP16"]),
    }
)
"""Digital rivals by their names in results. Weights sit in registers beside their multipliers, the strongest form, or in 8 KB SRAMs."""


def check_load(context: int, sequences: int) -> None:
    """ValueError if no token is visible, or no sequence in flight."""
    if context < 1:
        raise ValueError(f"context must be at least 1 token, got {context}")
    if sequences < 1:
        raise ValueError(f"sequences must be at least 1, got {sequences}")


def improved_banks(spec: ChipSpec) -> Banks:
    """Banks of rivals that have every measure: the chip's, or of BANK_BYTES where the chip has one large bank."""
    own = Banks.of(spec)
    return Banks(own.key_value or BANK_BYTES, own.others or BANK_BYTES)


def int8_reference(
    config: DecoderConfig,
    context: int,
    spec: ChipSpec,
    sequences: int = 1,
    *,
    weights_in_sram: bool = False,
    constants: Mapping[str, Constant] | None = None,
) -> EnergyAccount:
    """Account of the INT8 array, weights in registers or in SRAM, as DigitalArray.account."""
    return DigitalArray(FORMATS["INT8"], weights_in_sram).account(config, context, spec, sequences, constants=constants)


def fp16_reference(
    config: DecoderConfig,
    context: int,
    spec: ChipSpec,
    sequences: int = 1,
    *,
    weights_in_sram: bool = False,
    constants: Mapping[str, Constant] | None = None,
) -> EnergyAccount:
    """Account of the same array with FP16 multipliers, FP32 accumulation and FP16 activations and key/value memory."""
    return DigitalArray(FORMATS["FP16"], weights_in_sram).account(config, context, spec, sequences, constants=constants)
