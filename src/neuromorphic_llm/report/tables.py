"""The report's tables as plain data, shown alike in the terminal and in HTML: every figure says where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuromorphic_llm.units import format_bytes, format_mm2, format_si

KINDS = {
    "measured": "taken on the machine of this run; spiking quality on the functional simulation, which equals the chip bit for bit",
    "simulated": "counted by the compiler or by the bit- and cycle-exact simulation of the chip",
    "estimated": "computed from counts and published or assumed constants",
    "recorded": "measured earlier on other hardware and written down",
}
"""Meanings of the marks of figures."""

UNITS = {
    "synapse": "waiting for crossbars (reads, A/D conversion, results)",
    "attention": "attention engines",
    "encode": "spike encoders, and sending",
    "vector": "norms, additions, rotations, key/value writes",
    "host": "host and DRAM (embedding row)",
    "network": "network between host and layers",
}
"""Part of a token's latency (docs/reference/timing.md, Latency) -> its label."""

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


RIVALS = {
    "int8": "INT8 digital, weights in registers",
    "int8_improved": "INT8 digital, improved: small banks, idle tiles gated",
    "int8_sram": "INT8 digital, weights in SRAM",
    "fp16": "FP16 digital, weights in registers",
    "bit_serial_crossbar": "this chip's crossbars, bit-serial INT8 inputs",
}
"""Rival (docs/reference/energy.md) -> its label."""

AREA_PARTS = {
    "cells": "cells with their share of drivers and wires",
    "converters": "A/D converters with theirs",
    "membranes": "membranes: capacitors, clamps, ranges",
    "accumulators": "column accumulators",
    "synapse": "read schedulers, output stages",
    "vector": "vector tiles: norms, rotations, encoders, control",
    "attention": "attention engines, logic",
    "routers": "routers",
    "host": "host tile",
    "sram": "SRAM",
}
"""Part of the area account (docs/reference/area.md) -> its label."""


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
    """Kind of token that the simulation's figures are means over: `decoded token`, or `prompt token` if nothing was decoded."""
    return "decoded token" if report["simulate"]["counted_phase"] == "decode" else "prompt token"


def load(report: Mapping[str, Any]) -> str:
    """` with 31 sequences in flight`; nothing for one."""
    sequences = report["simulate"].get("sequences", 1)  # earlier reports have one
    return f" with {sequences:,} sequences in flight" if sequences > 1 else ""


