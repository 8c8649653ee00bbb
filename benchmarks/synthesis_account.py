"""What would a decoded token take if the digital operations cost what synthesis says of them, instead of the account's constants?

    make synth SYNTH="--json synth.json"
    nmllm simulate PROGRAM --prompt TEXT --json result.json
    python benchmarks/synthesis_account.py synth.json result.json

Prints counts, both energies of every operation that synthesis measured (nominal, 22 nm), and the totals. Square roots and divisions are in
the norm's elements; encoded query elements are taken at the price of the other encoders', as the counter holds both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Counters = Mapping[str, int]

COUNTS: dict[tuple[str, str], Callable[[Counters], float]] = {
    ("router", "flits"): lambda c: c["flits"] + c["flit_hops"],
    ("accumulators", "accumulations"): lambda c: c["accumulations"],
    ("output_stage", "values"): lambda c: c["output_values"] - 2 * c["gate_operations"],
    ("output_stage (gate)", "gates"): lambda c: c["gate_operations"],
    ("add", "elements"): lambda c: c["add_elements"],
    ("norm", "elements"): lambda c: c["norm_elements"],
    ("rope", "elements"): lambda c: c["rope_elements"],
    ("kv_write", "elements"): lambda c: c["kv_bits_written"] / 8,
    ("encoder", "encode_elements"): lambda c: c["encode_elements"],
    ("attention_scores", "score_operations"): lambda c: c["score_operations"],
    ("attention_softmax", "softmax_elements"): lambda c: c["softmax_elements"],
    ("attention_values", "value_operations"): lambda c: c["value_operations"],
    ("attention_output", "attention_values"): lambda c: c["attention_values"],
}
"""(unit, operation) of tests/rtl/synthesis/units.py -> how often a run has it (docs/reference/timing.md, Counters)."""


def rows(comparisons: list[dict[str, Any]], counters: Counters) -> list[tuple[str, float, float, float]]:
    """(operation, count, J by the account, J by synthesis) of a token."""
    found = []
    for entry in comparisons:
        count = COUNTS.get((entry["unit"], entry["operation"]))
        if count is not None:
            number = count(counters) / counters["decoded_tokens"]
            found.append(
                (f"{entry['unit']}: {entry['operation']}", number, *(number * entry[by]["nominal"] for by in ("account", "scaled")))
            )
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
