"""From nc1 to nc2, measure by measure: energy, cycles and area of a decoded token's chip, as a Markdown table.

python benchmarks/chip_steps.py nc2.network
python benchmarks/chip_steps.py nc2.network --prompt "One morning" --max-new-tokens 32

nc2.network is converted for nc2 (`nmllm convert MODEL -o nc2.network --chip nc2`); the first step runs it with exact readouts. A row is the
chip with its measure and all above it; the last one is nc2 itself, which is checked.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import neuromorphic_llm as nl
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.devices.readout import BlockReadout, get_readout
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.weights import LinearWeights

STEPS: dict[str, dict[str, Any]] = {
    "nc1": {},
    "membranes: one conversion per token": {"readout.kind": "membrane", "readout.converter_bits": 9, "readout.read_latency": 5},
    "all rows of a block at once": {"readout.active_rows": 256},
    "every column converted by itself": {"readout.column_mux": 1, "readout.conversion_cycles": 10},
    "memories in banks of 2 KB": {"vector.kv_bank_bytes": 2048, "vector.memory_bank_bytes": 2048},
    "encoders element by element": {"vector.encoder": "element"},
    "cells of phase-change memory": {"synapse.cell": "pcm"},
    "idle tiles off": {"power.gating": "tiles"},
    "idle routers off": {"power.gating": "all"},
    "query heads of a group at once": {"vector.head_lanes": 3},
    "maxima taken while vectors are written": {"vector.maximum": "written"},
}
"""Measures and the fields that take them."""


def network_for(network: SpikingNetwork, spec: ChipSpec) -> SpikingNetwork:
    """The network for the readout of a chip; an exact one has no ranges."""
    readout = spec.readout_circuit
    if isinstance(readout, BlockReadout):
        return replace(network, weights=replace(network.weights, readout=readout), stored_hash="")

    def without_ranges(_: object, site: LinearWeights) -> LinearWeights:
        return replace(site, ranges=None)

    weights = replace(network.weights.with_sites(without_ranges), readout=get_readout("exact"))
    return replace(network, weights=weights, stored_hash="")


def shown(bounds: Mapping[str, float], unit: float) -> str:
    """Nominal value and bounds in a unit."""
    low, nominal, high = (f"{bounds[name] / unit:.3g}" for name in ("low", "nominal", "high"))
    return f"{nominal} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("--prompt", default="The harbour has a new bridge")
    parser.add_argument("--max-new-tokens", type=int, default=12)
    arguments = parser.parse_args()
    network, spec = SpikingNetwork.load(arguments.network), load_spec("nc1")
    if spec.with_fields({"name": "nc2"} | {name: value for fields in STEPS.values() for name, value in fields.items()}) != load_spec("nc2"):
        raise SystemExit("the steps do not end at nc2; correct STEPS")
    print("| step | fields | energy, µJ | cycles | area, mm² |\n| --- | --- | --- | --- | --- |")
    for step, fields in STEPS.items():
        spec = spec.with_fields(fields)
        program = nl.compile(network_for(network, spec), spec)
        result = nl.simulate(program, arguments.prompt, max_new_tokens=arguments.max_new_tokens).to_json()
        energy, area = (shown(result[name], unit) for name, unit in (("chip_energy_j_per_token", 1e-6), ("area_mm2", 1)))
        named = ", ".join(f"`{name}: {value}`" for name, value in fields.items())
        print(f"| {step} | {named} | {energy} | {result['cycles_per_token']:,.0f} | {area} |", flush=True)


if __name__ == "__main__":
    main()
