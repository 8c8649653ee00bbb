"""INT8 and FP16 digital weight-stationary accelerators of the same node and shapes (docs/reference/energy.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.account import EnergyAccount, tile_leakage
from neuromorphic_llm.energy.constants import Constant, Range, load_constants
from neuromorphic_llm.reference.weights import DecoderConfig

SCOPE = "chip and its DRAM accesses, estimated from operation counts; weights held in registers beside their multipliers"
SCOPE_SRAM = "chip and its DRAM accesses, estimated from operation counts; each weight read from an 8 KB SRAM for every token"


@dataclass(frozen=True)
class _Arithmetic:
    """Word widths in bits and names of the constants of one number format."""

    weight_bits: int
    activation_bits: int
    multiply: str
    accumulate: str


_INT8 = _Arithmetic(8, 8, "int8_multiply", "int32_add")
_FP16 = _Arithmetic(16, 16, "fp16_multiply", "fp32_add")


def token_seconds(config: DecoderConfig, context: int, spec: ChipSpec, activation_bits: int) -> float:
    """Time of one decoded token in s: inputs and outputs of every site stream over one link, attention as the chip's lanes."""
    cycles = 0
    for site in range(config.sites):
        inputs, outputs = config.site_shape(site)
        sent = outputs if site < config.sites - 1 else 1  # the head sends its largest value only
        cycles += math.ceil(inputs * activation_bits / spec.flit_bits) + math.ceil(sent * 32 / spec.flit_bits)
    heads_per_engine = math.ceil(config.heads / spec.attention_engines)
    cycles += config.layers * heads_per_engine * 2 * config.head_dim * math.ceil(context / spec.key_lanes)
    return cycles / spec.clock_hz


def _reference(
    config: DecoderConfig,
    context: int,
    spec: ChipSpec,
    arithmetic: _Arithmetic,
    weights_in_sram: bool,
    constants: Mapping[str, Constant] | None,
) -> EnergyAccount:
    if context < 1:
        raise ValueError(f"context must be at least 1 token, got {context}")
    constants = load_constants() if constants is None else constants

    def energy(name: str, count: float) -> Range:
        return constants[name].value * count

    shapes = [config.site_shape(site) for site in range(config.sites)]
    weights = sum(inputs * outputs for inputs, outputs in shapes)
    attention_macs = 2 * config.layers * config.heads * config.head_dim * context
    kv_bits = arithmetic.activation_bits * 2 * config.layers * config.kv_heads * config.head_dim * (context + 1)
    sent = [outputs for _, outputs in shapes[:-1]] + [1]
    activation_bits = sum(arithmetic.activation_bits * inputs for inputs, _ in shapes) + sum(32 * outputs for outputs in sent)
    tile_weights = spec.crossbars_per_tile * spec.rows * spec.columns // spec.slices
    # an input flit visits every tile of its site, a result crosses two links on the way back
    flit_hops = sum(
        inputs * arithmetic.activation_bits / spec.flit_bits * (1 + math.ceil(inputs * outputs / tile_weights))
        for inputs, outputs in shapes
    ) + sum(2 * 32 * outputs / spec.flit_bits for outputs in sent)
    vectors = config.layers * (2 * config.hidden_size + config.intermediate_size)
    soma_multiplications = (
        3 * (vectors + config.hidden_size) + sum(sent) + 2 * config.layers * (config.heads + config.kv_heads) * config.head_dim
    )
    weight_read = energy("sram_8kb_bit" if weights_in_sram else "register_bit", arithmetic.weight_bits * weights)
    parts = {
        "macs": energy(arithmetic.multiply, weights) + energy(arithmetic.accumulate, weights) + energy("register_bit", 32 * weights),
        "weights": weight_read,
        "soma": energy("int32_multiply", soma_multiplications) + energy("int32_add", 2 * soma_multiplications),
        "attention": energy(arithmetic.multiply, attention_macs)
        + energy(arithmetic.accumulate, attention_macs + 6 * config.layers * config.heads * context)
        + energy("sram_256kb_bit", kv_bits),
        "sram": energy("sram_32kb_bit", 2 * activation_bits),
        "noc": energy("router_bit", spec.flit_bits * flit_hops),
        "dram": energy("dram_bit", 16 * config.hidden_size),
        "leakage": tile_leakage(spec, constants) * token_seconds(config, context, spec, arithmetic.activation_bits),
    }
    return EnergyAccount(parts, 1, SCOPE_SRAM if weights_in_sram else SCOPE)


def int8_reference(
    config: DecoderConfig, context: int, spec: ChipSpec, *, weights_in_sram: bool = False, constants: Mapping[str, Constant] | None = None
) -> EnergyAccount:
    """Energy of one decoded token with `context` visible tokens on an INT8 digital weight-stationary array of the same node.

    By default every weight sits in a register beside its multiplier, the strongest rival; `weights_in_sram` reads it from an 8 KB SRAM.
    """
    return _reference(config, context, spec, _INT8, weights_in_sram, constants)


def fp16_reference(
    config: DecoderConfig, context: int, spec: ChipSpec, *, weights_in_sram: bool = False, constants: Mapping[str, Constant] | None = None
) -> EnergyAccount:
    """The same array with FP16 multipliers, FP32 accumulation and FP16 activations and key/value memory."""
    return _reference(config, context, spec, _FP16, weights_in_sram, constants)
