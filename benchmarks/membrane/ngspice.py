"""Runs of ngspice in batch mode: deck in, waves out."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
Waves = dict[str, NDArray[np.float64]]


def available() -> bool:
    """True if ngspice is installed."""
    return shutil.which("ngspice") is not None


def source(name: str, times: NDArray[np.float64], levels: NDArray[np.float64]) -> str:
    """Piecewise linear voltage source from node `name` to ground."""
    points = [f"{time:.7g} {level:.8g}" for time, level in zip(times, levels, strict=True)]
    lines = [" ".join(points[i : i + 50]) for i in range(0, len(points), 50)]
    return f"v{name} {name} 0 pwl(\n+ " + "\n+ ".join(lines) + ")"


def deck(title: str, parameters: Mapping[str, float], body: Sequence[str], control: Sequence[str], models: Path | None = None) -> str:
    """Deck of a circuit: transistors, parameters, subcircuits and elements, commands."""
    values = " ".join(f"{name}={value:.9g}" for name, value in parameters.items())
    return "\n".join(
        [
            f"* {title}",
            f".include {models or FOLDER / 'transistors.lib'}",
            f".param {values}",
            ".options noacct method=trap reltol=1e-3 abstol=1e-14 vntol=1e-7 chgtol=1e-18 trtol=1",
            *body,
            ".control",
            "set noaskquit",
            "set wr_singlescale",
            "set wr_vecnames",
            *control,
            "quit",
            ".endc",
            ".end",
            "",
        ]
    )


def run(text: str, *, timeout_s: float = 600.0) -> tuple[Waves, str]:
    """Waves that the deck's `wrdata waves ...` wrote, by vector, and what was printed; SystemExit with ngspice's error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deck.cir"
        path.write_text(text, encoding="utf-8")
        (Path(folder) / ".spiceinit").write_text("set num_threads=1\n", encoding="utf-8")  # more wait for each other longer than they work
        done = subprocess.run(["ngspice", "-b", str(path)], cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)
        written = Path(folder) / "waves"
        if not written.exists():
            complaints = [row for row in (done.stdout + done.stderr).splitlines() if "rror" in row or "abort" in row]
            raise SystemExit(f"ngspice wrote no waves: {'; '.join(complaints[:3]) or done.stderr[-300:]}")
        return parse(written.read_text(encoding="utf-8")), done.stdout


def parse(table: str) -> Waves:
    """Columns of a table that wrdata wrote with names in its first line, the scale once."""
    names, *rows = table.splitlines()
    columns = np.array([[float(number) for number in row.split()] for row in rows if row.strip()]).T
    return dict(zip(names.split(), columns, strict=True))
