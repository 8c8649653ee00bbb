"""The units: module, sizes, stimulus, and their counted operations; energy/rtl_units.py has what the account charges for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.synthesis.measure import RESET_CYCLES, Signals, Stimulus, Unit
from synthesis import stimuli


def _grown(*names: str) -> Callable[[Signals], dict[str, int]]:
    """Operations are what counters of the unit or its test bench grew by."""

    def operations(signals: Signals) -> dict[str, int]:
        return {name.lstrip("/").removeprefix("count_"): int(signals[name][-1] - signals[name][RESET_CYCLES]) for name in names}

    return operations


def _commanded(signals: Signals) -> NDArray[np.bool_]:
    """Cycles from `start` to `done`."""
    begun = np.cumsum(signals["start"])
    ended = np.cumsum(signals["done"])
    return (begun > np.concatenate([[0], ended[:-1]])) & (np.arange(len(begun)) >= RESET_CYCLES)


def _vector(
    name: str,
    instance: str,
    drive: Callable[[Bench], None],
    counters: tuple[str, ...],
    parameters: Mapping[str, int],
    commanded: bool = True,
) -> Unit:
    """A unit of the vector tile in its test bench, with the lanes of nano."""
    counted = (*counters, "start", "done") if commanded else counters
    stimulus = Stimulus(f"nmllm_{name}_tb", instance, drive, counted, _grown(*counters), _commanded if commanded else None)
    return Unit(name, f"nmllm_{name}", stimuli.NANO, parameters, stimulus)


def _starts(signals: Signals) -> dict[str, int]:
    return {"commands": int(signals["start"][RESET_CYCLES:].sum())}


def _flits(signals: Signals) -> dict[str, int]:
    taken = signals["in_valid"] & signals["in_ready"]
    return {"flits": int(np.bitwise_count(taken[RESET_CYCLES:].astype(np.uint64)).sum())}


def _accumulations(spec: ChipSpec, terms: int) -> Callable[[Signals], dict[str, int]]:
    """Terms that the accumulators of a tile take of every column."""

    def operations(signals: Signals) -> dict[str, int]:
        return {"accumulations": int(signals["add"][RESET_CYCLES:].sum()) * terms * (spec.synapse.columns // spec.readout.column_mux)}

    return operations


def _reading(signals: Signals) -> NDArray[np.bool_]:
    """Cycles in which a word of accumulators is selected, or arrives in the registers of the port."""
    read = signals["read"] == 1
    read[1:] |= read[:-1].copy()
    return read


def _adding(signals: Signals) -> NDArray[np.bool_]:
    """All other cycles."""
    return ~_reading(signals)


def _words(spec: ChipSpec) -> Callable[[Signals], dict[str, int]]:
    """Accumulators of the words that are read."""

    def operations(signals: Signals) -> dict[str, int]:
        return {"values": int(signals["read"][RESET_CYCLES:].sum()) * max(spec.synapse.argmax_lanes, 4)}

    return operations


def _conversions(signals: Signals) -> dict[str, int]:
    spec = stimuli.MEMBRANES
    first = signals["convert"] & signals["convert_first"]
    columns = spec.synapse.columns // spec.readout.column_mux
    return {"conversions": int(first[RESET_CYCLES:].sum()) * columns + int(signals["repeats"][RESET_CYCLES:].sum())}


def _columns(signals: Signals) -> dict[str, int]:
    return {"values": int(signals["read_count"][signals["read"] == 1].sum())}


def _gates(signals: Signals) -> dict[str, int]:
    return {"gates": int(signals["read_count"][signals["read"] == 1].sum()) // 2}


def _tile(
    name: str,
    module: str,
    instance: str,
    drive: Callable[[Bench], None],
    counted: tuple[str, ...],
    count: Callable[[Signals], dict[str, int]],
    parameters: Mapping[str, int] | None = None,
    rows: Mapping[str, int] | None = None,
    spec: ChipSpec = stimuli.GROUP,
    working: Callable[[Signals], NDArray[np.bool_]] | None = None,
) -> Unit:
    """A unit of a synapse tile with one group of macros."""
    stimulus = Stimulus("nmllm_synapse_tile", instance, drive, counted, count, working, rows=rows or {})
    return Unit(name, module, spec, parameters or {}, stimulus)


def _accumulators(name: str, drive: Callable[[Bench], None], spec: ChipSpec, terms: int, bits: int) -> list[Unit]:
    """The accumulators while terms are added, and while their words are read."""
    parameters = {"READ_LANES": max(spec.synapse.argmax_lanes, 4), "TERMS": terms, "TERM_BITS": bits}

    def unit(operation: str, count: Callable[[Signals], dict[str, int]], working: Callable[[Signals], NDArray[np.bool_]]) -> Unit:
        return _tile(
            f"accumulators ({name}{operation})",
            "nmllm_accumulators",
            "u_accumulators",
            drive,
            ("add", "read"),
            count,
            parameters,
            {"terms": terms},
            spec,
            working,
        )

    return [unit("", _accumulations(spec, terms), _adding), unit(", read", _words(spec), _reading)]


def _attention(part: str, counters: tuple[str, ...], parameters: Mapping[str, int], instance: str = "") -> Unit:
    """A part of the attention engine in the test bench of the engine."""
    counted = tuple(f"/count_{counter}" for counter in counters)
    stimulus = Stimulus(
        "nmllm_attention_tb",
        f"u_engine.{instance or f'u_{part}'}",
        stimuli.attention,
        counted,
        _grown(*counted),
        None,
        stimuli.ATTENTION.parameters,
    )
    return Unit(f"attention_{part}", f"nmllm_attention_{part}", stimuli.ATTENTION.spec, parameters, stimulus)


_ENCODER = {"ADDRESS_BITS": 10, "MAX_INPUTS": 512}
_ENGINE = {"HEAD_DIM": stimuli.ATTENTION.head_dim, "GROUP": stimuli.ATTENTION.group}
_KV_ROWS = stimuli.ATTENTION.kv_bytes // (2 * stimuli.ATTENTION.head_dim + 1)
_BLOCKS = -(-_KV_ROWS // stimuli.ATTENTION.key_lanes) + stimuli.ATTENTION.slots
_SOFTMAX_WORDS = -(-_KV_ROWS // stimuli.ATTENTION.softmax_lanes)

_GATED = stimuli.NANO.with_fields({"power.gating": "all"})

UNITS = [
    Unit(
        "router",
        "nmllm_router",
        stimuli.NANO,
        {},
        Stimulus("nmllm_router", "", stimuli.router, ("in_valid", "in_ready"), _flits),
    ),
    _tile("read_scheduler", "nmllm_read_scheduler", "g_exact.u_readout.u_scheduler", stimuli.synapse_values, ("read",), lambda _: {}),
    _tile(
        "membrane_scheduler",
        "nmllm_membrane_scheduler",
        "g_membranes.u_readout.u_scheduler",
        stimuli.synapse_membranes,
        ("convert",),
        lambda _: {},
        spec=stimuli.MEMBRANES,
    ),
    _tile(
        "range_logic",
        "nmllm_range_logic",
        "g_membranes.u_readout.g_groups[0].u_ranges",
        stimuli.synapse_membranes,
        ("convert", "convert_first", "repeats"),
        _conversions,
        spec=stimuli.MEMBRANES,
    ),
    *_accumulators(
        "exact", stimuli.synapse_values, stimuli.GROUP, stimuli.GROUP.synapse.slices, stimuli.GROUP.readout_circuit.converter_bits
    ),
    *_accumulators("membranes", stimuli.synapse_membranes, stimuli.MEMBRANES, 1, stimuli.MEMBRANES.synapse.accumulator_bits),
    _tile("output_stage", "nmllm_output_stage", "u_output", stimuli.synapse_values, ("read", "read_count"), _columns),
    _tile("output_stage (gate)", "nmllm_output_stage", "u_output", stimuli.synapse_gate, ("read", "read_count"), _gates),
    _vector("add", "u_add", stimuli.add, ("count_elements",), {"ADDRESS_BITS": 10}),
    _vector("norm", "u_norm", stimuli.norm, ("count_elements", "count_square_roots", "count_divisions"), {"ADDRESS_BITS": 10}),
    _vector(
        "rope",
        "u_rope",
        stimuli.rope,
        ("count_elements", "count_maximum_elements"),
        {"ADDRESS_BITS": 10, "TABLE_ADDRESS_BITS": 10},
    ),
    _vector("kv_write", "u_kv_write", stimuli.kv_write, ("count_elements",), {"ADDRESS_BITS": 10, "MAX_HEAD_DIM": 64}, commanded=False),
    _vector(
        "encoder",
        "u_encoder",
        stimuli.encoder,
        ("count_encode_elements", "count_maximum_elements"),
        _ENCODER,
    ),
    Unit(
        "encoder (element)",
        "nmllm_encoder",
        stimuli.ENCODER_ELEMENTS.spec,
        _ENCODER | stimuli.ENCODER_ELEMENTS.parameters,
        Stimulus(
            "nmllm_encoder_tb",
            "u_encoder",
            stimuli.encoder_elements,
            ("count_encode_elements", "count_maximum_elements", "start", "done"),
            _grown("count_encode_elements", "count_maximum_elements"),
            _commanded,
            stimuli.ENCODER_ELEMENTS.parameters,
        ),
    ),
    Unit(
        "isqrt",
        "nmllm_isqrt",
        stimuli.NANO,
        {"RADICAND_BITS": 62},
        Stimulus("nmllm_isqrt", "", stimuli.square_root, ("start",), _starts),
    ),
    Unit(
        "divide",
        "nmllm_divide",
        stimuli.NANO,
        {"DIVISOR_BITS": 31, "QUOTIENT_BITS": 17},
        Stimulus("nmllm_divide", "", stimuli.divide, ("start",), _starts),
    ),
    _attention("encoder", ("encode_elements",), _ENGINE, "g_phase.u_encoder"),
    Unit(
        "attention_encoder (element)",
        "nmllm_attention_element_encoder",
        stimuli.ATTENTION_ELEMENTS.spec,
        _ENGINE,
        Stimulus(
            "nmllm_attention_tb",
            "u_engine.g_element.u_encoder",
            stimuli.attention_elements,
            ("/count_encode_elements",),
            _grown("/count_encode_elements"),
            None,
            stimuli.ATTENTION_ELEMENTS.parameters,
        ),
    ),
    _attention("scores", ("score_operations",), _ENGINE | {"BLOCKS": _BLOCKS}),
    _attention("softmax", ("softmax_elements",), {"GROUP": stimuli.ATTENTION.group, "CONTEXT": _KV_ROWS, "SUM_BITS": 16}),
    _attention(
        "values",
        ("value_operations", "probability_spikes"),
        {"HEAD_DIM": stimuli.ATTENTION.head_dim, "ROWS": _KV_ROWS, "WORDS": _SOFTMAX_WORDS, "SUM_BITS": 26},
    ),
    _attention("output", ("attention_values",), {"HEAD_DIM": stimuli.ATTENTION.head_dim, "SUM_BITS": 26}),
    Unit("attention_memory", "nmllm_attention_memory", stimuli.ATTENTION.spec, {"HEAD_DIM": 16, "BLOCKS": _BLOCKS, "ROWS": _KV_ROWS}),
    Unit("attention_divide", "nmllm_attention_divide", stimuli.ATTENTION.spec, {"BITS": 16}),
    Unit("sequencer", "nmllm_sequencer", stimuli.NANO),
    Unit("injection", "nmllm_injection", stimuli.NANO),
    Unit("residual_buffers", "nmllm_residual_buffers", stimuli.NANO),
    Unit("orders", "nmllm_orders", _GATED),
    Unit("tile_switch", "nmllm_tile_switch", _GATED, {"VECTOR": 1}),
    Unit("router_switch", "nmllm_router_switch", _GATED),
]
"""The first ones are run; the last ones, without stimulus, have area and timing only."""
