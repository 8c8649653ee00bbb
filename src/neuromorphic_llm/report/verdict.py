"""The verdict in words, computed from the figures: better, worse or the same, and whether the bounds leave room for doubt."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from neuromorphic_llm.report.tables import counted_token, energy_text, load
from neuromorphic_llm.repository import REPOSITORY
from neuromorphic_llm.units import format_si

SAME_ENERGY, SAME_QUALITY = 0.02, 0.0005
"""Relative differences below which two figures count as the same."""

NO_DIFFERENCE = "no difference shown"
"""Wording where the interval of a change contains zero."""

REFERENCES = {
    "int8": "INT8 with weights in registers",
    "int8_improved": "improved INT8",
    "int8_sram": "INT8 with weights in SRAM",
    "fp16": "FP16 with weights in registers",
    "bit_serial_crossbar": "bit-serial crossbars",
}
"""Key of a rival -> its name; earlier reports have fewer."""

Values = Mapping[str, float]


def order(ours: float, theirs: float, same: float) -> str:
    """`better` if ours is the smaller one, `worse` if it is the larger one, `the same` within the share `same`."""
    if abs(ours - theirs) <= same * theirs:
        return "the same"
    return "better" if ours < theirs else "worse"


def certainty(ours: Values, theirs: Values) -> str:
    """Certainty of the order of two nominal values: at all constants within their bounds, or not."""
    apart = ours["low"] > theirs["high"] or ours["high"] < theirs["low"]
    return "at all constants within their bounds" if apart else "bounds overlap"


def factor_text(ours: float, theirs: float) -> str:
    """`2.5 times`; near 1 and below it with two digits, `0.77 times`."""
    factor = ours / theirs
    return f"{factor:.1f} times" if factor >= 1.1 else f"{factor:.2f} times" if factor >= 0.1 else f"{factor:.2g} times"


def headline(report: Mapping[str, Any]) -> str:
    """One sentence: energy against every rival, and quality."""
    ours = report["simulate"]["chip_energy_j_per_token"]
    groups: dict[str, list[str]] = {}
    for key, name in _rivals(report):
        theirs = report["references"][key]["energy_j_per_token"]
        groups.setdefault(order(ours["nominal"], theirs["nominal"], SAME_ENERGY), []).append(name)
    words = {"better": "less energy than", "worse": "more energy than", "the same": "as much energy as"}
    parts = [f"{words[kind]} {_listed(groups[kind])}" for kind in ("worse", "the same", "better") if kind in groups]
    context = f"{report['references']['context']:,} visible tokens{load(report)} and nominal constants"
    return f"At {context} the spiking chip takes {_listed(parts)}; {_quality_clause(report)}."


def sentences(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(subject, sentence, kind of its figures) of energy, context, quality and speed."""
    found = [("Energy", _energy(report), "estimated")]
    if (context := _context(report)) is not None:
        found.append(("Context", context, "estimated"))
    found += [("Quality", _quality(report), "measured"), ("Speed", _speed(report), "simulated")]
    return found


def repeat_command(report: Mapping[str, Any]) -> str:
    """The command line that made the report; options at their defaults are left out."""
    arguments, words = report["arguments"], ["nmllm", "run", str(report["arguments"].get("model", report["model"]))]
    defaults = {"spikes": 1.5, "tolerance": 0.01, "chip": "nc1", "max_new_tokens": 96, "sequences": 1}
    if arguments.get("article") and Path(arguments["article"]) != REPOSITORY / "examples" / "article.txt":
        words += ["--article", str(arguments["article"])]
    for name, default in defaults.items():
        value = arguments.get(name, default)
        if value != default:
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    if report["seed"]:
        words += ["--seed", str(report["seed"])]
    if arguments.get("output"):
        words += ["-o", str(arguments["output"])]
    return shlex.join(words)


