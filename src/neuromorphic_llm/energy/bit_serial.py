"""The chip's crossbars and converters driven by the bits of INT8 inputs instead of spikes (docs/reference/energy.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.account import EnergyAccount
from neuromorphic_llm.energy.actions import all_counts, load_actions
from neuromorphic_llm.energy.array_time import TokenCycles, tiles_of_site, token_cycles
from neuromorphic_llm.energy.constants import Constant, Range, load_constants
from neuromorphic_llm.energy.digital import FORMATS, check_load, improved_banks, token_counters
from neuromorphic_llm.energy.leakage import further_products
from neuromorphic_llm.energy.memories import Memory, most_columns, reference_memories
from neuromorphic_llm.energy.prices import chip_prices, chip_quantities
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.simulation.counters import Counters

SCOPE = (
    "chip and its DRAM accesses, estimated from operation counts; crossbars and converters of the chip driven by the bits of INT8 inputs; "
    "memories in small banks, idle tiles gated with their bits retained"
)

INPUT_BITS = 8
PHASES = INPUT_BITS - 1
"""One for each bit of a magnitude; the sign is that of the row, which carries -1, 0 or 1 as it does for spikes."""


def bit_serial_reference(
    config: DecoderConfig, context: int, spec: ChipSpec, sequences: int = 1, *, constants: Mapping[str, Constant] | None = None
) -> EnergyAccount:
    """Energy of one decoded token with `context` visible tokens, of `sequences` in flight, on the chip's crossbars with bit-serial inputs.

    Its bounds are those of the constants and of the share of bits that are set, all at once.
    """
    check_load(context, sequences)
    constants = load_constants() if constants is None else constants
    share = constants["int8_magnitude_bits_set"].value
    streamed = token_cycles(config, context, spec, INPUT_BITS, sequences)
    low, nominal, high = (_account(config, context, spec, constants, streamed, each) for each in (share.low, share.nominal, share.high))
    parts = {name: Range(low.parts[name].low, part.nominal, high.parts[name].high) for name, part in nominal.parts.items()}
    return replace(nominal, parts=parts)


def _account(
    config: DecoderConfig, context: int, spec: ChipSpec, constants: Mapping[str, Constant], streamed: TokenCycles, share: float
) -> EnergyAccount:
    """Account of a token where the share `share` of the magnitude bits is set and a token streams in the cycles `streamed`."""
    events = _events(config, spec, share)
    cycles = _cycles(spec, events, streamed)
    memories = bit_serial_memories(config, spec)
    prices = {
        **chip_prices(spec, memories, constants, cycles.working(config, spec), further_products(spec, constants, maxima=True)),
        "multiply": constants[FORMATS["INT8"].multiply].value,
        "accumulate": constants[FORMATS["INT8"].accumulate].value,
    }
    counters = cycles.with_wakes(_counters(config, context, spec, events), config, spec)
    seconds = cycles.interval(config) / spec.clock_hz
    parts = load_actions("bit_serial").energy(all_counts(counters, seconds), prices, chip_quantities(spec))
    return EnergyAccount(parts, 1, SCOPE, seconds)


def bit_serial_memories(config: DecoderConfig, spec: ChipSpec) -> dict[str, Memory]:
    """Memories: those of the improved INT8 array but of weights, inputs in every tile of their site, and accumulators."""
    synapse = len(spec.topology.synapse_tiles())
    return {
        **reference_memories(config, spec, INPUT_BITS, True, improved_banks(spec)),
        "axon": Memory(max(site.inputs for site in config.sites), synapse),
        "accumulators": Memory(-(-spec.synapse.accumulator_bits // 8) * most_columns(config, spec), synapse, registers=True),
    }


def _events(config: DecoderConfig, spec: ChipSpec, share: float) -> NDArray[np.int64]:
    """Rows that are driven in a token, [1, sites, phases, row_blocks]: the share `share` of the rows of a block in every phase."""
    blocks = [spec.readout_circuit.row_blocks(site.inputs) for site in config.sites]
    events = np.zeros((1, len(blocks), PHASES, max(blocks)), np.int64)
    for number, site in enumerate(config.sites):
        for block in range(blocks[number]):
            rows = min(spec.synapse.rows, site.inputs - block * spec.synapse.rows)
            events[0, number, :, block] = round(share * rows)
    return events


def _phases(events: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.full(events.shape[:2], PHASES, np.int64)


def _cycles(spec: ChipSpec, events: NDArray[np.int64], streamed: TokenCycles) -> TokenCycles:
    """Cycles of a token: a site streams its inputs, reads its crossbars phase by phase, and streams its results."""
    readout = spec.readout  # bits are there from the start, so they are driven in the order in which the readout takes them
    read = spec.readout_circuit.phase_cycles(events, _phases(events), readout.read_latency, readout.mux_cycles, in_order=True)
    sites = (cycles + int(more) for cycles, more in zip(streamed.sites, read[0].sum(axis=1), strict=True))
    return replace(streamed, sites=tuple(sites))


def _counters(config: DecoderConfig, context: int, spec: ChipSpec, events: NDArray[np.int64]) -> Counters:
    """Counters of one token: those of the INT8 array, but at the sites those of the chip's crossbars (docs/reference/timing.md)."""
    readout, slices, sites = spec.readout_circuit, spec.synapse.slices, config.sites
    inputs, outputs = (np.array([getattr(site, name) for site in sites], np.int64) for name in ("inputs", "outputs"))
    rows = events.sum(axis=(0, 2, 3))
    macros = -(-outputs // spec.synapse.columns) * slices
    tiles = np.array([tiles_of_site(site, spec) for site in sites], np.int64)
    conversions = int(readout.conversions(events) @ outputs)
    axon_bits, accumulator = int(INPUT_BITS * inputs @ tiles), spec.synapse.accumulator_bits
    counted = token_counters(config, context, spec, FORMATS["INT8"], maximum_read=False)
    return replace(
        counted,
        synaptic_operations=int(rows @ outputs),
        row_drives=int(rows @ macros),
        cell_reads=int(rows @ outputs) * slices,
        conversions=conversions,
        integrations=int(readout.integrations(events) @ outputs),
        halvings=int(readout.halvings(events, _phases(events) - 1) @ outputs),
        squared_elements=int(inputs.sum()) if readout.squares else 0,
        accumulations=conversions,
        accumulator_bits_read=accumulator * (conversions + counted.output_values),
        accumulator_bits_written=accumulator * conversions,
        axon_bits_read=axon_bits,
        axon_bits_written=axon_bits,
    )
