"""Energy of a decoded token if the digital operations cost what synthesis says of them, instead of the account's constants.

    make synth SYNTH="--json synth.json"
    nmllm simulate PROGRAM --prompt TEXT --json result.json
    python benchmarks/synthesis_account.py synth.json result.json

Prints counts, both energies of every operation of the chip that synthesis measured (nominal, 22 nm), the totals, and their shares of the
rivals'. Square roots and divisions are in the norm's elements; encoded query elements are taken at the price of the other encoders', as the
counter holds both. RESULT may be the report of `nmllm run` too. A chip that is not one of the package's is named with --chip.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.rtl_units import RTL_UNITS

RIVALS = {"int8": "the plain INT8 array", "int8_improved": "the improved one", "bit_serial_crossbar": "bit-serial crossbars"}


def rows(comparisons: list[dict[str, Any]], counters: Mapping[str, int], spec: ChipSpec) -> list[tuple[str, float, float, float]]:
    """(operation, count, J by the account, J by synthesis) of a token."""
    found = []
    for entry in comparisons:
        unit = RTL_UNITS[entry["unit"]]
        if unit.in_a_run and unit.runs_on(spec):
            number = sum(factor * counters[counter] for counter, factor in unit.in_a_run.items()) / counters["decoded_tokens"]
            name = f"{entry['unit']}: {entry['operation']}"
            found.append((name, number, number * entry["account"]["nominal"], number * entry["scaled"]["nominal"]))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("synthesis", type=Path, help="what make synth wrote with --json")
    parser.add_argument("result", type=Path, help="what nmllm simulate wrote with --json")
    parser.add_argument("--chip", help="chip of the result, by default the one that it names")
    arguments = parser.parse_args()
    result = json.loads(arguments.result.read_text(encoding="utf-8"))
    result = result.get("simulate", result)
    comparisons = json.loads(arguments.synthesis.read_text(encoding="utf-8"))["comparisons"]
    table = rows(comparisons, result["counters"]["decode"], load_spec(arguments.chip or result["chip"]))
    print("| operation | a token | account, µJ | synthesis, µJ |\n| --- | ---: | ---: | ---: |")
    for name, number, ours, theirs in table:
        print(f"| {name.replace('_', ' ')} | {number:,.0f} | {ours * 1e6:.2f} | {theirs * 1e6:.2f} |")
    more = sum(theirs - ours for _, _, ours, theirs in table)
    total = result["chip_energy_j_per_token"]["nominal"]
    print(f"\nA token: {total * 1e6:.2f} µJ by the account, {(total + more) * 1e6:.2f} µJ with these energies.")
    rivals = {label: result["rival_energy_j_per_token"][name]["nominal"] for name, label in RIVALS.items()}
    for label, energy in rivals.items():
        print(f"Of {label}, {energy * 1e6:.2f} µJ: {total / energy:.2f} and {(total + more) / energy:.2f}.")


if __name__ == "__main__":
    main()