def _rivals(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys and names of the rivals in the report."""
    return [(key, name) for key, name in REFERENCES.items() if key in report["references"]]


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _energy(report: Mapping[str, Any]) -> str:
    ours = report["simulate"]["chip_energy_j_per_token"]
    parts, doubtful = [], False
    for key, name in _rivals(report):
        theirs = report["references"][key]["energy_j_per_token"]
        verdict, sure = order(ours["nominal"], theirs["nominal"], SAME_ENERGY), certainty(ours, theirs)
        doubtful = doubtful or sure == "bounds overlap"
        parts.append(f"{factor_text(ours['nominal'], theirs['nominal'])} {name} ({format_si(theirs['nominal'], 'J')}): {verdict}, {sure}")
    doubt = " Where bounds overlap, other constants within them could reverse the order." if doubtful else ""
    return (
        f"A {counted_token(report)} at {report['references']['context']:,} visible tokens{load(report)} takes {energy_text(ours)} on the "
        f"chip. "
        f"This is {'; '.join(parts)}.{doubt}"
    )


def _context(report: Mapping[str, Any]) -> str | None:
    """Change with the context of the chip's energy over that of every reference, and where the order changes."""
    points = report.get("energy_over_context") or []
    if len(points) < 2:
        return None
    parts = []
    for key, name in _rivals(report):
        factors = [_nominal(point, "chip") / _nominal(point, key) for point in points]
        moves = order(factors[-1], factors[0], SAME_ENERGY)
        verb = {"the same": "stays near", "better": "falls from", "worse": "rises from"}[moves]
        change = f"{verb} {factors[0]:.2g}" + ("" if moves == "the same" else f" to {factors[-1]:.2g}")
        parts.append(f"that of {name} {change} ({_throughout(points, [order(factor, 1.0, SAME_ENERGY) for factor in factors])})")
    span = f"From {points[0]['context']:,} to {points[-1]['context']:,} visible tokens{load(report)}"
    return f"{span} the chip's energy over {'; over '.join(parts)}. A single context does not stand for the others."


def _nominal(point: Mapping[str, Any], name: str) -> float:
    return float(point[f"{name}_energy_j_per_token"]["nominal"])


def _throughout(points: Sequence[Mapping[str, Any]], verdicts: Sequence[str]) -> str:
    """`worse throughout`, or `worse at 8 to 64, the same at 128, better at 256 to 677`."""
    runs = [(verdict, [place for place, _ in group]) for verdict, group in groupby(enumerate(verdicts), key=lambda item: item[1])]
    if len(runs) == 1:
        return f"{runs[0][0]} throughout"

    def span(places: Sequence[int]) -> str:
        first, last = points[places[0]]["context"], points[places[-1]]["context"]
        return f"{first:,}" if first == last else f"{first:,} to {last:,}"

    return ", ".join(f"{verdict} at {span(places)}" for verdict, places in runs)


def ratio_interval(report: Mapping[str, Any]) -> Values | None:
    """Bounds of perplexity, spiking / dense; None where the result has none."""
    found = report["eval"].get("perplexity_ratio_interval")
    return found if isinstance(found, Mapping) else None


def _quality_verdict(report: Mapping[str, Any]) -> tuple[str, str]:
    """(better, worse, the same or NO_DIFFERENCE; why)."""
    perplexity, interval = report["perplexity"], ratio_interval(report)
    verdict = order(perplexity["spiking"], perplexity["dense"], SAME_QUALITY)
    if interval is None:
        return verdict, "no interval was computed"
    bounds = f"95 % interval of the change {interval['low'] - 1:+.1%} to {interval['high'] - 1:+.1%}"
    if interval["low"] <= 1 <= interval["high"]:
        return NO_DIFFERENCE, bounds
    return verdict, bounds


def _quality_clause(report: Mapping[str, Any]) -> str:
    change = report["perplexity"]["spiking"] / report["perplexity"]["dense"] - 1
    verdict, _ = _quality_verdict(report)
    if verdict == NO_DIFFERENCE:
        return f"its perplexity shows no difference from the dense model's ({change:+.1%}, within the interval of chance)"
    return f"its perplexity is {verdict} {'as' if verdict == 'the same' else 'than'} the dense model's ({change:+.1%})"


def _quality(report: Mapping[str, Any]) -> str:
    perplexity, evaluated = report["perplexity"], report["eval"]
    verdict, why = _quality_verdict(report)
    change = perplexity["spiking"] / perplexity["dense"] - 1
    return (
        f"Perplexity {perplexity['dense']:.2f} dense, {perplexity['spiking']:.2f} spiking ({change:+.1%}, {verdict}; {why}) on "
        f"{evaluated['tokens']:,} tokens, and in {evaluated['top1_agreement']:.0%} of places the same most likely next token."
    )


def _speed(report: Mapping[str, Any]) -> str:
    simulated, baseline = report["simulate"], report["baseline"]
    return (
        f"{simulated['chip_tokens_per_s']:,.0f} {counted_token(report)}s per second on the chip at {simulated['clock_hz'] / 1e6:.0f} "
        f"MHz{load(report)}. "
        "There is no verdict: the speed of INT8 and FP16 is not simulated, and PyTorch's "
        f"{baseline['tokens_per_s']:,.1f} tokens/s (measured) are those of this machine, not of a chip."
    )
