"""The report's tables as plain data, shown alike in the terminal and in HTML: every figure says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuromorphic_llm.units import format_si

KINDS = {
    "measured": "taken on the machine of this run; spiking quality on the functional simulation, which equals the chip bit for bit",
    "simulated": "counted by the compiler or by the bit- and cycle-exact simulation of the chip",
    "estimated": "computed from counts and published or assumed constants",
    "recorded": "measured earlier on other hardware and written down",
}
"""What the marks of figures mean."""


@dataclass(frozen=True)
class Table:
    """Rows of text; the last column is the mark."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def energy_text(values: Mapping[str, float]) -> str:
    """`23 µJ (11 µJ to 60 µJ)`."""
    return f"{format_si(values['nominal'], 'J')} ({format_si(values['low'], 'J')} to {format_si(values['high'], 'J')})"


def quality_table(report: Mapping[str, Any]) -> Table:
    """Perplexity, divergence and spikes on the default task."""
    evaluated = report["eval"]
    rows = [
        ("perplexity, dense", f"{report['perplexity']['dense']:.2f}", "measured"),
        ("perplexity, spiking", f"{report['perplexity']['spiking']:.2f}", "measured"),
        ("KL(dense || spiking), nats a token", f"{evaluated['kl_to_dense']:.4f}", "measured"),
        ("same most likely token", f"{evaluated['top1_agreement']:.1%}", "measured"),
        ("spikes per activation", f"{evaluated['spikes_per_activation']:.3f}", "measured"),
        ("query spikes per value", f"{evaluated['query_spikes_per_value']:.3f}", "measured"),
        ("probability spikes per visible pair", f"{evaluated['probability_spikes_per_pair']:.3f}", "measured"),
    ]
    note = f"{evaluated['tokens']:,} tokens of task {evaluated['task']}, windows of {evaluated['window']:,}"
    return Table("Quality", ("figure", "value", "kind"), tuple(rows), note)


def speed_and_energy_table(report: Mapping[str, Any]) -> Table:
    """Decode speed and energy a token of everything that was compared."""
    simulated, baseline, references = report["simulate"], report["baseline"], report["references"]
    chip = f"chip {simulated['chip']}, {simulated['clock_hz'] / 1e6:.0f} MHz"
    rows = [(chip, f"{simulated['chip_tokens_per_s']:,.0f}", "simulated", energy_text(simulated["chip_energy_j_per_token"]), "estimated")]
    names = {
        "int8": "INT8 digital, weights in registers",
        "int8_sram": "INT8 digital, weights in SRAM",
        "fp16": "FP16 digital, weights in registers",
    }
    rows += [(name, "-", "", energy_text(references[key]["energy_j_per_token"]), "estimated") for key, name in names.items()]
    measured = baseline["energy_j_per_token"]
    energy = ("not measurable here", "") if measured is None else (f"{format_si(measured, 'J')} ({baseline['energy_scope']})", "measured")
    rows.append((f"PyTorch {baseline['dtype']}, {baseline['device']}", f"{baseline['tokens_per_s']:,.1f}", "measured", *energy))
    for record in references["gpu"]:
        name = f"{record['device']}, {record['mode']} ({record['recorded']})"
        rows.append((name, f"{record['tokens_per_s']:,.0f}", "recorded", format_si(record["energy_j_per_token"], "J"), "recorded"))
    scope = f"Chip, INT8 and FP16: chip and DRAM accesses at {references['context']:,} visible tokens. GPU: whole board, idle included."
    return Table("Speed and energy of a decoded token", ("what", "tokens/s", "", "energy a token", "kind"), tuple(rows), scope)


def breakdown_table(report: Mapping[str, Any]) -> Table:
    """The chip's energy by part."""
    parts = report["simulate"]["energy_breakdown_j"]
    total = sum(part["nominal"] for part in parts.values())
    rows = [(name, energy_text(part), f"{part['nominal'] / total:.1%}", "estimated") for name, part in parts.items()]
    scope = f"scope: {report['simulate']['energy_scope']}"
    return Table("Chip energy of a decoded token by part", ("part", "energy", "share", "kind"), tuple(rows), scope)


def chip_table(report: Mapping[str, Any]) -> Table:
    """What the simulated chip did, and its size."""
    simulated, compiled = report["simulate"], report["compile"]
    rows = [
        ("prompt tokens", f"{report['prompt_tokens']:,}", "measured"),
        ("generated tokens", f"{len(simulated['token_ids']):,}", "simulated"),
        ("prefill", f"{format_si(simulated['prefill_s'], 's')}", "simulated"),
        ("cycles a decoded token", f"{simulated['cycles_per_token']:,.0f}", "simulated"),
        ("synaptic operations a decoded token", f"{simulated['synaptic_operations_per_token']:,.0f}", "simulated"),
        ("spikes per activation", f"{simulated['spikes_per_activation']:.3f}", "simulated"),
        ("simulation speed, tokens/s", f"{simulated['wall_tokens_per_s']:.1f}", "measured"),
        ("tiles", f"{compiled['tiles']:,}", "simulated"),
        ("crossbars", f"{compiled['crossbars']:,}", "simulated"),
        ("weight cells in used crossbars", f"{compiled['utilisation']:.1%}", "simulated"),
    ]
    return Table("Chip", ("figure", "value", "kind"), tuple(rows))


def steps_table(report: Mapping[str, Any]) -> Table:
    """Which steps ran and which were reused."""
    rows = [(step["name"], "reused" if step["reused"] else "done", f"{step['wall_s']:.1f} s", "measured") for step in report["steps"]]
    return Table("Steps", ("step", "", "time when it ran", "kind"), tuple(rows))


def all_tables(report: Mapping[str, Any]) -> list[Table]:
    """Tables in the order of the report."""
    return [table(report) for table in (quality_table, speed_and_energy_table, breakdown_table, chip_table, steps_table)]
