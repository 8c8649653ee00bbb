"""The macro with membranes against devices.md: charge of every train, rounded, clipped and flagged at every shift; its digital twin too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.devices.cells import words
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.reference.fixed_point import rsh
from neuromorphic_llm.rtl.bench import Bench, signed
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog

SPEC = load_spec("nano").with_fields(
    {
        "synapse.rows": 17,
        "synapse.columns": 15,
        "synapse.cell_bits": 3,
        "synapse.slices": 3,
        "readout.kind": "membrane",
        "readout.active_rows": 5,
        "readout.column_mux": 4,
        "readout.converter_bits": 6,
    }
)
DECAY = SPEC.with_fields({"readout.kind": "membrane-decay", "readout.steps": 3})
ROWS, COLUMNS, MUX, BITS = 17, 15, 4, 6
WEIGHTS = np.arange(-127, 128, dtype=np.int8).reshape(ROWS, COLUMNS)


@dataclass
class Script:
    """Commands of the macro, one each cycle, and what its converters must then show; the model is that of devices.md on whole sums."""

    rng: np.random.Generator
    commands: list[dict[str, Any]] = field(default_factory=list)
    expected: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = field(default_factory=list)  # after each cycle
    met: list[NDArray[np.int64]] = field(default_factory=list)  # charges that the macro passes on in each cycle
    converted: NDArray[np.int64] = field(default_factory=lambda: np.zeros(4, np.int64))
    saturated: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(4, np.bool_))

    def command(self, **given: Any) -> None:
        """A cycle; what no command needs is random."""
        rows, shifts = self.rng.integers(0, 1 << ROWS, 2), self.rng.integers(0, 46, 4)
        charges = self.rng.integers(0, 1 << 32, 4)
        idle: dict[str, Any] = {
            "place": 0,
            "charge_in": charges,
            "discharge": 0,
            "halve": 0,
            "integrate": 0,
            "convert": 0,
            "driven": rows[0],
            "negative": rows[1],
        }
        self.commands.append(idle | {"slot": self.rng.integers(4), "active": self.rng.integers(0, 2, 4), "shift": shifts} | given)
        self.expected.append((self.converted.copy(), self.saturated.copy()))
        self.met.append(np.zeros(4, np.int64))

    def train(self, phases: int) -> None:
        """Phases of random digits, several integrations each, then conversions of every column and of some again."""
        charge, bit = np.zeros(MUX * 4, np.int64), 1 << np.arange(ROWS)
        for phase in range(phases):
            self.command(**({"halve": 1} if phase else {"discharge": 1}))
            for _ in range(self.rng.integers(4)):
                digits = np.zeros(ROWS, np.int64)
                chosen = self.rng.choice(ROWS, self.rng.integers(1, 6), replace=False)
                digits[chosen] = self.rng.choice([-1, 1], len(chosen)) if phase % 2 else self.rng.choice([-1, 1])
                charge[:COLUMNS] += (digits @ WEIGHTS.astype(np.int64)) << phase
                negative = (digits < 0) @ bit | int(self.rng.integers(1 << ROWS)) & ~(np.abs(digits) @ bit)
                self.command(integrate=1, driven=np.abs(digits) @ bit, negative=negative)
                if self.rng.random() < 0.3:
                    self.command()
        for slot in range(MUX):
            needed = max(int(np.abs(charge).max()).bit_length() - BITS, 0)
            for attempt in range(3):
                shift = np.clip(self.rng.integers(-4, 4, 4) + needed, 0, 45) if attempt else np.maximum(needed - np.arange(4), 0)
                self.convert(charge[slot::MUX], slot, shift, self.rng.integers(0, 2, 4) if attempt else np.ones(4, np.int64))

    def convert(self, charge: NDArray[np.int64], slot: int, shift: NDArray[np.int64], active: NDArray[np.int64]) -> None:
        """A conversion of the charges of a slot's columns, with those of other macros."""
        others = self.rng.integers(-(1 << int(self.rng.integers(24))), 1 << int(self.rng.integers(24)), 4)
        self.command(convert=1, slot=slot, active=active, shift=shift, charge_in=others & 0xFFFFFFFF)
        most, exists = (1 << BITS - 1) - 1, np.arange(4) * MUX + slot < COLUMNS
        self.met[-1] = np.where(exists, charge + others, 0)
        rounded = rsh(charge + others, shift)
        taken = (active == 1) & exists
        self.converted = np.where(taken, np.clip(rounded, -most - 1, most), self.converted)
        self.saturated = np.where(taken, (rounded > most) | (rounded < -most - 1), self.saturated)


