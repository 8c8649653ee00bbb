"""Axon memory of stamped trains by itself: inputs driven in the turn of their slots, decays between them, faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench, pack

SPEC = load_spec("nano").with_fields(
    {"synapse.crossbars": 4, "synapse.rows": 13, "readout.kind": "membrane-decay", "readout.steps": 4, "readout.active_rows": 13}
)
INPUTS, HELD = 26, 3
OUTPUTS = ("events", "closed", "start", "first", "last", "slot", "decay", "decays", "finished", "waiting", "driven", "negative")


def flit(events: list[tuple[int, int, int]], last: bool) -> np.ndarray:
    """Flit of events (input, slot, negative)."""
    payload = sum((negative << 20 | slot << 14 | place) << 21 * i for i, (place, slot, negative) in enumerate(events))
    tag = 1 << 5 | len(events) << 6
    fields = [(0, SPEC.route_bits), (int(last), 1), (tag, 16), (payload, 64)]
    return pack([(np.array([value], np.uint64), bits) for value, bits in fields])[0]


@dataclass
class Script:
    """Trains one after another and a scheduler that takes its time for a slot; what the memory must show in each cycle, by its page."""

    rng: np.random.Generator
    last_slot: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    expected: list[dict[str, int]] = field(default_factory=list)
    signs: list[tuple[int, int]] = field(default_factory=list)  # driven inputs, and those of them that are negative
    idle: bool = False  # the scheduler could start a slot in this cycle

    def cycle(self, take: int, events: list[tuple[int, int, int]] | None = None, closes: bool = False, **shown: int) -> None:
        """A cycle, with a flit that arrives or none."""
        given = {"in_valid": int(events is not None), "in_flit": flit(events or [], closes), "take": take, "last_slot": self.last_slot}
        self.rows.append(given)
        number = len(events) if events is not None else 0
        base = {"events": number, "closed": int(closes), "start": 0, "decay": 0, "finished": 0, "driven": 0}
        self.expected.append(base | {name: value for name, value in shown.items() if name != "negative"})
        self.signs.append((shown.get("driven", 0), shown.get("negative", 0)))

    def train(self) -> None:
        """Arrival, then every slot with an event in turn."""
        rng = self.rng
        chosen = rng.permutation(INPUTS)[: rng.integers(0, INPUTS + 1)]
        slots = rng.integers(rng.integers(0, self.last_slot + 1), self.last_slot + 1, len(chosen))
        events = [(int(place), int(slot), int(rng.integers(2))) for place, slot in zip(chosen, slots, strict=True)]
        flits = [events[i : i + HELD] for i in range(0, len(events), HELD)] or [[]]
        for number, each in enumerate(flits):
            while rng.random() < 0.3:
                self.cycle(1)
            self.cycle(1, each, number == len(flits) - 1)
        occupied = sorted(set(slots.tolist()) | {self.last_slot})
        here = occupied[0]
        for number, slot in enumerate(occupied):
            for passed in range(here + 1, slot):
                self.cycle(1, decay=1, slot=passed - 1)
            driven = {place: negative for place, own, negative in events if own == slot}
            shown = {"start": 1, "slot": slot, "first": int(number == 0), "last": int(slot == self.last_slot)}
            bits = {"driven": sum(1 << place for place in driven), "negative": sum(negative << place for place, negative in driven.items())}
            busy = int(rng.integers(0, 4))  # cycles of the slot beyond its first
            ends = {"finished": shown["last"]}
            self.cycle(int(busy == 0), **shown, **bits, **(ends if busy == 0 else {}))
            for left in range(busy, 0, -1):
                known = {name: shown[name] for name in ("slot", "first", "last")} | {"decays": self.last_slot - occupied[0], "waiting": 1}
                self.cycle(int(left == 1), **known, **(ends if left == 1 else {}))
            here = slot
        for _ in range(rng.integers(1, 4)):
            self.cycle(1, waiting=0, last=0)


@pytest.mark.parametrize("last_slot", [0, 5, 31, 63])
def test_slots_take_their_turns(last_slot: int) -> None:
    bench, script = Bench("nmllm_slot_memory", spec=SPEC), Script(np.random.default_rng(last_slot), last_slot)
    bench.reset()
    script.cycle(1, waiting=0)
    for _ in range(150):
        script.train()
    inputs = {name: np.array([row[name] for row in script.rows]) for name in script.rows[0]}
    got = bench.run(inputs, outputs=list(OUTPUTS))
    for name in OUTPUTS[:-1]:
        at = [number for number, shown in enumerate(script.expected) if name in shown]
        wanted = np.array([script.expected[number][name] for number in at], np.uint64)
        assert np.array_equal(got[name].reshape(len(script.rows), -1)[at, 0].astype(np.uint64), wanted), name
    driven = np.array([each[0] for each in script.signs])
    assert np.array_equal(
        got["negative"].reshape(len(driven), -1)[:, 0].astype(np.int64) & driven, np.array([each[1] for each in script.signs])
    )


def test_faults_are_caught() -> None:
    bench = Bench("nmllm_slot_memory", spec=SPEC)
    for sent, fault in (
        ([([(3, 1, 0)], False), ([(3, 2, 0)], True)], "one_event: a second event of input 3"),
        ([([(3, 9, 0)], True)], "slot_of_the_train: an event in slot 9, the last one is 8"),
        ([([(3, 1, 0)], True), ([(4, 1, 0)], True)], "one_train"),
    ):
        bench.reset()
        flits = np.array([flit(*each) for each in sent])
        with pytest.raises(SimulationError, match=fault):
            bench.run({"in_valid": 1, "in_flit": flits, "take": 0, "last_slot": 8}, outputs=())
