"""Wave pictures of docs/reference/waves.md from the RTL: `python tests/rtl/waves.py` writes the page, which a test compares."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from synapse_script import configure, random_region
from vector_script import Script, chip

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.rtl.bench import Bench, unpack
from neuromorphic_llm.rtl.synapse import Epilogue
from neuromorphic_llm.simulation.encoder_kernels import CODES
from neuromorphic_llm.spikes.registry import get_code

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "waves.md"

HEADER = """# Waves

What [timing.md](timing.md) says, as the RTL does it. Every picture is drawn from a run of the Verilated module by
`python tests/rtl/waves.py`; a test checks that this page is what the script prints. A column is a clock cycle; a bar is a signal that
is high, a number stands in the cycles in which the signal has it.
"""


def picture(signals: Mapping[str, ArrayLike]) -> str:
    """A row for each signal: booleans as bars, strings as they are, an empty one for a cycle in which the value does not count."""
    rows = {name: np.asarray(values) for name, values in signals.items()}
    cycles = len(next(iter(rows.values())))
    texts = {name: [str(v) if values.dtype.kind == "U" else "■" if v else "·" for v in values] for name, values in rows.items()}
    width = 1 + max(len(text) for row in texts.values() for text in row)
    width = max(width, 1 + len(str(cycles - 1)))
    label = max(map(len, [*texts, "cycle"]))

    def line(name: str, cells: Sequence[str]) -> str:
        return f"{name:<{label}} {''.join(f'{cell:>{width}}' for cell in cells)}".rstrip()

    lines = [line("cycle", [str(cycle) for cycle in range(cycles)])]
    lines += [line(name, [cell * (width - 1) if cell in "■·" and cell else cell for cell in row]) for name, row in texts.items()]
    return "\n".join(["```", *lines, "```"])


def shown(valid: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Values as text where they count."""
    return np.array([str(value) if here else "" for here, value in zip(np.asarray(valid), np.asarray(values), strict=True)])


def router() -> str:
    """Three flits of one source to two tiles, and two of another that cross them."""
    spec = load_spec("nano").with_fields({"mesh.width": 4, "mesh.height": 4, "noc.fifo_depth": 4})
    bench = Bench("nmllm_mesh_tb", spec=spec)
    masks = np.zeros((2, 16), np.uint8)
    east, south, local = 1 << 1, 1 << 2, 1 << 4
    masks[0, [0, 1, 2, 5]] = [east, east | south, local, local]  # tile 0 to the tiles 2 and 5, which part at tile 1
    masks[1, [1, 2]] = [east, local]  # tile 1 to tile 2
    tile, route = np.meshgrid(np.arange(16), np.arange(2), indexing="ij")
    bench.run({"cfg_valid": 1, "cfg_tile": tile.ravel(), "cfg_address": route.ravel(), "cfg_data": masks.T.ravel()}, outputs=())
    cycles = 10
    valid, value, routes = np.zeros(cycles, np.uint64), np.zeros((cycles, 16), np.uint64), np.zeros((cycles, 16), np.uint64)
    for cycle, name in ((0, 0xA), (1, 0xB), (2, 0xC)):
        valid[cycle] |= 1
        value[cycle, 0] = name
    for cycle, name in ((1, 0x1), (2, 0x2)):
        valid[cycle] |= 2
        value[cycle, 1], routes[cycle, 1] = name, 1
    seen = bench.run({"inject_valid": valid, "inject_value": value, "inject_route": routes})

    def port(tile: int, number: int) -> np.ndarray:
        place = 6 * tile + number
        return shown(seen["pushed"][:, place], [f"{v:X}" for v in seen["values"][:, place]])

    rows = {
        "tile 0 local in": port(0, 4),
        "tile 1 local in": port(1, 4),
        "tile 1 from west": port(1, 3),
        "tile 2 from west": port(2, 3),
        "tile 5 from north": port(5, 0),
        "tile 2 takes": port(2, 5),
        "tile 5 takes": port(5, 5),
    }
    return (
        "## Routers\n\n"
        "Tile 0 sends A, B, C on a route to the tiles 2 and 5 of a 4 x 4 mesh, tile 1 sends 1, 2 to tile 2. A flit enters a FIFO\n"
        "in one cycle and can be chosen in the next. A leaves tile 1 eastwards and southwards in one cycle; from then on the two\n"
        "inputs of tile 1 take the link to the east in turn, and a flit whose other output was free waits for this one only.\n"
        "\n" + picture(rows)
    )


