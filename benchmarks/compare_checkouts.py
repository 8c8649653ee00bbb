"""Compare two checkouts: every figure, tensor and file that their commands give, and their speed.

    python benchmarks/compare_checkouts.py BEFORE AFTER
    python benchmarks/compare_checkouts.py BEFORE AFTER --model nano --model smollm2-135m --json comparison.json
    python benchmarks/compare_checkouts.py BEFORE --save before.json         its fingerprint alone
    python benchmarks/compare_checkouts.py before.json AFTER                 against a fingerprint that was saved
    python benchmarks/compare_checkouts.py BEFORE AFTER --speed              ratios of wall times instead

BEFORE and AFTER are work trees of git, or files that --save wrote. Both run the steps of checkout_steps.py in processes of their own,
with kernels of their sources. Exit code 1 if a leaf differs that IGNORED and EXPECTED do not name, or if a speed ratio is above LIMIT.
--json writes the envelope of docs/reference/formats.md, `before`, `after` and `kind`; without --speed `equal` (leaves by step), `ignored`
(leaves that differ, by reason), `differences[]` (`step`, `leaf`, `before`, `after`; `expected`: why, null: unexpected); with it `speed[]`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from checkout_fingerprint import PACKAGE, REFUSED, Checkout, Fingerprint, Leaf, Leaves, fingerprint
from checkout_speed import LIMIT, MEASURES, Ratio, compare_speed
from checkout_steps import DEFAULT_MODELS
from neuromorphic_llm.cli.result import write_result
from table_run import writable

IGNORED = {
    "a format's version": ("schema_version", "artefact.version"),
    "versions of packages": ("versions.*", "artefact.provenance.package_version"),
    "machine and date": ("machine.*", "started", "*.started"),
    "wall time": (
        *("wall_s", "*.wall_s", "pass_seconds.*", "*.pass_seconds.*", "wall_tokens_per_s", "*.wall_tokens_per_s"),
        *(
            "compile_s",
            "*.compile_s",
            "training_s",
            "artefact.provenance.fine_tuning.seconds",
            "cycles_per_s",
            "baseline.prefill_s",
            "baseline.tokens_per_s",
        ),
    ),
    # Tensors and metadata of artefacts are leaves of their own: these hash format versions and the layout of a chip's JSON, too.
    "hash of a whole artefact": ("*content_hash", "*network_hash", "*program_hash", "*model_hash"),
}
"""Leaves that are not compared: reason -> patterns of their paths."""

EXPECTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "results of compile state all options": ("*/compile", ("arguments.print_between_passes", "arguments.time_passes")),
    "flits follow flit_bits": (
        "*/narrow-flits/*",
        (
            *("counters.*.flits", "counters.*.flit_hops", "counters.*.cycles", "counters.*.routing_bits_read", "cycles_*"),
            *("chip_energy_j_per_token.*", "energy_breakdown_j.*", "prefill_s", "chip_tokens_per_s"),
            # Placement brings down the flits times the links that they cross.
            *("artefact.stages*.tile", "artefact.stages*.vector_tile", "tensors.route_masks", "tensors.route_sources"),
            *("*wire_hops", "*wire_hops_by_kind.*", "*sram_bytes", "*sram_bytes_by_use.routing_tables"),
        ),
    ),
}
"""Leaves that may differ and are listed: reason -> pattern of the step, patterns of the paths."""

ABSENT = "absent"
"""Shown for a leaf that one side lacks."""


@dataclass(frozen=True)
class Difference:
    """A leaf that differs; `expected` says why it may."""

    step: str
    leaf: str
    before: Leaf
    after: Leaf
    expected: str | None


@dataclass(frozen=True)
class Comparison:
    """Leaves of two fingerprints: counts by step of those that are equal, counts by reason of those not compared, and the differences."""

    equal: dict[str, int]
    ignored: dict[str, int]
    hashes: dict[str, str]  # of the compared leaves of a step's artefact
    refused: tuple[str, ...]  # steps that both checkouts refuse
    differences: tuple[Difference, ...]

    @property
    def unexpected(self) -> list[Difference]:
        """Differences that make the comparison fail."""
        return [difference for difference in self.differences if difference.expected is None]


def compare(before: Fingerprint, after: Fingerprint) -> Comparison:
    """Every leaf of both fingerprints."""
    equal, ignored = dict.fromkeys([*before, *after], 0), Counter[str]()
    differences: list[Difference] = []
    for step in equal:
        old, new = _leaves(before, step), _leaves(after, step)
        if (REFUSED in old) != (REFUSED in new):  # one difference, not one for every leaf of the result
            old, new = ({REFUSED: leaves.get(REFUSED, 0)} for leaves in (old, new))
        for leaf in {**old, **new}:
            values = old.get(leaf, ABSENT), new.get(leaf, ABSENT)
            if (reason := _ignored(leaf)) is not None:
                ignored[reason] += values[0] != values[1]
            elif _same(*values):
                equal[step] += 1
            else:
                differences.append(Difference(step, leaf, *values, _expected(step, leaf)))
    hashes = {step: _artefact_hash(before.get(step, {}), after.get(step, {})) for step in equal}
    refused = tuple(step for step in equal if REFUSED in before.get(step, {}) and REFUSED in after.get(step, {}))
    return Comparison(equal, dict(ignored), hashes, refused, tuple(differences))


def _leaves(side: Fingerprint, step: str) -> Leaves:
    return side.get(step, {REFUSED: ABSENT})


def _artefact_hash(*sides: Leaves) -> str:
    """Hash over the compared JSON fields and tensors of an artefact; empty if the step writes none."""
    hashes = []
    for side in sides:
        leaves = {leaf: side[leaf] for leaf in sorted(side) if leaf.startswith(("artefact.", "tensors.")) and _ignored(leaf) is None}
        hashes.append(hashlib.sha256(json.dumps(leaves).encode()).hexdigest()[:16] if leaves else "")
    return hashes[0] if len(set(hashes)) == 1 else "different"


def _same(before: Leaf, after: Leaf) -> bool:
    """Equal in value and type: 1 and True, or 1 and 1.0, are other JSON."""
    return type(before) is type(after) and before == after


def _ignored(leaf: str) -> str | None:
    return next((reason for reason, patterns in IGNORED.items() if any(fnmatchcase(leaf, pattern) for pattern in patterns)), None)


def _expected(step: str, leaf: str) -> str | None:
    for reason, (steps, patterns) in EXPECTED.items():
        if fnmatchcase(step, steps) and any(fnmatchcase(leaf, pattern) for pattern in patterns):
            return reason
    return None


def print_comparison(result: Comparison, console: Console) -> None:
    """Counts by step, then every leaf that differs."""
    differing = Counter(difference.step for difference in result.differences)
    table = Table("step", "equal leaves", "different", "hash of the artefact")
    for step, count in result.equal.items():
        table.add_row(
            step,
            f"{count:,}",
            f"{differing[step]:,}" if differing[step] else "-",
            "refused by both" if step in result.refused else result.hashes[step],
        )
    console.print(table)
    if result.differences:
        table = Table("step", "leaf", "before", "after", "relative", "expected", title="Leaves that differ")
        for each in result.differences:
            table.add_row(each.step, each.leaf, _short(each.before), _short(each.after), _relative(each), each.expected or "no")
        console.print(table)
    for reason, count in result.ignored.items():
        console.print(f"{count:,} leaves differ and are not compared: {reason}")
    unexpected = len(result.unexpected)
    expected = len(result.differences) - unexpected
    console.print(f"{sum(result.equal.values()):,} leaves equal, {expected:,} differ as expected, {unexpected:,} differ unexpectedly")


def _short(value: Leaf) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _relative(each: Difference) -> str:
    """Change of a number as a share of the value before."""
    before, after = each.before, each.after
    if isinstance(before, (int, float)) and isinstance(after, (int, float)) and before:
        return f"{after / before - 1:+.2g}"
    return ""


def print_speed(ratios: Sequence[Ratio], console: Console) -> None:
    """Ratios of wall times, those above LIMIT marked."""
    table = Table("after / before", "fastest", "least", "median", "most", "processor", "before, s", "after, s", "", title="Wall time")
    for each in ratios:
        figures = (each.fastest, each.least, each.median, each.most, each.processor, each.before_s, each.after_s)
        table.add_row(each.measure, *(f"{figure:.3f}" for figure in figures), f"above {LIMIT}" * each.slower)
    console.print(table)


@dataclass(frozen=True)
class Side:
    """One of the two things compared: a checkout, or a fingerprint that was saved."""

    name: str
    checkout: Checkout | None
    leaves: Fingerprint

    @property
    def models(self) -> tuple[str, ...]:
        """Models of a saved fingerprint."""
        return tuple(dict.fromkeys(step.partition("/")[0] for step in self.leaves if not step.startswith(f"{PACKAGE}/")))


def open_side(place: Path, python: str) -> Side:
    """The checkout, or the saved fingerprint, at `place`."""
    if place.is_file():
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            return Side(f"{content['commit']} ({place})", None, dict(content["fingerprint"]))
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{place} holds no fingerprint ({type(error).__name__}); make it with --save") from error
    checkout = Checkout(place.resolve(), python)
    checkout.check()
    return Side(f"{checkout.commit()} ({place})", checkout, {})


def take_fingerprint(side: Side, models: Sequence[str], work: Path, rtl: bool, console: Console) -> Fingerprint:
    """Leaves of the asked models, made by the checkout or taken from the file."""
    if side.checkout is not None:
        return fingerprint(side.checkout, models, work, rtl=rtl, tell=lambda step: console.print(f"{side.name}: {step}", highlight=False))
    if missing := [model for model in models if model not in side.models]:
        raise SystemExit(f"{side.name} holds no {', '.join(missing)}; save it again with --model {missing[0]}")
    return {step: leaves for step, leaves in side.leaves.items() if step.partition("/")[0] in (PACKAGE, *models)}


def save_fingerprint(arguments: argparse.Namespace, side: Side, leaves: Fingerprint) -> None:
    """Write a fingerprint that may stand in the place of its checkout."""
    content = {"commit": side.name.partition(" ")[0], "fingerprint": leaves, "kind": "measured"}
    write_result(arguments.save, "compare_checkouts", vars(arguments), 0, content, datetime.now(UTC), 0.0)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("before", type=Path)
    options.add_argument("after", type=Path, nargs="?")
    models = f"repeatable (default: {', '.join(DEFAULT_MODELS)}, or those of a saved fingerprint; nano with --speed)"
    options.add_argument("--model", action="append", help=models)
    options.add_argument("--rtl", action="store_true", help="the Verilated chip too, which takes minutes to build")
    options.add_argument("--python", default=sys.executable, help="interpreter of both checkouts (default: this one)")
    options.add_argument("--save", type=writable, metavar="FILE", help="write the fingerprint of AFTER, or of BEFORE without AFTER")
    options.add_argument("--work", type=Path, metavar="FOLDER", help="keep what the commands write in this new folder")
    options.add_argument("--speed", action="store_true", help="compare wall times instead of figures")
    options.add_argument("--measure", action="append", choices=MEASURES, help="of --speed, repeatable (default: all)")
    options.add_argument("--runs", type=int, default=5, help="of --speed: alternating runs of each measure")
    options.add_argument("--json", type=writable, metavar="FILE", help="write the result as JSON")
    return options


def main() -> None:
    """Run both checkouts, compare and print."""
    options = parser()
    arguments = options.parse_args()
    if arguments.after is None and not arguments.save:
        options.error("give AFTER, or --save FILE to keep the fingerprint of BEFORE alone")
    started, begin = datetime.now(UTC), time.perf_counter()
    console = Console(width=None if sys.stdout.isatty() else 200)
    sides = [open_side(place, arguments.python) for place in (arguments.before, arguments.after) if place is not None]
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary) / "work"
        work.mkdir(parents=True)
        payload, failed = (run_speed if arguments.speed else run_comparison)(arguments, sides, work.resolve(), console)
    if arguments.json:
        names = {"before": sides[0].name, "after": sides[-1].name, "kind": "measured"}
        write_result(arguments.json, "compare_checkouts", vars(arguments), 0, {**payload, **names}, started, time.perf_counter() - begin)
    raise SystemExit(int(failed))


def run_comparison(arguments: argparse.Namespace, sides: Sequence[Side], work: Path, console: Console) -> tuple[Mapping[str, Any], bool]:
    """Fingerprints of the sides and their differences; whether one is unexpected."""
    saved = [side.models for side in sides if side.checkout is None]
    models = arguments.model or (saved[0] if saved else DEFAULT_MODELS)
    prints = [
        take_fingerprint(side, models, work / name, arguments.rtl, console) for side, name in zip(sides, ("before", "after"), strict=False)
    ]
    if arguments.save:
        save_fingerprint(arguments, sides[-1], prints[-1])
    if len(prints) == 1:
        return {"fingerprint": prints[0]}, False
    result = compare(*prints)
    print_comparison(result, console)
    differences = [asdict(difference) for difference in result.differences]
    return {"equal": result.equal, "ignored": result.ignored, "differences": differences}, bool(result.unexpected)


def run_speed(arguments: argparse.Namespace, sides: Sequence[Side], work: Path, console: Console) -> tuple[Mapping[str, Any], bool]:
    """Ratios of wall times; whether one is above LIMIT."""
    checkouts = [side.checkout for side in sides]
    if len(checkouts) != 2 or None in checkouts:
        raise SystemExit("--speed needs two checkouts; a saved fingerprint has no speed")
    before, after = (checkout for checkout in checkouts if checkout is not None)
    model = (arguments.model or ["nano"])[0]
    ratios = compare_speed(before, after, model, work, arguments.measure or list(MEASURES), arguments.runs)
    print_speed(ratios, console)
    return {"speed": [asdict(ratio) for ratio in ratios]}, any(ratio.slower for ratio in ratios)


if __name__ == "__main__":
    main()