def loaded(parameters: dict[str, int], spec: ChipSpec = SPEC) -> Bench:
    """The macro with its weights; discharged."""
    bench, data = Bench("nmllm_membrane_array", parameters, spec=spec), words(WEIGHTS, COLUMNS)
    row, word = np.divmod(np.arange(data.size), data.shape[1])
    writes = {"write_enable": np.ones(data.size, np.uint64), "write_row": row, "write_word": word, "write_data": data.reshape(-1)}
    bench.run(writes | {"discharge": 1}, outputs=())
    return bench


@pytest.mark.parametrize("digital", [0, 1])
def test_a_train_is_converted_as_the_sum_of_its_products(digital: int) -> None:
    bench, script = loaded({"DIGITAL": digital}), Script(np.random.default_rng(3))
    script.convert(np.zeros(4, np.int64), 0, np.zeros(4, np.int64), np.ones(4, np.int64))  # known results to begin with
    for phases in (1, 2, 3, 14, 17, *script.rng.integers(1, 18, 200)):
        script.train(int(phases))
    check(bench, script)


def check(bench: Bench, script: Script) -> None:
    """Run a script and compare the converters in every cycle."""
    inputs = {name: np.array([each[name] for each in script.commands], np.uint64) for name in script.commands[0]}
    got = bench.run(inputs, outputs=["converted", "saturated", "charge_out"])
    converted, saturated = (np.array(each)[1:] for each in zip(*script.expected, strict=True))
    np.testing.assert_array_equal(signed(got["converted"], BITS)[1:], converted)
    np.testing.assert_array_equal(got["saturated"][1:], saturated)
    np.testing.assert_array_equal(signed(got["charge_out"], 32), np.array(script.met))
    assert 0.1 < saturated.mean() < 0.9


@pytest.mark.parametrize("digital", [0, 1])
def test_what_comes_in_a_slot_counts_its_level_times(digital: int) -> None:
    """Trains that begin in any slot and decay to the last one, with several integrations in some slots."""
    code, rng = FirstSpikeLog(4, steps=3), np.random.default_rng(5)
    bench, script = loaded({"DIGITAL": digital}, DECAY), Script(rng)
    script.convert(np.zeros(4, np.int64), 0, np.zeros(4, np.int64), np.ones(4, np.int64))
    for first in rng.integers(0, len(code.levels), 60):
        charge, bit = np.zeros(MUX * 4, np.int64), 1 << np.arange(ROWS)
        for slot in range(int(first), len(code.levels)):
            script.command(**({"halve": 1} if slot > first else {"discharge": 1, "place": slot}))
            for _ in range(rng.integers(3)):
                digits = np.zeros(ROWS, np.int64)
                digits[rng.choice(ROWS, rng.integers(1, 6), replace=False)] = rng.choice([-1, 1])
                charge[:COLUMNS] += code.levels[slot] * (digits @ WEIGHTS.astype(np.int64))
                script.command(integrate=1, driven=np.abs(digits) @ bit, negative=(digits < 0) @ bit)
        for slot in range(MUX):
            shift = rng.integers(0, 16, 4)
            script.convert(charge[slot::MUX], slot, shift, np.ones(4, np.int64))
    check(bench, script)


@pytest.mark.parametrize("digital", [0, 1])
def test_too_many_rows_are_caught(digital: int) -> None:
    bench = loaded({"DIGITAL": digital})
    bench.run({"integrate": [1, 0], "driven": 0b11111, "negative": 0})
    with pytest.raises(SimulationError, match="active_rows: 6 rows driven at once, at most 5"):
        bench.run({"integrate": [1, 0], "driven": 0b111111, "negative": 0})


def test_charge_beyond_its_bits_is_caught() -> None:
    bench = loaded({})
    halve = np.concatenate([np.zeros(1, np.uint64), np.ones(30, np.uint64), np.zeros(2, np.uint64)])
    integrate = np.concatenate([np.zeros(31, np.uint64), np.ones(2, np.uint64)])
    with pytest.raises(SimulationError, match="charge_fits: slice 0 of column 0 holds -"):
        bench.run({"discharge": 1 - np.minimum(halve + integrate, 1), "halve": halve, "integrate": integrate, "driven": 1, "negative": 0})
