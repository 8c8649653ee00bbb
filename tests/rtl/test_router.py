"""Meshes of routers in lockstep with the simulator's: every flit that enters a FIFO or a tile, in every cycle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from mesh_script import Script, expected_moves, random_script, xy_path

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench

CHUNK = 20_000


def mesh_spec(width: int, height: int, depth: int) -> ChipSpec:
    return load_spec("nano").with_fields({"mesh.width": width, "mesh.height": height, "noc.fifo_depth": depth})


def load_routes(bench: Bench, masks: np.ndarray) -> None:
    routes, tiles = masks.shape
    tile, route = np.meshgrid(np.arange(tiles), np.arange(routes), indexing="ij")
    writes = {"cfg_tile": tile.ravel(), "cfg_address": route.ravel(), "cfg_data": masks.T.ravel().astype(np.uint64)}
    bench.run({"cfg_valid": 1} | writes, outputs=())


def check(spec: ChipSpec, bench: Bench, script: Script, cycles: int) -> np.ndarray:
    """Compare a run with the simulator's; returns its counters."""
    bench.reset()
    load_routes(bench, script.masks)
    expected = expected_moves(spec, script, cycles)
    routes = len(script.masks)
    for start in range(0, cycles, CHUNK):
        offers = expected.offers[start : start + CHUNK]
        valid = (offers >= 0) @ (1 << np.arange(spec.topology.tiles, dtype=np.uint64))
        flits = np.where(offers >= 0, offers, 0)
        inputs = {"inject_valid": valid, "inject_value": flits, "inject_route": (flits >> 1) % routes}
        seen = bench.run(inputs, outputs=("pushed", "values", "flits", "hops", "refusals"))
        moved = np.where(seen["pushed"] == 1, seen["values"].astype(np.int64), -1)
        wrong = np.argwhere(moved != expected.values[start : start + CHUNK])
        if len(wrong):
            cycle, place = wrong[0]
            pytest.fail(
                f"cycle {start + cycle}, tile {place // 6}, port {place % 6}: flit {moved[cycle, place]}, "
                f"expected {expected.values[start + cycle, place]}"
            )
    last = bench.run({}, cycles=1, outputs=("flits", "hops", "refusals"))
    counters = np.array([int(last[name][0]) for name in ("flits", "hops", "refusals")])
    assert counters.tolist() == expected.numbers.tolist()
    return counters


MESHES = [(4, 4, 4, 0.1), (3, 2, 1, 0.3), (1, 3, 2, 0.9), (2, 2, 3, 0.9), (4, 1, 5, 0.6)]
"""Width, height, depth of the FIFOs, and the rate of flits that a tile wants to send."""


def compare(width: int, height: int, depth: int, loads: Sequence[float], cycles: int, first_seed: int) -> None:
    """Random routes and flits at each of these loads in turn."""
    spec = mesh_spec(width, height, depth)
    bench = Bench("nmllm_mesh_tb", spec=spec)
    moved = np.sum([check(spec, bench, random_script(spec, first_seed + n, cycles, load), cycles) for n, load in enumerate(loads)], axis=0)
    assert (moved > [1000, 1000, 100]).all()


@pytest.mark.parametrize(("width", "height", "depth", "load"), MESHES)
def test_every_move_of_every_cycle(width: int, height: int, depth: int, load: float) -> None:
    """10^6 cycles of meshes, most of them of the small ones, which meet the same cases of a router sooner."""
    cycles = 50_000 if width * height > 6 else 115_000
    compare(width, height, depth, [load, load / 10], cycles, 10 * width + depth)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "depth", "load"), MESHES)
def test_every_move_of_many_cycles(width: int, height: int, depth: int, load: float) -> None:
    compare(width, height, depth, [load, load / 2, load / 10, 0.01] * 5, 100_000, 1000)


def test_an_idle_flit_crosses_one_link_a_cycle() -> None:
    spec = mesh_spec(4, 4, 4)
    bench = Bench("nmllm_mesh_tb", spec=spec)
    masks = np.zeros((1, 16), np.uint8)
    path = xy_path(spec, 0, 15)
    for tile, port in path:
        masks[0, tile] |= 1 << port
    load_routes(bench, masks)
    seen = bench.run({"inject_valid": [1] + [0] * 9, "inject_value": np.full((10, 16), 9)})
    cycles, places = np.nonzero(seen["pushed"])
    assert cycles.tolist() == list(range(8))
    assert places[0] == 4 and places[-1] == 15 * 6 + 5 and (seen["values"][cycles, places] == 9).all()


def test_a_flit_without_a_route_fails_an_assertion() -> None:
    bench = Bench("nmllm_mesh_tb", spec=mesh_spec(4, 4, 4))
    load_routes(bench, np.zeros((1, 16), np.uint8))
    with pytest.raises(SimulationError, match=r"cycle 1 .*head_has_an_output: route 0"):
        bench.run({"inject_valid": 1}, cycles=4)
