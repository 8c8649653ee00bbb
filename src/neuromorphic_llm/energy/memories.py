"""Sizes of the on-chip memories: what an access costs and what leaks (docs/reference/energy.md, Memories)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuromorphic_llm.chip.program import Program, longest_context
from neuromorphic_llm.chip.routes import entry_bits
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.chip.widths import SCORE_BITS, WEIGHT_BITS
from neuromorphic_llm.energy.constants import Constant, Range, sram_bit, sram_byte_area
from neuromorphic_llm.reference.config import DecoderConfig

TABLE_BYTES = 512
"""Powers of two, sigmoid: 256 entries of 16 bits (and one)."""

VECTOR_TILE = ("vector_memory", "key_value", "attention_scores", "rotary_tables", "event_banks")
SYNAPSE_TILE = ("axon", "accumulators", "output_parameters")
"""Memories that are switched with a tile of the kind."""


@dataclass(frozen=True)
class Memory:
    """Equal memories of one kind. All have the size of the largest, since tiles of a kind are alike."""

    size_bytes: int  # of one
    count: int  # on the chip
    registers: bool = False
    bank_bytes: int | None = None  # None: one bank

    @property
    def bank_size(self) -> int:
        """Bytes of a bank, which is not larger than the memory."""
        return min(self.bank_bytes or self.size_bytes, self.size_bytes)

    @property
    def banks(self) -> int:
        """Banks of one memory."""
        return -(-self.size_bytes // self.bank_size)

    def bit(self, constants: Mapping[str, Constant]) -> Range:
        """Energy of one bit read or written, J: in its bank, and of several banks on the wires from there to the user of the memory."""
        if self.registers:
            return constants["register_bit"].value
        bank = sram_bit(constants, self.bank_size)
        return bank if self.banks == 1 else bank + constants["wire_bit"].value.scaled(self.side(constants))

    def side(self, constants: Mapping[str, Constant]) -> Range:
        """Side in m of a square of all banks of one memory, which is the mean way along its sides from a corner to a bank."""
        area = self.area(constants)
        return Range(math.sqrt(area.low), math.sqrt(area.nominal), math.sqrt(area.high))

    def area(self, constants: Mapping[str, Constant]) -> Range:
        """Area of all banks of one memory in SRAM, with their periphery, m2."""
        return sram_byte_area(constants, self.bank_size) * (self.banks * self.bank_size)

    @property
    def bits(self) -> int:
        """Bits of all of them."""
        return 8 * self.banks * self.bank_size * self.count

    def leakage(self, constants: Mapping[str, Constant]) -> Range:
        """Leakage power of all of them, W."""
        constant = constants["register_leakage_bit" if self.registers else "sram_leakage_bit"]
        return constant.value * self.bits


@dataclass(frozen=True)
class Banks:
    """Bytes of a bank of the memories of a vector tile; None: one bank each."""

    key_value: int | None = None
    others: int | None = None

    @classmethod
    def of(cls, spec: ChipSpec) -> Banks:
        """Banks of a chip."""
        return cls(spec.vector.kv_bank_bytes, spec.vector.memory_bank_bytes)


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def chip_memories(program: Program) -> dict[str, Memory]:
    """The chip's memories by their name in the compiler's report (compiler.md, Memory)."""
    spec, weights, config = program.spec, program.weights, program.weights.config
    regions = [region for stage in program.stages for site in stage.regions for region in site]
    widest = max(site.inputs for site in config.sites)
    columns = max(region.columns for region in regions)
    parameters = max(region.columns * (2 if weights.site(region.site).bias is None else 6) for region in regions)
    entries = int(np.count_nonzero(program.route_masks, axis=0).max())
    synapse = len(spec.topology.synapse_tiles())
    return {
        **_vector_memories(config, spec, program.max_context, WEIGHT_BITS, spec.vector.kv_bytes_per_engine, Banks.of(spec)),
        "event_banks": Memory(
            _bytes(spec.spike_bits * widest), spec.site_encoder.banks(weights.code.phases) * len(spec.topology.vector_tiles())
        ),
        "axon": Memory(_bytes(spec.train_bits(weights.code.phases) * widest), synapse, registers=spec.stamped),
        "accumulators": Memory(_bytes(spec.synapse.accumulator_bits) * columns, synapse, registers=True),
        "output_parameters": Memory(parameters, synapse),
        "routing_tables": Memory(_bytes(entries * entry_bits(len(program.route_sources))), spec.topology.tiles),
    }


def reference_memories(config: DecoderConfig, spec: ChipSpec, activation_bits: int, scaled: bool, banks: Banks) -> dict[str, Memory]:
    """Memories of a digital array of the same mesh: none for spikes and routes; keys and values of `activation_bits`."""
    engine_bytes = spec.vector.kv_bytes_per_engine * activation_bits // 8
    context = max(longest_context(spec, config, config.max_positions), 1)
    memories = _vector_memories(config, spec, context, activation_bits, engine_bytes, banks)
    if scaled:
        memories["output_parameters"] = Memory(2 * most_columns(config, spec), len(spec.topology.synapse_tiles()))
    return memories


def most_columns(config: DecoderConfig, spec: ChipSpec) -> int:
    """Columns of weights of a synapse tile that is full of the site with the fewest inputs."""
    return -(-tile_weights(spec) // min(site.inputs for site in config.sites))


def tile_weights(spec: ChipSpec) -> int:
    """Weights that a synapse tile holds."""
    return spec.synapse.crossbars * spec.synapse.rows * spec.synapse.columns // spec.synapse.slices


def _vector_memories(
    config: DecoderConfig, spec: ChipSpec, context: int, probability_bits: int, engine_bytes: int, banks: Banks
) -> dict[str, Memory]:
    """Memories of the vector tiles: a score for each head of a group, a probability of `probability_bits` for each of a set."""
    tiles, others, group = len(spec.topology.vector_tiles()), banks.others, config.heads // config.kv_heads
    engines, weight_bits = tiles * spec.vector.attention_engines, probability_bits * min(group, spec.vector.head_lanes)
    return {
        "vector_memory": Memory(spec.vector.memory_bytes, tiles, bank_bytes=others),
        "key_value": Memory(engine_bytes, engines, bank_bytes=banks.key_value),
        "attention_scores": Memory(_bytes(SCORE_BITS * group + weight_bits) * context, engines, bank_bytes=others),
        "rotary_tables": Memory(2 * config.head_dim * context, tiles, bank_bytes=others),
    }