def energy_parts(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """(label, {low, nominal, high} in J) of the chip's energy per token by part, largest first."""
    parts = report["simulate"]["energy_breakdown_j"]
    return [(PARTS.get(name, name), part) for name, part in sorted(parts.items(), key=lambda item: -item[1]["nominal"])]


def quality_table(report: Mapping[str, Any]) -> Table:
    """Perplexity, divergence and spikes on the default task."""
    evaluated = report["eval"]
    change = report["perplexity"]["spiking"] / report["perplexity"]["dense"] - 1
    of_dense = evaluated.get("reference_perplexity_interval") or evaluated.get("dense", {}).get("perplexity_interval")
    of_change = _interval(evaluated.get("perplexity_ratio_interval"), lambda bound: f"{bound - 1:+.1%}")
    rows = [
        ("perplexity, dense", f"{report['perplexity']['dense']:.2f}{_interval(of_dense)}", "measured"),
        ("perplexity, spiking", f"{report['perplexity']['spiking']:.2f}{_interval(evaluated.get('perplexity_interval'))}", "measured"),
        ("change of perplexity", f"{change:+.2%}{of_change}", "measured"),
        ("KL(dense || spiking), nats per token", f"{evaluated['kl_to_dense']:.4f}", "measured"),
        ("same most likely token", f"{evaluated['top1_agreement']:.1%}", "measured"),
        ("spikes per activation", f"{evaluated['spikes_per_activation']:.3f}", "measured"),
        ("query spikes per value", f"{evaluated['query_spikes_per_value']:.3f}", "measured"),
        ("probability spikes per visible pair", f"{evaluated['probability_spikes_per_pair']:.3f}", "measured"),
    ]
    note = f"{evaluated['tokens']:,} tokens of task {evaluated['task']}, windows of {evaluated['window']:,} tokens."
    if "bos_token" in evaluated:
        begin = evaluated["bos_token"]
        note += " Windows begin without a beginning-of-sequence token." if begin is None else f" Windows begin with the token {begin}."
    if isinstance(evaluated.get("intervals"), Mapping):
        note += " In brackets: {level:.0%} intervals, {method}, {blocks:,} blocks.".format(**{"level": 0.95, **evaluated["intervals"]})
    else:
        note += " Without intervals: this result has none."
    return Table("Quality", ("figure", "value", "kind"), tuple(rows), note)


def _interval(bounds: Mapping[str, float] | None, text: Callable[[float], str] = "{:.2f}".format) -> str:
    """` (24.1 to 25.8)`; nothing where there is no interval."""
    return f" ({text(bounds['low'])} to {text(bounds['high'])})" if bounds else ""


def variants_table(report: Mapping[str, Any]) -> Table:
    """The network at several prices of a spike, and the dense model with fewer bits or inputs, against the dense model."""
    quality = report["quality"]
    rows = [("dense model", "", f"{quality['dense']:.2f}", "", "measured")]
    for point in (*quality["spiking"], *quality["quantised"]):
        spikes, own = point.get("spikes_per_activation"), point is quality["spiking"][0]
        name = point.get("name", "spiking network")
        name = f"this network ({name})" if own else f"spiking network, {name}" if spikes is not None else f"dense model, {name}"
        change = f"{point['perplexity'] / quality['dense'] - 1:+.1%}"
        change += _interval(point.get("perplexity_ratio_interval"), lambda bound: f"{bound - 1:+.1%}")
        rows.append((name, "" if spikes is None else f"{spikes:.2f}", f"{point['perplexity']:.2f}", change, "measured"))
    note = (
        f"First {quality['tokens']:,} tokens of the same text. INT8 and INT6 round 8-bit weights and every input of a linear layer to the "
        "nearest step, with the largest magnitude of the token as full scale; nothing is calibrated or searched, so better INT8 exists."
    )
    return Table("Quality of variants", ("variant", "spikes per activation", "perplexity", "change", "kind"), tuple(rows), note)


def context_table(points: Sequence[Mapping[str, Any]], over: str = "context") -> Table:
    """Energy of a decoded token over the `context`, or over the `sequences` in flight, of chip and references, with bounds."""
    titles = {
        "chip": "this chip",
        "int8": "INT8, registers",
        "int8_improved": "INT8, improved",
        "int8_sram": "INT8, SRAM",
        "fp16": "FP16, registers",
        "bit_serial_crossbar": "bit-serial crossbars",
    }
    names = [name for name in titles if f"{name}_energy_j_per_token" in points[0]]  # earlier reports have fewer
    column, unit, title = {
        "context": ("visible", " tokens", "over the context"),
        "sequences": ("in flight", "", "over the sequences in flight"),
    }[over]
    beside = [name for name in ("int8", "int8_improved") if name in names]
    columns = (column, *(titles[name] for name in names), *(f"chip / {titles[name]}" for name in beside), "kind")
    rows = []
    for point in points:
        energies = {name: point[f"{name}_energy_j_per_token"] for name in names}
        factors = (f"{energies['chip']['nominal'] / energies[name]['nominal']:.2f}" for name in beside)
        rows.append((f"{point[over]:,}{unit}", *map(energy_text, energies.values()), *factors, "estimated"))
    note = "Chip: mean of the decoded tokens there, cycles and counts simulated. In brackets the low and the high bound."
    return Table(f"Energy of a decoded token {title}", columns, tuple(rows), note)


def area_table(report: Mapping[str, Any]) -> Table:
    """Area of the chip by part, largest first, and of its rivals."""
    compiled = report["compile"]
    parts = sorted(compiled["area_breakdown_mm2"].items(), key=lambda item: -item[1]["nominal"])
    rows = [(AREA_PARTS.get(name, name), format_mm2(area), "estimated") for name, area in parts if area["nominal"]]
    rows.append(("this chip", format_mm2(compiled["area_mm2"]), "estimated"))
    rows += [(RIVALS[name], format_mm2(area), "estimated") for name, area in compiled["rival_area_mm2"].items()]
    note = (
        "22 nm, the whole chip, without pads and the interface to the DRAM. In brackets the low and the high bound. "
        "A scanner exposes 858 mm² at once; a larger chip is several dies."
    )
    return Table("Area", ("part", "area", "kind"), tuple(rows), note)


def latency_table(report: Mapping[str, Any]) -> Table:
    """Cycles of a decoded token by unit, largest first."""
    latency = report["latency"]
    total = latency["cycles_per_token"]
    units = sorted(latency["units"].items(), key=lambda item: -item[1])
    rows = [(UNITS.get(name, name), f"{cycles:,.0f}", f"{cycles / total:.1%}", "simulated") for name, cycles in units]
    rows.append(("total", f"{total:,.0f}", "100.0%", "simulated"))
    time_s = total / report["simulate"]["clock_hz"]
    note = (
        f"Mean of {latency['tokens']:,} decoded tokens{load(report)}; a token takes {format_si(time_s, 's')}. It is in one place at a "
        "time, layer by layer, so the parts add up to the total. Crossbars read while the encoder still sends; only waiting for them "
        "counts here."
    )
    if load(report):
        note += " Its waits for tokens of other sequences count as network."
    return Table("Latency of a decoded token", ("where the cycles go", "cycles", "share", "kind"), tuple(rows), note)


def speed_and_energy_table(report: Mapping[str, Any]) -> Table:
    """Decode speed and energy per token of everything that was compared."""
    simulated, baseline, references = report["simulate"], report["baseline"], report["references"]
    chip = f"this chip ({simulated['chip']}, {simulated['clock_hz'] / 1e6:.0f} MHz{load(report)})"
    rows = [(chip, f"{simulated['chip_tokens_per_s']:,.0f}", "simulated", energy_text(simulated["chip_energy_j_per_token"]), "estimated")]
    rows += [
        (name, "not simulated", "", energy_text(references[key]["energy_j_per_token"]), "estimated")
        for key, name in RIVALS.items()
        if key in references  # earlier reports have fewer
    ]
    notes = [
        f"Chip, INT8 and FP16: chip and DRAM accesses at {references['context']:,} visible tokens, "
        f"the mean of the {counted_token(report)}s{load(report)}. INT8 and FP16 are accounts of energy only; their speed is not simulated."
    ]
    measured = baseline["energy_j_per_token"]
    energy = ("not measured", "") if measured is None else (format_si(measured, "J"), "measured")
    rows.append(
        (f"dense model, PyTorch {baseline['dtype']}, {baseline['device']}", f"{baseline['tokens_per_s']:,.1f}", "measured", *energy)
    )
    notes.append(f"PyTorch's energy: {baseline['energy_scope' if measured is not None else 'energy_j_per_token_reason']}.")
    for record in references["gpu"]:
        name = f"{record['device']}, {record['mode']} ({record['recorded']})"
        rows.append((name, f"{record['tokens_per_s']:,.0f}", "recorded", format_si(record["energy_j_per_token"], "J"), "recorded"))
    notes += [f"GPU: {scope}." for scope in dict.fromkeys(record["scope"] for record in references["gpu"])]
    columns = ("what", "tokens/s", "kind of speed", "energy per token", "kind of energy")
    return Table(f"Speed and energy of a {counted_token(report)}", columns, tuple(rows), " ".join(notes))


def breakdown_table(report: Mapping[str, Any]) -> Table:
    """The chip's energy by part."""
    total = report["simulate"]["chip_energy_j_per_token"]
    parts = [*energy_parts(report), ("total", total)]
    rows = [(name, energy_text(part), f"{part['nominal'] / total['nominal']:.1%}", "estimated") for name, part in parts]
    note = f"Scope: {report['simulate']['energy_scope']}. In brackets the low and the high bound; bounds of a sum are sums of the bounds."
    return Table(f"Chip energy of a {counted_token(report)} by part", ("part", "energy", "share", "kind"), tuple(rows), note)


def chip_table(report: Mapping[str, Any]) -> Table:
    """Activity of the simulated chip, and its size."""
    simulated, compiled, token = report["simulate"], report["compile"], counted_token(report)
    rows = [
        ("prompt", f"{report['prompt_tokens']:,} tokens", "measured"),
        ("generated", f"{len(simulated['token_ids']):,} tokens", "simulated"),
        ("prefill", format_si(simulated["prefill_s"], "s"), "simulated"),
        (f"cycles per {token}{load(report)}", f"{simulated['cycles_per_token']:,.0f}", "simulated"),
        (f"synaptic operations per {token}", f"{simulated['synaptic_operations_per_token']:,.0f}", "simulated"),
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
    """Steps of the run, each run now or reused."""
    rows = [(step["name"], "reused" if step["reused"] else "ran", format_si(step["wall_s"], "s"), "measured") for step in report["steps"]]
    note = "The time of a reused step is that of the run that made its result."
    return Table("Steps", ("step", "in this run", "time", "kind"), tuple(rows), note)


def all_tables(report: Mapping[str, Any]) -> list[Table]:
    """Tables in the order of the report."""
    tables = [quality_table(report), variants_table(report), speed_and_energy_table(report)]
    tables += [context_table(points)] if (points := report.get("energy_over_context")) else []
    tables.append(breakdown_table(report))
    tables += [latency_table(report)] if report.get("latency") else []
    tables += [area_table(report)] if "area_mm2" in report["compile"] else []  # earlier reports have none
    return [*tables, chip_table(report), steps_table(report)]
