"""Tables of a synthesis: on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from neuromorphic_llm.rtl.synthesis.measure import Measurement
from neuromorphic_llm.text_file import write_text
from synthesis.compare import ACCOUNT_NM, Comparison, capacitance_factor, stillmaker_factor
from synthesis.libraries import GT2N, IHP

FREQUENCY = 1e8
"""At which powers are given, Hz."""

Rows = list[list[str]]


@dataclass
class Report:
    """Results in the order of the units. `macro_area`: um^2 of a bit of an SRAM macro at 130 nm."""

    macro_area: float | None
    measurements: list[Measurement] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)

    def fail(self, unit: str, library: str, reason: str) -> None:
        """A unit that could not be done."""
        self.failures.append((unit, library, " ".join(reason.split())[:300]))

    def tables(self) -> list[tuple[str, list[str], Rows]]:
        """(title, headings, rows) of what there is."""
        found = []
        for library in dict.fromkeys(m.target for m in self.measurements):
            rows = [self._size(m) for m in self.measurements if m.target == library]
            found.append((f"Units, {library}", SIZE, rows))
            energies = [_energy(m) for m in self.measurements if m.target == library and m.energy]
            if energies:
                found.append((f"Activity, {library}", ENERGY, energies))
        if self.comparisons:
            found.append(
                (f"Energy of an operation against the account, {ACCOUNT_NM} nm", COMPARISON, [_compared(c) for c in self.comparisons])
            )
        if self.failures:
            found.append(("Failed", ["unit", "library", "reason"], [list(failure) for failure in self.failures]))
        return found

    def show(self) -> None:
        """Print the tables."""
        console = Console(width=None if Console().is_terminal else 160)
        for title, headings, rows in self.tables():
            table = Table(title=title, title_justify="left")
            for number, heading in enumerate(headings):
                table.add_column(heading, justify="left" if number == 0 else "right")
            for row in rows:
                table.add_row(*row)
            console.print(table)

    def write_markdown(self, path: Path) -> None:
        """The same tables; GitHub's dialect."""
        parts = []
        for title, headings, rows in self.tables():
            lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
            parts.append(f"### {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
        write_text(path, "\n\n".join(parts) + "\n")

    def write_json(self, path: Path) -> None:
        """Everything in SI units but areas, um^2."""
        data = {
            "scaling_130_to_22_nm": {"stillmaker": stillmaker_factor(), "capacitance": capacitance_factor()},
            "units": [asdict(m) for m in self.measurements],
            "comparisons": [asdict(c) | {"verdict": c.verdict} for c in self.comparisons],
            "failures": self.failures,
        }
        write_text(path, json.dumps(data, indent=1) + "\n")

    def _size(self, m: Measurement) -> list[str]:
        bits = sum(m.memories.values())
        macros = f"{bits * self.macro_area:,.0f}" if self.macro_area and bits and m.target == IHP else "-"
        timed = m.critical_path > 0
        return [
            m.unit,
            f"{m.cells:,}",
            f"{m.flip_flops:,}",
            f"{m.area:,.0f}" if timed else "-",
            str(m.depth),
            f"{m.critical_path * 1e9:.2f}" if timed else "-",
            f"{m.leakage * 1e6:.2f}" if timed else "-",
            f"{bits:,}",
            macros,
        ]


SIZE = ["unit", "cells", "flip-flops", "area µm²", "depth", "path ns", "leakage µW", "memory bits", "as macros µm²"]
ENERGY = ["unit", "cycles", "bits compared", "undefined", "lasting pJ/cycle", "glitches", "clock pins", f"mW at {FREQUENCY / 1e6:.0f} MHz"]
COMPARISON = ["unit", "operation", "130 nm pJ", "with clock", "2 nm fJ", "at 22 nm fJ", "account fJ", "account is"]


def _energy(m: Measurement) -> list[str]:
    assert m.energy is not None
    cycle = 1e12 / m.cycles
    power = (m.energy.logic + m.energy.clock) / m.cycles * FREQUENCY + m.leakage
    return [
        m.unit,
        f"{m.cycles:,}",
        f"{m.compared_bits:,}",
        f"{100 * m.undefined_share:.1f} %",
        _figure(m.energy.lasting * cycle),
        _figure(m.energy.glitches * cycle),
        _figure(m.energy.clock * cycle),
        _figure(power * 1e3),
    ]


def _compared(c: Comparison) -> list[str]:
    def bounds(low: float, nominal: float, high: float) -> str:
        return f"{_figure(nominal * 1e15)} ({_figure(low * 1e15)} to {_figure(high * 1e15)})"

    return [
        c.unit,
        c.operation.replace("_", " ").removesuffix("s"),
        _figure(c.measured[IHP] * 1e12),
        _figure(c.with_clock[IHP] * 1e12),
        _figure(c.measured[GT2N] * 1e15) if GT2N in c.measured else "-",
        bounds(c.scaled.low, c.scaled.nominal, c.scaled.high),
        bounds(c.account.low, c.account.nominal, c.account.high),
        c.verdict,
    ]


def _figure(value: float) -> str:
    """Three digits."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
