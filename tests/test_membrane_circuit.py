"""Circuit simulation of a membrane: decks, schedule and analysis; with ngspice also a halving, the ratio of slices and a conversion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from membrane import cells, converter, measures, ngspice, transfer
from membrane.design import BITS, PHASES, Design, control_lines, row_pulses, sample_times
from membrane.workload import ColumnSums

needs_ngspice = pytest.mark.skipif(not ngspice.available(), reason="ngspice is not installed (apt-get install ngspice)")
DESIGN = Design()


def sums(tokens: int, seed: int = 0) -> ColumnSums:
    rng = np.random.default_rng(seed)
    up, down = rng.integers(0, 40, (2, tokens, PHASES)).astype(float)
    return ColumnSums(up, down)


def test_waves_are_parsed_by_name() -> None:
    waves = ngspice.parse(" time v(n) i(vdd) \n 0.0e+00 8.0e-01 -1.0e-09 \n 1.0e-12 7.5e-01 -2.0e-09 \n")
    assert list(waves) == ["time", "v(n)", "i(vdd)"]
    assert waves["v(n)"].tolist() == [0.8, 0.75] and waves["time"].tolist() == [0.0, 1e-12]


def test_a_last_phase_counts_fully() -> None:
    up = np.zeros((1, PHASES))
    up[0, -1], up[0, -2], up[0, 0] = 1.0, 2.0, 2.0**13
    assert ColumnSums(up, 0 * up).total.tolist() == [3.0]


@pytest.mark.parametrize("line", ["int", "share", "reset"])
def test_control_lines_rise_in_order_of_time(line: str) -> None:
    times, levels = control_lines(DESIGN, 2)[line]
    assert (np.diff(times) > 0).all()
    assert set(levels) == {0.0, DESIGN.supply}


def test_switches_that_would_undo_each_other_are_never_closed_together() -> None:
    lines = control_lines(DESIGN, 1)
    times = np.linspace(DESIGN.phase, DESIGN.token, 20_000)  # behind the reset of a token, in which twins are emptied together
    closed = {name: np.interp(times, *line) > 0 for name, line in lines.items()}
    assert not (closed["int"] & closed["share"]).any()
    assert not (closed["reset"] & closed["share"]).any()
    rows = np.interp(times, *row_pulses(DESIGN, np.ones((1, PHASES)))) > 0
    assert not (rows & ~closed["int"]).any()
    assert sample_times(DESIGN, 1)[0] < DESIGN.token


def test_mismatch_names_every_transistor_and_repeats() -> None:
    commands = transfer.mismatch(DESIGN, 3)
    assert commands == transfer.mismatch(DESIGN, 3) != transfer.mismatch(DESIGN, 4)
    assert len(commands) == len(transfer.transistors(DESIGN)) + len(transfer.CAPACITORS)
    assert transfer.mismatch(DESIGN, None) == []
    assert not any("x1" in command for command in transfer.mismatch(replace(DESIGN, ideal_clamp=True), 3))
    area, shift = transfer.transistors(DESIGN)["m.x1.min2"]
    assert area == pytest.approx(3e-6 * 40e-9) and shift == -0.1


def test_a_fit_finds_gain_and_offset() -> None:
    work = sums(8)
    ideal = work.total / transfer.FULL_LEVELS * DESIGN.full_scale
    found = transfer.fit(DESIGN, work, 0.9 * ideal + 2 * DESIGN.step)
    assert found.gain == pytest.approx(0.9) and found.offset == pytest.approx(2.0)
    assert abs(found.left).max() < 1e-9
    weights = 2.0 ** np.arange(1 - PHASES, 1) / transfer.FULL_LEVELS * DESIGN.full_scale
    sides = transfer.fit_sides(DESIGN, work, 0.9 * work.up @ weights - 0.8 * work.down @ weights)
    assert sides.gain == pytest.approx(0.85) and sides.difference == pytest.approx(0.1) and abs(sides.left).max() < 1e-9


@pytest.mark.parametrize("steps", [-255.5, -1.2, 0.3, 100.0, 255.5])
def test_decrements_end_within_a_step(steps: float) -> None:
    rests = converter.ideal_rests(DESIGN, steps * DESIGN.step)
    assert len(rests) == BITS and abs(rests[-1]) <= 1.0
    assert 2 * sum(converter.plate_capacitances(DESIGN)) < 2 * DESIGN.capacitance


def test_only_rising_edges_take_energy() -> None:
    waves = {"time": np.array([0.0, 1.0, 2.0, 3.0]), "i(v)": np.array([0.0, -2.0, 0.0, 0.0]), "i(w)": np.array([0.0, 2.0, 0.0, 0.0])}
    assert measures.rising_energy(waves, "i(v)", 0.5) == 1.0
    assert measures.rising_energy(waves, "i(w)", 0.5) == 0.0


def test_read_energies_are_ordered() -> None:
    device = cells.Device("test", 15e-6, 0.2, "none")
    shares = np.zeros((2, 16))
    shares[:, 3] = 1.0
    found = cells.read_energy(device, shares, sums(4), 0.8)
    assert found.cell == pytest.approx(0.04 * 3e-6 * 10e-9) and found.apart == pytest.approx(4 * found.cell)
    assert found.cell < found.rails < found.supply < found.apart


@needs_ngspice
def test_a_halving_halves() -> None:
    found = measures.halving(replace(DESIGN, ideal_clamp=True), None)
    assert found.ratio == pytest.approx((0.5, 0.5), abs=0.01)
    assert max(map(abs, found.offset)) < 2 * DESIGN.step


@needs_ngspice
def test_slices_meet_sixteen_to_one() -> None:
    assert measures.slice_ratio(DESIGN, None) == pytest.approx(1 / 16, rel=0.05)


@needs_ngspice
def test_a_conversion_decides_as_an_ideal_one() -> None:
    found = converter.convert(DESIGN, 0.1)
    assert converter.largest_mistaken(found) < 2.0
    assert converter.decrement_gain(found) == pytest.approx(1.0, abs=0.02)
    assert 10e-15 < found.comparator + found.plates + found.lines < 1e-12
