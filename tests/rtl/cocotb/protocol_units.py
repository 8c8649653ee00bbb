"""The units with a stream or a command: their sizes, monitors and work, which is that of the units' own tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stepper import Command, Monitor, Stream

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.spikes.registry import get_code


def tests_of(unit: str) -> Any:
    """The module with the unit's tests; other folders of tests have modules of the same names."""
    path = Path(__file__).parents[1] / f"test_{unit}.py"
    spec = importlib.util.spec_from_file_location(f"rtl_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ADD, ATTENTION, ENCODER, HOST_TILE, INJECTION, KV_WRITE, NORM, ROPE, SYNAPSE_TILE = (
    tests_of(unit) for unit in ("add", "attention", "encoder", "host_tile", "injection", "kv_write", "norm", "rope", "synapse_tile")
)

Scenario = Callable[[Bench, Any, int, int, float, float], None]
"""Bench, size, seed, cycles at least, share of idle cycles and of backpressure. Streams and commands that draw these take the seed only."""

ALL_PAUSES = [(0.0, 0.0), (0.0, 0.6), (0.5, 0.0), (0.5, 0.6), (0.9, 0.95)]


@dataclass(frozen=True)
class Unit:
    """A top module; `sizes` are what its tests call a size, `spec` and `parameters` make a build of it."""

    top: str
    sizes: Sequence[Any]
    scenario: Scenario | None
    monitors: Callable[[], Iterable[Monitor]]
    spec: Callable[[Any], ChipSpec] = lambda size: size
    parameters: Callable[[Any], Mapping[str, int]] = lambda _: {}
    pauses: Sequence[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0), (0.5, 0.0)])


def add(bench: Bench, spec: ChipSpec, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    ADD.run(bench, spec.vector.lanes, spec.vector.latency, seed, cycles)


def norm(bench: Bench, spec: ChipSpec, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    NORM.run(bench, spec.vector.lanes, spec.vector.norm_latency, seed, cycles)


def rope(bench: Bench, spec: ChipSpec, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    ROPE.run(bench, spec.vector.lanes, spec.vector.latency, seed, cycles)


def kv_write(bench: Bench, spec: ChipSpec, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    KV_WRITE.run(bench, spec.vector.lanes, spec.vector.latency, seed, cycles)


def encoder(bench: Bench, size: Any, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    ENCODER.Run(bench, size, seed, cycles, backpressure).run()


def synapse_tile(bench: Bench, name: str, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    cases = [case[1:] for case in SYNAPSE_TILE.CASES if case[0] == name]
    inputs, columns, code, epilogue, shift = cases[seed % len(cases)]
    spec, rng = SYNAPSE_TILE.SPECS[name], np.random.default_rng(seed)
    region = SYNAPSE_TILE.random_region(spec, inputs, columns, get_code(code), epilogue, rng, shift)
    bench.reset()
    SYNAPSE_TILE.compare(bench, region, cycles, idle, backpressure, rng)


def host_tile(bench: Bench, name: str, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    rng = np.random.default_rng(seed)
    while cycles > 0:
        hidden, prompt, new_tokens, sequences = (int(n) for n in rng.integers(1, [100, 5, 6, 4]))
        texts = HOST_TILE.random_texts(HOST_TILE.chip(name), hidden, 3, [(prompt, new_tokens)] * sequences, rng)
        cycles -= HOST_TILE.check(bench, texts, backpressure, rng)


def injection(bench: Bench, spec: ChipSpec, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    INJECTION.Run(spec, cycles, backpressure, np.random.default_rng(seed)).check(bench)


def attention(bench: Bench, name: str, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    rng, shape = np.random.default_rng(seed), ATTENTION.SHAPES[name]
    tokens = max(cycles // 100, 3)
    network = ATTENTION.random_network(shape, tokens, rng)
    queries = ATTENTION.random_queries(shape, tokens, [1, tokens, 2], rng)
    ATTENTION.check(bench, network, queries, rng)


def commands(*busy: str) -> Callable[[], list[Monitor]]:
    return lambda: [Command(busy)]


def streams(*names: str) -> Callable[[], list[Monitor]]:
    return lambda: [Stream(name, [f"{name}_flit"]) for name in names]


UNITS = {
    "router": Unit(
        "nmllm_router_ports",
        [ENCODER.chip(8, {"noc.fifo_depth": depth}) for depth in (4, 1, 3)],
        None,
        lambda: [Stream(f"out{n}", []) for n in range(4)],
        pauses=ALL_PAUSES,
    ),
    "synapse_tile": Unit(
        "nmllm_synapse_tile", list(SYNAPSE_TILE.SPECS), synapse_tile, streams("out"), SYNAPSE_TILE.SPECS.__getitem__, pauses=ALL_PAUSES
    ),
    "encoder": Unit(
        "nmllm_encoder_tb",
        [*ENCODER.SIZES[:3], *ENCODER.SIZES[5:8]],
        encoder,
        lambda: [*streams("spike")(), *commands("write_enable")()],
        lambda size: size.spec,
        lambda size: size.parameters,
        pauses=ALL_PAUSES,
    ),
    "host_tile": Unit("nmllm_host_tile", list(HOST_TILE.CHIPS), host_tile, streams("out"), HOST_TILE.chip, pauses=ALL_PAUSES),
    "injection": Unit(
        "nmllm_injection", INJECTION.CHIPS, injection, streams("out"), parameters=lambda _: {"WORDS": INJECTION.WORDS}, pauses=ALL_PAUSES
    ),
    "norm": Unit("nmllm_norm_tb", NORM.CHIPS[:3], norm, commands("write_enable")),
    "add": Unit("nmllm_add_tb", ADD.CHIPS, add, commands("write_enable")),
    "rope": Unit("nmllm_rope_tb", ROPE.CHIPS[:3], rope, commands("write_enable")),
    "kv_write": Unit("nmllm_kv_write_tb", KV_WRITE.CHIPS[:3], kv_write, commands()),
    "attention": Unit(
        "nmllm_attention_tb",
        ["nano", "shared-words", "one-head", "nano-element", "shared-words-element"],
        attention,
        commands("output_valid"),
        lambda name: ATTENTION.SHAPES[name].spec,
        lambda name: ATTENTION.SHAPES[name].parameters,
    ),
}
