"""What drives each unit: the scripts of its tests, and random flits for a single router."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
from attention_script import Shape
from attention_script import check as check_attention
from synapse_script import random_region

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.rtl.bench import Bench, pack
from neuromorphic_llm.rtl.synapse import Epilogue
from neuromorphic_llm.spikes.registry import get_code


def _test(unit: str) -> ModuleType:
    """The tests of a unit, by their file: other folders have tests of the same name."""
    spec = importlib.util.spec_from_file_location(f"synthesis_test_{unit}", Path(__file__).parents[1] / f"test_{unit}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ADD, ATTENTION_TEST, DIVIDE, ENCODER = (_test(unit) for unit in ("add", "attention", "divide", "encoder"))
KV_WRITE, NORM, ROPE, SYNAPSE_TILE = (_test(unit) for unit in ("kv_write", "norm", "rope", "synapse_tile"))

NANO = load_spec("nano")
ENCODER_ELEMENTS = ENCODER.Size(NANO.with_fields({"vector.encoder": "element"}), phases=14)
"""An encoder by elements with the stages that signed digits need."""
ATTENTION = ATTENTION_TEST.NANO
ATTENTION_ELEMENTS = ATTENTION_TEST.SHAPES["nano-element"]
GROUP = SYNAPSE_TILE.SPECS["single"]
"""A synapse tile with one group of macros."""
MEMBRANES = SYNAPSE_TILE.NANO2.with_fields({"synapse.crossbars": 2, "readout.column_mux": 4})
"""The same with membranes, as nano2 has them, and as many converters."""

CYCLES = 1500
"""Of the vector units."""


def add(bench: Bench) -> None:
    """Residual additions of random vectors."""
    ADD.run(bench, NANO.vector.lanes, NANO.vector.latency, 0, CYCLES)


def norm(bench: Bench) -> None:
    """Norms of random vectors."""
    NORM.run(bench, NANO.vector.lanes, NANO.vector.norm_latency, 0, CYCLES)


def rope(bench: Bench) -> None:
    """Rotations of random heads."""
    ROPE.run(bench, NANO.vector.lanes, NANO.vector.latency, 0, CYCLES)


def kv_write(bench: Bench) -> None:
    """Random keys and values to 8 bits."""
    KV_WRITE.run(bench, NANO.vector.lanes, NANO.vector.latency, 0, CYCLES)


def encoder(bench: Bench) -> None:
    """Encodings of random vectors in all codes."""
    ENCODER.Run(bench, ENCODER.Size(NANO), 0, CYCLES).run()


def encoder_elements(bench: Bench) -> None:
    """The same by elements."""
    ENCODER.Run(bench, ENCODER_ELEMENTS, 0, CYCLES).run()


def square_root(bench: Bench) -> None:
    """Roots of numbers of every size, one after another."""
    rng = np.random.default_rng(1)
    DIVIDE._run(bench, {"radicand": rng.integers(0, 1 << 62, 40) >> rng.integers(0, 62, 40)}, 32, "root")


def divide(bench: Bench) -> None:
    """Quotients of numbers of every size, one after another."""
    rng = np.random.default_rng(1)
    divisor = np.maximum(rng.integers(0, 1 << 31, 60) >> rng.integers(0, 31, 60), 1)
    DIVIDE._run(bench, {"dividend": rng.integers(0, divisor << 17), "divisor": divisor}, 18, "quotient")


def router(bench: Bench) -> None:
    """Flits of spikes and values on three in ten cycles of every input, routes with one output and some with more."""
    rng = np.random.default_rng(1)
    routes = 1 << NANO.route_bits
    masks = 1 << rng.integers(0, 5, routes)
    masks[::8] |= 1 << rng.integers(0, 5, routes)[::8]
    bench.reset()
    bench.run({"cfg_valid": 1, "cfg_address": np.arange(routes), "cfg_data": masks.astype(np.uint64)}, outputs=())
    flits = (CYCLES - routes, 5)
    inputs = rng.integers(0, 1 << 10, (*flits, 4)).astype(np.uint64)
    negative = rng.integers(0, 2, (*flits, 4)).astype(np.uint64)
    events = np.uint64(1 << 15) | negative << np.uint64(14) | inputs
    spikes = (events << (np.arange(4, dtype=np.uint64) * np.uint64(16))).sum(axis=-1, dtype=np.uint64)
    low, high = (np.rint(rng.laplace(0, 2.0**14, flits)).astype(np.int64).astype(np.uint64) & np.uint64(0xFFFFFFFF) for _ in range(2))
    payload = np.where(rng.random(flits) < 0.7, spikes, low | high << np.uint64(32))
    fields = [(rng.integers(0, routes, flits).ravel(), NANO.route_bits), (rng.integers(0, 2, flits).ravel(), 1)]
    flit = pack([*fields, (rng.integers(0, 32, flits).ravel(), 16), (payload.ravel(), 64)]).reshape(*flits, -1)
    bench.run({"in_valid": rng.random(flits) < 0.3, "in_flit": flit, "out_ready": rng.random((len(flit), 4)) < 0.9})


def _synapse(bench: Bench, epilogue: Epilogue, spec: ChipSpec = GROUP) -> None:
    rng = np.random.default_rng(3)
    bench.reset()
    SYNAPSE_TILE.compare(bench, random_region(spec, 64, 64, get_code("signed-digit"), epilogue, rng), 1200, 0.0, 0.1, rng)


def synapse_values(bench: Bench) -> None:
    """Random trains into one group of macros, values out."""
    _synapse(bench, Epilogue.VALUES)


def synapse_gate(bench: Bench) -> None:
    """The same with gated products."""
    _synapse(bench, Epilogue.GATE)


def synapse_membranes(bench: Bench) -> None:
    """Random trains into one group with membranes, values out."""
    _synapse(bench, Epilogue.VALUES, MEMBRANES)


def _attention(bench: Bench, shape: Shape) -> None:
    rng = np.random.default_rng(5)
    network, queries = ATTENTION_TEST.realistic(shape, 24, rng)
    check_attention(bench, network, [(queries[0], 24), (queries[1], 20)], rng)


def attention(bench: Bench) -> None:
    """Queries of all heads over 24 tokens, sizes as of a network."""
    _attention(bench, ATTENTION)


def attention_elements(bench: Bench) -> None:
    """The same, queries coded by elements."""
    _attention(bench, ATTENTION_ELEMENTS)