def synapse() -> str:
    """A train of two phases with events and an empty one between them."""
    spec = load_spec("nano").with_fields({"synapse.crossbars": 2})
    rng = np.random.default_rng(1)
    region = random_region(spec, 64, 64, get_code("signed-digit"), Epilogue.VALUES, rng, 14)
    bench = Bench("nmllm_synapse_tile", spec=spec)
    configure(bench, region)
    driven = [list(range(20)), [], [3, 9]]
    flits = []
    for phase, inputs in enumerate(driven):
        events = [1 << 15 | n for n in inputs]
        words = [events[i : i + 4] for i in range(0, len(events), 4)] or [[]]
        for word in words:
            payload = sum(event << 16 * i for i, event in enumerate(word))
            flits.append((payload, 2 | int(phase == len(driven) - 1) << 5, int(word is words[-1])))
    cycles = 44
    width = bench.ports["in_flit"].bits
    words = np.zeros((cycles, -(-width // 32)), np.uint32)
    valid = np.zeros(cycles, np.uint64)
    for cycle, (payload, tag, flag) in enumerate(flits):
        whole = payload | tag << 64 | flag << 80
        words[cycle] = [whole >> 32 * i & 0xFFFFFFFF for i in range(words.shape[1])]
        valid[cycle] = 1
    ready = np.ones(cycles, np.uint64)
    ready[33:36] = 0
    seen = bench.run({"in_valid": valid, "in_flit": words, "out_ready": ready})
    route_bits = bench.ports["out_flit"].bits - 81
    _, _, tag, _ = unpack(seen["out_flit"], [route_bits, 1, 16, 64])
    busy = np.diff(seen["read_cycles"].astype(np.int64), append=seen["read_cycles"][-1]) > 0
    rows = {
        "in_valid": valid.astype(bool),
        "phase ends": np.array([cycle < len(flits) and flits[cycle][2] == 1 for cycle in range(cycles)]),
        "phase in work": busy,
        "crossbar reads": shown(np.diff(seen["crossbar_reads"].astype(np.int64), append=seen["crossbar_reads"][-1]) > 0, ["+2"] * cycles),
        "accumulators out": seen["accumulator_valid"].astype(bool),
        "out_valid": seen["out_valid"].astype(bool),
        "out_ready": ready.astype(bool),
        "outputs from": shown(seen["out_valid"], tag.astype(np.int64) - region.first),
    }
    return (
        "## Synapse tile\n\n"
        "A train of three phases: 20 events of one row block, none, and 2. `readout.active_rows` is 16, so phase 0 takes two reads of\n"
        "`readout.column_mux` = 4 cycles and `readout.read_latency` = 2 more, "
        "the empty phase one cycle, the last one 4 + 2. Each read uses the\n"
        "two slices of the tile (+2). The first value flit can leave `synapse.output_latency` = 8 cycles after the last phase, two values\n"
        "a flit; while the router takes none, the flit stays.\n"
        "\n" + picture(rows)
    )


def encodings(kind: str) -> str:
    """Signals of an encoder with a short vector, the router refusing for a while."""
    bench = Bench("nmllm_encoder_tb", spec=chip(8, {"vector.encoder": kind}))
    script = Script(8)
    script.configure(0, CODES["signed-digit"])
    script.configure(1, 14)
    x = np.array([100, -37, 5, 64, 0, 12, -90, 33, 7, -8, 81, -2, 55, 9, -61, 40])
    script.load(0, x.reshape(2, 8), 0)
    script.load(0, np.full((2, 8), 40), 1)
    begin = script.cycle
    script.drive(start=1, size=16)
    cycles = 30
    script.cycle += cycles
    ready = np.ones(script.cycle, np.int64)
    ready[begin + 10 : begin + 13] = 0
    seen = bench.run(script.inputs(bench) | {"spike_ready": ready})
    part = slice(begin, begin + cycles)
    _, flag, _, payload = unpack(seen["spike_flit"], [bench.ports["spike_flit"].bits - 81, 1, 16, 64])
    events = sum((payload >> np.uint64(16 * i + 15)) & np.uint64(1) for i in range(4))
    valid = seen["spike_valid"].astype(bool)
    start = np.zeros(script.cycle, bool)
    start[begin] = True
    rows = {
        "start": start,
        "remainders written": seen["write_enable"].astype(bool),
        "spike_valid": valid,
        "spike_ready": ready.astype(bool),
        "events in flit": shown(valid, events),
        "last of phase": valid & flag.astype(bool),
        "done": seen["done"].astype(bool),
    }
    return picture({name: values[part] for name, values in rows.items() if kind == "phase" or name != "remainders written"})


def encoder() -> str:
    """Both encoders with the same vector."""
    return (
        "## Encoder\n\n"
        "16 values, 8 lanes: P(N) = 2. The maximum takes 2 + `vector.latency` = 6 cycles, then every phase is scanned in 2 and\n"
        "injected, up to four events per flit. A scan fills one of two banks while the other one is injected; while the router\n"
        "refuses, at most one scan runs ahead.\n"
        "\n" + encodings("phase") + "\n\n"
        "The encoder `element` takes 2 + 8 cycles for the digits of all eight phases, then they are injected without a gap.\n"
        "\n" + encodings("element")
    )


def page() -> str:
    """The whole page."""
    return "\n".join([HEADER, router(), "", synapse(), "", encoder(), ""])


if __name__ == "__main__":
    sys.stdout.write(page()) if "--print" in sys.argv else PAGE.write_text(page(), encoding="utf-8")
