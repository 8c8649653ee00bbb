"""The report's tables as plain data, shown alike in the terminal and in HTML: every figure says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuromorphic_llm.units import format_bytes, format_si

KINDS = {
    "measured": "taken on the machine of this run; spiking quality on the functional simulation, which equals the chip bit for bit",
    "simulated": "counted by the compiler or by the bit- and cycle-exact simulation of the chip",
    "estimated": "computed from counts and published or assumed constants",
    "recorded": "measured earlier on other hardware and written down",
}
"""What the marks of figures mean."""

PARTS = {
    "cells": "crossbar cells, row drivers",
    "converters": "A/D converters",
    "soma": "soma (norms, gates, outputs)",
    "attention": "attention engines",
    "sram": "SRAM",
    "noc": "network on chip",
    "dram": "DRAM",
    "leakage": "leakage, whole chip",
}
"""Part of the energy account (docs/reference/energy.md) -> its label, where the name alone says too little."""


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


def counted_token(report: Mapping[str, Any]) -> str:
    """What figures a token of the simulation are means over: `decoded token`, or `prompt token` if nothing was decoded."""
    return "decoded token" if report["simulate"]["counted_phase"] == "decode" else "prompt token"


def energy_parts(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """(label, {low, nominal, high} in J) of the chip's energy a token by part, largest first."""
    parts = report["simulate"]["energy_breakdown_j"]
    return [(PARTS.get(name, name), part) for name, part in sorted(parts.items(), key=lambda item: -item[1]["nominal"])]


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
    note = f"{evaluated['tokens']:,} tokens of task {evaluated['task']}, windows of {evaluated['window']:,} tokens."
    return Table("Quality", ("figure", "value", "kind"), tuple(rows), note)


def speed_and_energy_table(report: Mapping[str, Any]) -> Table:
    """Decode speed and energy a token of everything that was compared."""
    simulated, baseline, references = report["simulate"], report["baseline"], report["references"]
    chip = f"this chip ({simulated['chip']}, {simulated['clock_hz'] / 1e6:.0f} MHz)"
    rows = [(chip, f"{simulated['chip_tokens_per_s']:,.0f}", "simulated", energy_text(simulated["chip_energy_j_per_token"]), "estimated")]
    names = {
        "int8": "INT8 digital, weights in registers",
        "int8_sram": "INT8 digital, weights in SRAM",
        "fp16": "FP16 digital, weights in registers",
    }
    rows += [(name, "not simulated", "", energy_text(references[key]["energy_j_per_token"]), "estimated") for key, name in names.items()]
    notes = [
        f"Chip, INT8 and FP16: chip and DRAM accesses at {references['context']:,} visible tokens, "
        f"the mean of the {counted_token(report)}s. INT8 and FP16 are accounts of energy only; their speed is not simulated."
    ]
    measured = baseline["energy_j_per_token"]
    energy = ("not measured", "") if measured is None else (format_si(measured, "J"), "measured")
    rows.append((f"PyTorch {baseline['dtype']}, {baseline['device']}", f"{baseline['tokens_per_s']:,.1f}", "measured", *energy))
    notes.append(f"PyTorch's energy: {baseline['energy_scope' if measured is not None else 'energy_j_per_token_reason']}.")
    for record in references["gpu"]:
        name = f"{record['device']}, {record['mode']} ({record['recorded']})"
        rows.append((name, f"{record['tokens_per_s']:,.0f}", "recorded", format_si(record["energy_j_per_token"], "J"), "recorded"))
    notes += [f"GPU: {scope}." for scope in dict.fromkeys(record["scope"] for record in references["gpu"])]
    columns = ("what", "tokens/s", "kind of speed", "energy a token", "kind of energy")
    return Table(f"Speed and energy of a {counted_token(report)}", columns, tuple(rows), " ".join(notes))


def breakdown_table(report: Mapping[str, Any]) -> Table:
    """The chip's energy by part."""
    total = report["simulate"]["chip_energy_j_per_token"]
    parts = [*energy_parts(report), ("total", total)]
    rows = [(name, energy_text(part), f"{part['nominal'] / total['nominal']:.1%}", "estimated") for name, part in parts]
    note = f"Scope: {report['simulate']['energy_scope']}. In brackets the low and the high bound; bounds of a sum are sums of the bounds."
    return Table(f"Chip energy of a {counted_token(report)} by part", ("part", "energy", "share", "kind"), tuple(rows), note)


def chip_table(report: Mapping[str, Any]) -> Table:
    """What the simulated chip did, and its size."""
    simulated, compiled, token = report["simulate"], report["compile"], counted_token(report)
    rows = [
        ("prompt", f"{report['prompt_tokens']:,} tokens", "measured"),
        ("generated", f"{len(simulated['token_ids']):,} tokens", "simulated"),
        ("prefill", format_si(simulated["prefill_s"], "s"), "simulated"),
        (f"cycles a {token}", f"{simulated['cycles_per_token']:,.0f}", "simulated"),
        (f"synaptic operations a {token}", f"{simulated['synaptic_operations_per_token']:,.0f}", "simulated"),
        (f"synaptic operations per weight and {token}", f"{simulated['spikes_per_activation']:.3f}", "simulated"),
        ("tiles in use", f"{compiled['tiles']:,} of {compiled['tiles_available']:,}", "simulated"),
        ("crossbars in use", f"{compiled['crossbars']:,} of {compiled['crossbars_available']:,}", "simulated"),
        ("weights / cells of the crossbars in use", f"{compiled['utilisation']:.1%}", "simulated"),
        ("SRAM in use", format_bytes(compiled["sram_bytes"]), "simulated"),
        ("DRAM in use (embedding)", format_bytes(compiled["dram_bytes"]), "simulated"),
        ("longest context", f"{compiled['max_context']:,} tokens", "simulated"),
        ("speed of the simulator itself", f"{simulated['wall_tokens_per_s']:,.1f} tokens/s", "measured"),
    ]
    return Table("Chip", ("figure", "value", "kind"), tuple(rows))


def steps_table(report: Mapping[str, Any]) -> Table:
    """Which steps ran and which were reused."""
    rows = [(step["name"], "reused" if step["reused"] else "ran", format_si(step["wall_s"], "s"), "measured") for step in report["steps"]]
    note = "The time of a reused step is that of the run that made its result."
    return Table("Steps", ("step", "in this run", "time", "kind"), tuple(rows), note)


def all_tables(report: Mapping[str, Any]) -> list[Table]:
    """Tables in the order of the report."""
    return [table(report) for table in (quality_table, speed_and_energy_table, breakdown_table, chip_table, steps_table)]
