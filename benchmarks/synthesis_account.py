"""Energy of a decoded token if the digital operations cost what synthesis says of them, instead of the account's constants.

    make synth SYNTH="--json synth.json"
    nmllm simulate PROGRAM --prompt TEXT --json result.json
    python benchmarks/synthesis_account.py synth.json result.json

Prints counts, both energies of every operation that synthesis measured (nominal, 22 nm), and the totals. Square roots and divisions are in
the norm's elements; encoded query elements are taken at the price of the other encoders', as the counter holds both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuromorphic_llm.energy.rtl_units import RTL_UNITS


def rows(comparisons: list[dict[str, Any]], counters: Mapping[str, int]) -> list[tuple[str, float, float, float]]:
    """(operation, count, J by the account, J by synthesis) of a token."""
    found = []
    for entry in comparisons:
        in_a_run = RTL_UNITS[entry["unit"]].in_a_run
        if in_a_run:
            number = sum(factor * counters[counter] for counter, factor in in_a_run.items()) / counters["decoded_tokens"]
            name = f"{entry['unit']}: {entry['operation']}"
            found.append((name, number, number * entry["account"]["nominal"], number * entry["scaled"]["nominal"]))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("synthesis", type=Path, help="what make synth wrote with --json")
    parser.add_argument("result", type=Path, help="what nmllm simulate wrote with --json")
    arguments = parser.parse_args()
    result = json.loads(arguments.result.read_text(encoding="utf-8"))
    table = rows(json.loads(arguments.synthesis.read_text(encoding="utf-8"))["comparisons"], result["counters"]["decode"])
    print("| operation | a token | account, µJ | synthesis, µJ |\n| --- | ---: | ---: | ---: |")
    for name, number, ours, theirs in table:
        print(f"| {name.replace('_', ' ')} | {number:,.0f} | {ours * 1e6:.2f} | {theirs * 1e6:.2f} |")
    more = sum(theirs - ours for _, _, ours, theirs in table)
    total = result["chip_energy_j_per_token"]["nominal"]
    print(f"\nA token: {total * 1e6:.1f} µJ by the account, {(total + more) * 1e6:.1f} µJ with these energies.")


if __name__ == "__main__":
    main()
