"""Gates of units of the RTL at other sizes than those of the synthesis table, and of the INT8 products of the rivals.

    python benchmarks/area_laws.py --library sg13g2_stdcell_typ_1p20V_25C.lib
    python benchmarks/area_laws.py --library ... --units router products

Prints the area of each mapped unit over that of the library's smallest NAND of two inputs. docs/reference/area.md takes units in
proportion to their lanes, rows, columns or bits; these are the sizes at which that was looked at. Accumulators take minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.rtl.synthesis.liberty import read_library
from neuromorphic_llm.rtl.synthesis.mapping import SynthesisTarget, map_module

NANO = load_spec("nano")
GROUP = NANO.with_fields({"synapse.crossbars": 2})
"""A synapse tile with one group of macros."""

PRODUCTS = Path(__file__).with_name("area_products.sv")
"""Signed INT8 products of one output, their sum and its register of 32 bits."""

_LANES = {"READ_LANES": 8}
_VECTOR = {"ADDRESS_BITS": 10}
RUNS: Mapping[str, tuple[str, list[tuple[ChipSpec, Mapping[str, int]]]]] = {
    "router": ("nmllm_router", [(NANO.with_fields({"noc.fifo_depth": depth}), {}) for depth in (2, 4, 8)]),
    "read_scheduler": (
        "nmllm_read_scheduler",
        [(GROUP.with_fields(fields), {}) for fields in ({}, {"synapse.rows": 128}, {"synapse.crossbars": 4})],
    ),
    "accumulators": (
        "nmllm_accumulators",
        [
            (GROUP, _LANES),
            (GROUP, {"READ_LANES": 4}),
            *((GROUP.with_fields(fields), _LANES) for fields in ({"synapse.columns": 32}, {"readout.column_mux": 8})),
        ],
    ),
    "range_logic": ("nmllm_range_logic", [(load_spec("nano2").with_fields({"synapse.crossbars": 2}), {})]),
    "signed_digits": ("nmllm_signed_digits", [(NANO.with_fields({"vector.lanes": lanes}), {}) for lanes in (8, 16)]),
    "output_stage": ("nmllm_output_stage", [(GROUP.with_fields({"synapse.argmax_lanes": lanes}), {}) for lanes in (8, 16)]),
    "add": ("nmllm_add", [(NANO.with_fields({"vector.lanes": lanes}), _VECTOR) for lanes in (8, 16)]),
    "encoder": ("nmllm_encoder", [(NANO.with_fields({"vector.lanes": lanes}), _VECTOR | {"MAX_INPUTS": 512}) for lanes in (8, 16)]),
    "attention_scores": (
        "nmllm_attention_scores",
        [(NANO, {"HEAD_DIM": 16, "GROUP": group, "SET": heads, "BLOCKS": 128}) for group, heads in ((2, 1), (2, 2), (1, 1))],
    ),
    "attention_softmax": (
        "nmllm_attention_softmax",
        [(NANO, {"GROUP": 2, "SET": heads, "CONTEXT": 992, "MAXIMUM_WRITTEN": written}) for heads, written in ((1, 0), (2, 0), (1, 1))],
    ),
    "attention_values": (
        "nmllm_attention_values",
        [(NANO, {"HEAD_DIM": 16, "SET": heads, "ROWS": 1985, "WORDS": 124}) for heads in (1, 2)],
    ),
    "maximum": ("nmllm_maximum", [(NANO.with_fields({"vector.lanes": lanes}), {}) for lanes in (8, 16)]),
    "products": ("area_products", [(NANO, {"PRODUCTS": number}) for number in (1, 8)]),
}
"""Unit -> module, and its chips and parameters."""


def gates(module: Mapping[str, Any], target: SynthesisTarget) -> float:
    """Area of a mapped module over that of the smallest NAND of two inputs."""
    kinds = Counter(cell["type"] for cell in module["cells"].values())
    cells = target.library.cells  # memories are none of them
    return sum(cells[kind].area * number for kind, number in kinds.items() if kind in cells) / cells["sg13g2_nand2_1"].area


def main() -> None:
    """Print a line for each unit and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, required=True, help="sg13g2_stdcell_typ_1p20V_25C.lib")
    parser.add_argument("--units", nargs="+", choices=RUNS, default=list(RUNS))
    arguments = parser.parse_args()
    target = SynthesisTarget("ihp-sg13g2", arguments.library, read_library(arguments.library), 130, "sg13g2_buf_2", 6e-15, 2e-9)
    for unit in arguments.units:
        top, sizes = RUNS[unit]
        for spec, parameters in sizes:
            sources = [PRODUCTS] if unit == "products" else None
            found = gates(map_module(top, spec, parameters, target, sources), target)
            other = [f"{path} {spec.value(path)}" for path in _fields(spec)]
            sys.stdout.write(f"{unit}: {found:,.0f} gates {', '.join(other + [f'{k} {v}' for k, v in parameters.items()])}\n")
            sys.stdout.flush()


def _fields(spec: ChipSpec) -> list[str]:
    """Fields in which a chip differs from nano."""
    paths = (
        "noc.fifo_depth",
        "synapse.crossbars",
        "synapse.rows",
        "synapse.columns",
        "readout.column_mux",
        "synapse.argmax_lanes",
        "vector.lanes",
    )
    return [path for path in paths if spec.value(path) != NANO.value(path)]


if __name__ == "__main__":
    main()
