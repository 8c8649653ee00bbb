"""Power gating in RTL: orders of a vector tile and power switches, against the spans and marks of timing.md, Power gating."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench, pack, unpack

WAKES = (0, 1, 3)
SITE, CREDIT_ROUTE, OTHER_ROUTE, WAKER = 9, 301, 300, 17
TOKENS = 4000
LINE = 1
"""Cycles from an order to its switch."""


def chip(wake_cycles: int) -> ChipSpec:
    return load_spec("nano").with_fields({"power.gating": "all", "power.wake_cycles": wake_cycles})


def orders(stage: NDArray[np.int64], site: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Words of order_t."""
    return stage << 5 | site << 4 | number


# ---------------------------------------------------------------- switch of a tile


def asleep_of(on: NDArray[np.bool_], wake: int) -> NDArray[np.bool_]:
    """Cycles in which something is off, or has been on for `wake` cycles at most."""
    cycles = np.arange(len(on))
    return ~on | (cycles - np.maximum.accumulate(np.where(on, -1, cycles)) <= wake)


@dataclass(frozen=True)
class Work:
    """Spans [order, end) of the tokens of a tile in order, as its switch is told of them."""

    ordered: NDArray[np.int64]
    ended: NDArray[np.int64]

    def on(self, cycles: int) -> NDArray[np.bool_]:
        """A mark for every cycle in which the tile is on."""
        marks = np.zeros(cycles, np.bool_)
        for begin, end in zip(self.ordered, self.ended, strict=True):
            marks[begin:end] = True
        return marks

    def asleep(self, cycles: int, wake: int) -> NDArray[np.bool_]:
        """A mark for every cycle in which it is off or waking."""
        return asleep_of(self.on(cycles), wake)

    def counters(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cycles on and wake-ups of the tokens by number of ends, as timing.md counts them."""
        before = np.concatenate([[-1], self.ended[:-1]])
        return (np.cumsum(self.ended - np.maximum(self.ordered, before)), np.cumsum(self.ordered > before))


def random_work(rng: np.random.Generator, tokens: int, ahead: int) -> Work:
    """Work of random lengths, of which up to `ahead` is ordered before the one in front has ended; an order may come as that ends."""
    ordered, ended = [], []
    for token in range(tokens):
        earliest = max(ordered[-1] + 1 if token else 3, ended[token - ahead] if token >= ahead else 0)
        order = int(rng.choice([earliest, earliest + rng.integers(0, 40), max(earliest, ended[-1]) if token else earliest]))
        begin = max(order, ended[-1] if token else 0)
        ordered.append(order)
        ended.append(begin + int(rng.choice([1, 2, rng.integers(3, 120)])))
    return Work(np.array(ordered), np.array(ended))


def with_way_home(work: Work, rng: np.random.Generator) -> tuple[Work, NDArray[np.int64]]:
    """The same work at a quarter of the pace, and cycles in which its tokens are at the host, one after another."""
    slow = Work(4 * work.ordered, 4 * work.ended)
    return slow, slow.ended + rng.integers(1, 4, len(slow.ended))


def pulses(at: NDArray[np.int64], cycles: int) -> NDArray[np.int64]:
    """1 in these cycles."""
    values = np.zeros(cycles, np.int64)
    values[at] = 1
    return values


def configured(wake: int, vector: bool, head: bool = False, assertions: bool = True) -> Bench:
    bench = Bench("nmllm_tile_switch", {"VECTOR": int(vector)}, spec=chip(wake), assertions=assertions)
    bench.reset()
    bench.run({"rst": 1, "cfg_valid": 1, "cfg_address": np.arange(4), "cfg_data": [WAKER, SITE, CREDIT_ROUTE, int(head)]}, outputs=())
    bench.run({"rst": [1]}, outputs=())
    return bench


def check_tile(
    bench: Bench, work: Work, wake: int, told: dict[str, NDArray[np.int64]], rng: np.random.Generator
) -> dict[str, NDArray[np.uint64]]:
    """Every cycle of a switch that is told of its work, and of its tile; returns what it gives."""
    cycles = len(told["given"])
    asleep = work.asleep(cycles, wake)
    arriving, credits, offered = (rng.random((3, cycles)) < 0.5).astype(int)
    inputs = {
        "arriving_valid": arriving & (~asleep | credits),
        "arriving_route": np.where(credits, CREDIT_ROUTE, OTHER_ROUTE),
        "offered_valid": offered & ~asleep,
    }
    found = bench.run(inputs | told)
    assert (found["waker"] == WAKER).all()
    assert np.array_equal(found["asleep"], asleep)
    assert np.array_equal(found["taken_valid"], inputs["arriving_valid"])
    assert np.array_equal(found["leaving_valid"], inputs["offered_valid"])
    check_counters(found, work.ended, work.counters())
    return found


def check_counters(
    found: dict[str, NDArray[np.uint64]], ends: NDArray[np.int64], counters: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> None:
    """Counters after each of the ends."""
    before = np.searchsorted(ends, np.arange(len(found["asleep"])), side="left")
    for name, counted in zip(("cycles_on", "wakes"), counters, strict=True):
        assert np.array_equal(found[name], np.concatenate([[0], counted])[before])


@pytest.mark.parametrize("wake", WAKES)
@pytest.mark.parametrize("head", [False, True])
def test_every_cycle_of_a_vector_tile(head: bool, wake: int) -> None:
    """The routers of a stage are needed until its work ends, those of the head until its token is at the host."""
    rng = np.random.default_rng(wake)
    for ahead in (1, 4):
        work = random_work(rng, TOKENS, ahead)
        work, arrived = with_way_home(work, rng) if head else (work, work.ended)
        cycles = int(arrived[-1]) + 90
        told = {
            "given": orders(pulses(work.ordered, cycles), rng.integers(0, 2, cycles), rng.integers(0, 16, cycles)),
            "ended": pulses(work.ended, cycles),
            "token_ended": pulses(arrived, cycles) if head else rng.integers(0, 2, cycles),
        }
        found = check_tile(configured(wake, vector=True, head=head), work, wake, told, rng)
        assert np.array_equal(found["serving"], Work(work.ordered, arrived).on(cycles))
        assert np.array_equal(found["released"], pulses(arrived, cycles))


@pytest.mark.parametrize("wake", WAKES)
def test_every_cycle_of_a_synapse_tile(wake: int) -> None:
    """Orders and ends come on one line, beside those of other sites."""
    rng = np.random.default_rng(wake)
    work = random_work(rng, TOKENS, 1)
    work = Work(work.ordered + np.arange(TOKENS), work.ended + np.arange(TOKENS))  # an order no sooner than the cycle after an end
    cycles = int(work.ended[-1]) + 90
    ordered, ended = pulses(work.ordered, cycles), pulses(work.ended, cycles)
    site = ordered | ended | (rng.random(cycles) < 0.3)
    others = np.delete(np.arange(16), [SITE, SITE + 1])
    number = np.where(site == 1, rng.choice(others, cycles), rng.integers(0, 16, cycles))
    number = np.where(ordered == 1, SITE, np.where(ended == 1, SITE + 1, number))
    noise = {name: rng.integers(0, 2, cycles) for name in ("ended", "token_ended")}
    told = {"given": orders(rng.integers(0, 2, cycles), site, number), **noise}
    found = check_tile(configured(wake, vector=False), work, wake, told, rng)
    assert not found["serving"].any() and not found["released"].any()


@pytest.mark.parametrize(
    ("error", "inputs"),
    [
        ("awake: a flit of route 300 arrives at a tile that is off or waking", {"arriving_valid": [0, 0, 0, 0, 1, 0]}),
        ("awake: a flit of route 300", {"given": [0, 32, 0, 0, 0, 0], "arriving_valid": [0, 0, 0, 1, 0, 0]}),
        ("silent: a tile that is off or waking offers a flit", {"given": [0, 32, 0, 0, 0, 0], "offered_valid": [0, 0, 0, 1, 0, 0]}),
        ("ordered_before: the end of work that was not ordered", {"ended": [0, 1, 0, 0, 0, 0]}),
        ("orders_fit: more work is ordered", {"given": [32] * 9}),
    ],
)
def test_a_tile_that_sleeps_takes_and_gives_nothing(error: str, inputs: dict[str, list[int]]) -> None:
    with pytest.raises(SimulationError, match=error):
        configured(3, vector=True).run({"arriving_route": OTHER_ROUTE, **inputs})


def test_a_tile_that_sleeps_is_cut_off() -> None:
    """Without assertions: what arrives is lost, but for credits, and nothing leaves."""
    given, route = 32 * pulses(np.array([4]), 12), np.where(np.arange(12) % 2, CREDIT_ROUTE, OTHER_ROUTE)  # on from cycle 4, awake from 7
    bench = configured(3, vector=True, assertions=False)
    found = bench.run({"given": given, "arriving_valid": 1, "arriving_route": route, "offered_valid": 1})
    assert np.flatnonzero(found["taken_valid"]).tolist() == [1, 3, 5, *range(7, 12)]
    assert np.flatnonzero(found["leaving_valid"]).tolist() == list(range(7, 12))


def test_a_reset_ends_all_work() -> None:
    bench, at = configured(3, vector=True), np.arange(30)
    found = bench.run({"given": np.where((at == 1) | (at == 2) | (at == 20), 32, 0), "ended": at == 9, "rst": at == 12})
    assert np.array_equal(found["asleep"] == 0, ((at >= 4) & (at <= 12)) | (at >= 23))
    assert np.array_equal(found["serving"] == 1, ((at >= 1) & (at <= 12)) | (at >= 20))
    assert found["cycles_on"][10] == 8 and not found["cycles_on"][13:].any() and not found["wakes"][13:].any()
    again = {"given": np.where((at == 1) | (at == 13), 32, 0), "rst": at == 12}  # needed before a reset and at once after it
    found = configured(3, vector=True).run(again)
    assert np.array_equal(found["asleep"] == 0, ((at >= 4) & (at <= 12)) | (at >= 16))


# ---------------------------------------------------------------- switch of a router


WIDE = {"mesh.width": 12, "mesh.height": 11}
"""More tiles than a data word of the host port has bits."""


@pytest.mark.parametrize(("wake", "mesh"), [(0, {}), (3, {}), (3, WIDE)])
def test_every_cycle_of_a_router(wake: int, mesh: dict[str, int]) -> None:
    """It is on while one of its stages needs it; stages that it does not serve come and go."""
    rng, spec = np.random.default_rng(wake), chip(wake).with_fields(mesh)
    tiles = spec.topology.tiles
    bench = Bench("nmllm_router_switch", spec=spec)
    for served in ([3], [3, 19], [2, tiles - 1, 11], [min(64, tiles - 2)], []):
        works = {tile: random_work(rng, TOKENS // 4, 4) for tile in {*served, 7, 20}}
        cycles = min(int(work.ended[-1]) for work in works.values()) + 90
        serving, released = np.zeros((2, cycles, tiles), np.int64)
        for tile, work in works.items():
            serving[:, tile] = work.on(cycles)
            released[work.ended[work.ended < cycles], tile] = 1
        needed = serving[:, served].any(axis=1)
        words = -(-tiles // 64)
        bench.reset()
        mask = sum(1 << tile for tile in served)
        data = [mask >> 64 * word & (1 << 64) - 1 for word in range(words)]
        bench.run({"rst": 1, "cfg_valid": 1, "cfg_address": np.arange(words), "cfg_data": np.array(data, np.uint64)}, outputs=())
        bench.run({"rst": 1, "cfg_data": np.array([2**63 - 1], np.uint64)}, outputs=())
        asleep = asleep_of(needed, wake)
        inputs = {name: (rng.random(cycles) < 0.5) & ~asleep for name in ("entering", "holding")}
        found = bench.run(inputs | {"serving": bits(serving), "released": bits(released)})
        assert np.array_equal(found["asleep"], asleep)
        ends = np.flatnonzero(released[:, served].any(axis=1))
        rises = np.diff(needed.astype(int), prepend=0) == 1
        check_counters(found, ends, tuple(np.cumsum(each)[ends - 1] for each in (needed, rises)))


def bits(marks: NDArray[np.int64]) -> NDArray[np.uint64] | NDArray[np.uint32]:
    """Marks [cycles, tiles] as words of a port."""
    if marks.shape[1] <= 64:
        return (marks.astype(np.uint64) << np.arange(marks.shape[1], dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    return pack([(marks[:, tile], 1) for tile in reversed(range(marks.shape[1]))])


@pytest.mark.parametrize(("port", "error"), [("entering", "awake: a flit enters a router"), ("holding", "empty: a router")])
def test_a_router_that_sleeps_takes_and_holds_nothing(port: str, error: str) -> None:
    bench = Bench("nmllm_router_switch", spec=chip(3))
    bench.reset()
    bench.run({"rst": 1, "cfg_valid": 1, "cfg_data": [1 << 5]}, outputs=())
    bench.run({"serving": [0] + [1 << 5] * 9, port: [0] * 4 + [1] * 6, "rst": 0, "cfg_valid": 0})  # awake from cycle 4 on
    with pytest.raises(SimulationError, match=error):
        bench.run({"serving": [0] + [1 << 5] * 9, port: [0] * 3 + [1] * 7})


# ---------------------------------------------------------------- orders of a vector tile


@pytest.mark.parametrize("wake", WAKES)
def test_every_order_of_a_vector_tile(wake: int) -> None:
    rng, bench = np.random.default_rng(wake), Bench("nmllm_orders", spec=chip(wake))
    for last_site in (0, 1, 3, 14):
        bench.reset()
        events = []  # (cycle, name) of tokens one after another
        passed = []  # (from, whether the next stage has work)
        cycle = 2
        for _ in range(400):
            events.append((cycle, "take_residual"))
            passed.append((cycle + 1, int(rng.integers(0, 2))))
            for _ in range(last_site + 1):
                cycle += int(rng.choice([1, 2, rng.integers(3, 150)]))
                events.append((cycle, "take_values"))
            cycle += int(rng.integers(1, 50))
            events.append((cycle, str(rng.choice(["pushed", "skipped"]))))
            cycle += int(rng.integers(events[-1][1] == "pushed", 3))
        cycles = cycle + 100
        inputs = {name: np.zeros(cycles, int) for name in ("take_residual", "take_values", "pushed", "skipped")}
        for at, name in events:
            inputs[name][at] = 1
        first, values = zip(*passed, strict=True)
        passed_on = np.repeat([0, *values], np.diff([0, *first, cycles]))
        pushed, skipped = inputs["pushed"], inputs.pop("skipped")
        found = bench.run(inputs | {"row_done": pushed | skipped, "passed_on": passed_on, "last_site": last_site})
        check_orders(found, inputs, skipped, passed_on, last_site, wake)


def check_orders(
    found: dict[str, NDArray[np.uint64]],
    inputs: dict[str, NDArray[np.int64]],
    skipped: NDArray[np.int64],
    passed_on: NDArray[np.int64],
    last_site: int,
    wake: int,
) -> None:
    taken = inputs["take_residual"] | inputs["take_values"]
    cycles = len(taken)
    stage, site, number = unpack(found["orders"][:, None].astype(np.uint32), [1, 1, 4])
    assert np.array_equal(site[LINE:], taken[:-LINE]) and site[0] == 0
    begun = np.flatnonzero(taken)
    numbers = np.arange(len(begun)) % (last_site + 2)
    assert np.array_equal(number[begun + LINE], numbers)
    wanted = np.zeros(cycles, int)
    wanted[begun + LINE] = (numbers == last_site) & (passed_on[begun + LINE] == 1)
    assert np.array_equal(stage, wanted)
    done = np.zeros(cycles, int)
    done[np.flatnonzero(inputs["pushed"]) + 1 + LINE] = 1  # at the cycle after the last push
    done[np.flatnonzero(skipped) + LINE] = 1
    assert np.array_equal(found["work_done"], done)
    since = np.arange(cycles) - np.maximum.accumulate(np.where(taken, np.arange(cycles), -(10**6)))
    after = since[1:] > 0  # in the cycle of an order nobody asks
    left = np.maximum(wake - since, 0)[1:]
    assert np.array_equal(found["wake_left"][1:][after], left[after])


def test_orders_end_with_a_reset() -> None:
    bench, at = Bench("nmllm_orders", spec=chip(3)), np.arange(12)
    for pushed in (0, 1):
        found = bench.run({"take_residual": at == 5, "row_done": at == 5, "pushed": pushed, "passed_on": 1, "rst": at == 5, "last_site": 0})
        assert not (found["orders"][6:].astype(int) >> 4).any() and not found["wake_left"][6:].any() and not found["work_done"][6:].any()
