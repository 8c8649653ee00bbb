"""The model nano on the chip nano, as the tests of the whole chip run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from parity import with_membranes

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.devices.membrane import Membrane
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.pipeline.convert import for_chip
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.rtl.chip import RtlChip
from neuromorphic_llm.simulation.recorded import RecordedRun, record_run


@cache
def program() -> Program:
    checkpoint = load_checkpoint("nano")
    network = convert(checkpoint, ConvertConfig(), calibration_windows(checkpoint.tokenizer(), count=2))
    return compile_network(network.weights, load_spec("nano"), tokenizer_files=checkpoint.tokenizer_files)


@cache
def element_program() -> Program:
    """The same on a chip with the encoder `element`, whose memories are cut into banks."""
    changes = {"vector.encoder": "element", "vector.kv_bank_bytes": 4096, "vector.memory_bank_bytes": 4096}
    return compile_network(program().weights, load_spec("nano").with_fields(changes))


@cache
def centred_program() -> Program:
    """The same with large offsets of the keys in its first and last layer."""
    weights = program().weights
    layers, config = list(weights.layers), weights.config
    for number in (0, config.layers - 1):
        drawn = np.random.default_rng(number).normal(0.0, 40.0 * 2.0**weights.formats.qkv, (config.kv_heads, config.head_dim))
        layers[number] = layers[number].replaced(key_offset=np.rint(drawn).astype(np.int32))
    return compile_network(replace(weights, layers=tuple(layers)), load_spec("nano"))


@cache
def gated_program(gating: str, wake_cycles: int) -> Program:
    """The same on a chip that switches off what has no work."""
    return replace(program(), spec=program().spec.with_fields({"power.gating": gating, "power.wake_cycles": wake_cycles}))


@cache
def decay_program() -> Program:
    """The model on nano2 with membranes that decay, in four steps to an octave."""
    changes = {"readout.kind": "membrane-decay", "readout.steps": 4}
    spec, checkpoint = load_spec("nano2").with_fields(changes), load_checkpoint("nano")
    options = ConvertConfig(spikes=0.9, code="first-spike-log", phases=8, code_parameters=(("steps", 4),))
    network = convert(checkpoint, for_chip(options, spec), calibration_windows(checkpoint.tokenizer(), count=2))
    return compile_network(network.weights, spec, tokenizer_files=checkpoint.tokenizer_files)


@cache
def membrane_program() -> Program:
    """The same on nano with membranes, whose random ranges make conversions saturate."""
    spec = load_spec("nano").with_fields({"readout.kind": "membrane", "readout.converter_bits": 7, "readout.conversion_cycles": 2})
    assert isinstance(spec.readout_circuit, Membrane)
    return compile_network(with_membranes(program().weights, spec.readout_circuit), spec)


SMALL = {
    "mesh.width": 5,
    "mesh.height": 3,
    "mesh.vector_period": 5,
    "mesh.vector_offset": 2,
    "synapse.rows": 16,
    "synapse.columns": 32,
    "synapse.crossbars": 8,
    "readout.active_rows": 7,
}
"""A chip of 15 tiles, which a random model of two layers fills: sites of two and three row blocks, gate and up in two regions."""


@cache
def small_joined_program() -> Program:
    """A random model on small nano2, two row blocks of a column joined."""
    spec = load_spec("nano2").with_fields({**SMALL, "readout.converter_bits": 6, "readout.joined": 2})
    assert isinstance(spec.readout_circuit, Membrane)
    return compile_network(with_membranes(random_decoder(0), spec.readout_circuit), spec)


@cache
def small_reread_program() -> Program:
    """The model on small nano with converters that saturate."""
    fields = {"readout.kind": "reread", "readout.converter_bits": 6, "readout.high_bits": 5}
    return compile_network(random_decoder(0), load_spec("nano").with_fields({**SMALL, **fields}))


@cache
def nano2_program() -> Program:
    """The same on nano2: membranes, as above, encoders by elements, gated tiles and routers."""
    spec = load_spec("nano2").with_fields({"readout.converter_bits": 7})
    assert isinstance(spec.readout_circuit, Membrane)
    return compile_network(with_membranes(program().weights, spec.readout_circuit), spec)


@cache
def calibrated_program() -> Program:
    """Nano on nano2, with calibrated ranges."""
    checkpoint, spec = load_checkpoint("nano"), load_spec("nano2")
    options, windows = for_chip(ConvertConfig(), spec), calibration_windows(checkpoint.tokenizer(), count=2)
    return compile_network(convert(checkpoint, options, windows).weights, spec, tokenizer_files=checkpoint.tokenizer_files)


@cache
def chip() -> RtlChip:
    return RtlChip(program())


def recorded(prompt: Sequence[int], new: int) -> RecordedRun:
    """A generation by the simulators."""
    return record_run(program(), [prompt], new, ())
