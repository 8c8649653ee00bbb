"""The SystemVerilog package of a chip: nmllm_pkg, generated from its ChipSpec (docs/reference/rtl/index.md, Package).

`python -m neuromorphic_llm.rtl.package` writes the committed copy, that of the chip nano.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from neuromorphic_llm.chip.codes import CHIP_CODES, MOST_SLOTS
from neuromorphic_llm.chip.flat_names import FLAT_NAMES
from neuromorphic_llm.chip.instruction import WORD
from neuromorphic_llm.chip.instructions import operation_codes
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.chip.widths import STAMP_BITS
from neuromorphic_llm.devices.decay import MembraneDecay
from neuromorphic_llm.reference.fixed_point import EXP2, SIG
from neuromorphic_llm.repository import IS_CHECKOUT, REPOSITORY
from neuromorphic_llm.spikes.code import LARGEST_VALUE
from neuromorphic_llm.spikes.first_spike_log import WEIGHTS

RTL_FOLDER = REPOSITORY / "rtl"
"""SystemVerilog sources."""

PACKAGE_FILE = RTL_FOLDER / "generated" / "nmllm_pkg.sv"

SEQUENCES = 64
"""Sequences that a chip in RTL has in flight at most: places of the host's queue and positions of a vector tile."""

_TABLE_COLUMNS = 16


def derived_parameters(spec: ChipSpec) -> dict[str, int]:
    """Widths and counts that follow from the spec, by their names in the package. SimulationError if the RTL lacks a unit of the chip."""
    circuit = spec.readout_circuit
    readout = {
        "CONVERTER_BITS": circuit.converter_bits,
        "HIGH_BITS": circuit.converter_widths[-1],
        **dict.fromkeys(("REREAD", "MEMBRANE", "REPEATS", "STEPS"), 0),
        "RANGE_BITS": 1,
    }
    readout |= circuit.rtl_parameters()
    row_blocks = spec.synapse.crossbars // spec.synapse.slices
    return {
        "TILES": spec.topology.tiles,
        "TILE_BITS": max(1, (spec.topology.tiles - 1).bit_length()),
        "ROUTES": 1 << spec.route_bits,
        "ROUTE_BITS": spec.route_bits,
        "ROW_BLOCKS": row_blocks,
        "TILE_INPUTS": row_blocks * spec.synapse.rows,
        "TILE_COLUMNS": row_blocks * spec.synapse.columns,
        "SEQUENCES": SEQUENCES,
        "SEQUENCE_BITS": (SEQUENCES - 1).bit_length(),
        "GATED": int(spec.gated),
        "ROUTERS_GATED": int(spec.routers_gated),
        "WAKE_CYCLES": spec.wake_wait,
        "WAKE_BITS": max(1, spec.wake_wait.bit_length()),
        **readout,
        "FLIT_EVENTS": spec.flit_events,
        "STAMP_BITS": STAMP_BITS,
        "ELEMENT_ENCODER": int(spec.encoder.whole_train),
        "LEAST_FIRST": int(spec.least_significant_first),
        "HEAD_LANES": spec.vector.head_lanes,
        "MAXIMUM_WRITTEN": int(not spec.maximum_read),
    }


def package_text(spec: ChipSpec) -> str:
    """Text of nmllm_pkg for this chip."""
    numbers = {name.upper(): int(spec.value(path)) for name, path in FLAT_NAMES.items()}
    lines = [
        f"// Constants of the chip {spec.name}, written by neuromorphic_llm.rtl.package; do not edit.",
        "// verilator lint_off UNUSEDPARAM",
        "package nmllm_pkg;",
        *(_parameter(name, value) for name, value in numbers.items()),
        "",
        *(_parameter(name, value) for name, value in derived_parameters(spec).items()),
        "",
        "  // docs/reference/rtl/index.md says what tag and payload hold for each kind of flit.",
        "  typedef struct packed {",
        "    logic [ROUTE_BITS-1:0] route;",
        "    logic flag;",
        "    logic [15:0] tag;",
        "    logic [63:0] payload;",
        "  } flit_t;",
        "",
        "  // Spike codes (nmllm_encoder).",
        *_enumeration("code_t", (len(CHIP_CODES) - 1).bit_length(), CHIP_CODES),
        "",
        "  // An instruction of a vector tile (nmllm_sequencer).",
        *_enumeration("operation_t", WORD["operation"], operation_codes()),
        "  typedef struct packed {",
        *(f"    {_logic(bits)} {field};" for field, bits in reversed(list(WORD.items()))),
        "  } instruction_t;",
        "",
        "  // Orders to the tiles that have work next (nmllm_tile_switch).",
        "  typedef struct packed {",
        "    logic stage;",
        "    logic site;",
        "    logic [3:0] number;",
        "  } order_t;",
        "",
        "  // round(2^15 * 2^(-i/256))",
        *_table("EXP2", [int(value) for value in EXP2]),
        "  // round(2^15 / (1 + exp(-i/16)))",
        *_table("SIG", [int(value) for value in SIG]),
        "  // Levels of the slots of a stamped train",
        *_table("LEVELS", _levels(spec)),
        "endpackage",
        "// verilator lint_on UNUSEDPARAM",
    ]
    return "\n".join(lines) + "\n"


def _levels(spec: ChipSpec) -> list[int]:
    """Levels of the slots of a stamped train, as far as a code has them; in one step of a chip whose membranes do not decay."""
    circuit = spec.readout_circuit
    steps = circuit.steps if isinstance(circuit, MembraneDecay) else 1
    levels = [WEIGHTS[steps][slot % steps] << slot // steps for slot in range(MOST_SLOTS)]
    return [level if level <= LARGEST_VALUE else 0 for level in levels]


def _enumeration(name: str, bits: int, values: Iterable[str]) -> list[str]:
    names = ", ".join(value.upper().replace("-", "_") for value in values)
    return [f"  typedef enum {_logic(bits)} {{", f"    {names}", f"  }} {name};"]


def _logic(bits: int) -> str:
    return "logic" if bits == 1 else f"logic [{bits - 1}:0]"


def _parameter(name: str, value: int) -> str:
    if value < 1 << 31:
        return f"  parameter int unsigned {name} = {value};"
    return f"  parameter longint unsigned {name} = 64'd{value};"


def _table(name: str, values: list[int]) -> list[str]:
    rows = [values[i : i + _TABLE_COLUMNS] for i in range(0, len(values), _TABLE_COLUMNS)]
    text = ",\n".join("    " + ", ".join(f"16'd{value}" for value in row) for row in rows)
    return [f"  parameter logic [15:0] {name} [{len(values)}] = '{{", text, "  };"]


if __name__ == "__main__":
    if not IS_CHECKOUT:
        sys.exit("nmllm_pkg.sv is written again in a checkout only; an installed package holds it as it was released")
    PACKAGE_FILE.parent.mkdir(parents=True, exist_ok=True)
    PACKAGE_FILE.write_text(package_text(load_spec("nano")), encoding="utf-8")
