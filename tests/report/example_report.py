"""A small report.json of a run, as it was before energies over the context, latencies and rivals at equal care were in it."""

from __future__ import annotations

import copy
from typing import Any

from neuromorphic_llm.energy import RIVALS

RANGE = {"low": 1e-6, "nominal": 2e-6, "high": 5e-6}
TILE = {"y": 0, "stage": 0}
REPORT: dict[str, Any] = {
    "command": "run",
    "seed": 0,
    "started": "2026-11-22T12:00:00+00:00",
    "wall_s": 12.0,
    "arguments": {"max_new_tokens": 8, "spikes": 1.5},
    "versions": {"neuromorphic-llm": "0.1.0", "numba": None},
    "machine": {"cpu": "a processor", "threads": 2, "memory_bytes": 2**34, "gpu": None},
    "model": "a <model>",
    "article": "An article & more.",
    "prompt_tokens": 5,
    "summary": {"dense": "Short.", "spiking": ""},
    "perplexity": {"dense": 20.0, "spiking": 21.0},
    "compile": {
        "tiles": 3,
        "tiles_available": 4,
        "crossbars": 2,
        "crossbars_available": 8,
        "utilisation": 0.5,
        "sram_bytes": 4096,
        "dram_bytes": 2048,
        "max_context": 64,
    },
    "simulate": {
        "token_ids": [1, 2],
        "chip": "nano",
        "clock_hz": 5e8,
        "counted_phase": "decode",
        "cycles_per_token": 1000.0,
        "prefill_s": 1e-3,
        "chip_tokens_per_s": 5e5,
        "chip_energy_j_per_token": RANGE,
        "energy_scope": "chip",
        "energy_breakdown_j": {"cells": RANGE, "another part": {"low": 0.0, "nominal": 0.0, "high": 0.0}},
        "synaptic_operations_per_token": 100.0,
        "spikes_per_activation": 1.5,
        "spikes_per_token_by_site": {"layers.0.qkv": 4.0},
        "wall_tokens_per_s": 10.0,
    },
    "baseline": {
        "dtype": "float32",
        "device": "a processor",
        "tokens_per_s": 2.0,
        "energy_j_per_token": None,
        "energy_j_per_token_reason": "no counter is readable",
        "energy_scope": "package",
    },
    "eval": {
        "task": "default",
        "tokens": 64,
        "window": 32,
        "kl_to_dense": 0.01,
        "top1_agreement": 0.9,
        "spikes_per_activation": 1.5,
        "query_spikes_per_value": 1.8,
        "probability_spikes_per_pair": 1.0,
        "spikes_per_input_by_site": {"layers.0.qkv": 1.0, "layers.0.output": 1.2, "head": 1.5},
    },
    "layers": {"cosine": [0.99], "raster": {"layers.0.qkv": [[0, 1], [-1, 0]]}, "raster_layer": 0, "kind": "measured"},
    "quality": {
        "tokens": 32,
        "dense": 20.0,
        "spiking": [{"perplexity": 21.0, "spikes_per_activation": 1.5}, {"perplexity": 22.0, "spikes_per_activation": 1.0}],
        "quantised": [{"name": name, "perplexity": value} for name, value in (("INT8", 20.5), ("INT6", 30.0), ("half", 40.0))],
    },
    "references": {"context": 6, **{name: {"energy_j_per_token": RANGE} for name in ("int8", "int8_sram", "fp16")}, "gpu": []},
    "floorplan": [
        {"index": 0, "x": 0, "part": "host", "site": None, "columns": 0, "y": 0, "stage": None},
        {"index": 1, "x": 1, "part": "qkv", "site": "layers.0.qkv", "columns": 10, **TILE},
        {"index": 2, "x": 2, "part": "unused", "site": None, "columns": 0, "y": 0, "stage": None},
    ],
    "steps": [{"name": "convert", "reused": True, "wall_s": 0.02}],
}


def with_curves() -> dict[str, Any]:
    """The report with what later runs have: all rivals, energies at 8 and 16 visible tokens, where 1,000 cycles go, and areas."""
    report = copy.deepcopy(REPORT)
    area = {"low": 600.0, "nominal": 1544.0, "high": 8720.0}
    parts = {"cells": area, "membranes": {"low": 0.0, "nominal": 0.0, "high": 0.0}}
    report["compile"] |= {"area_mm2": area, "area_breakdown_mm2": parts, "rival_area_mm2": {"int8": area}}
    report["references"] |= {name: {"energy_j_per_token": RANGE} for name in RIVALS}
    energies = {f"{name}_energy_j_per_token": RANGE for name in ("chip", *RIVALS)}
    report["energy_over_context"] = [
        {"context": context, "tokens": 5, "cycles_per_token": 1000.0, **energies, "kind": "estimated"} for context in (8, 16)
    ]
    stage = {"synapse": 200.0, "attention": 100.0, "vector": 50.0, "encode": 100.0}
    units = {name: 2 * cycles for name, cycles in stage.items()} | {"host": 60.0, "network": 40.0}
    report["latency"] = {"tokens": 1, "cycles_per_token": 1000.0, "units": units, "stages": [stage, stage], "kind": "simulated"}
    return report
