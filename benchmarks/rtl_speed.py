"""Speed of the Verilated RTL: the model nano on its whole chip, with and without assertions, and a synapse tile of one 64 x 64 crossbar.

    python benchmarks/rtl_speed.py

Processor time is what the run itself takes; wall time is longer if the machine does other work.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.models.text_tokens import text_ids
from neuromorphic_llm.rtl.bench import Bench, pack
from neuromorphic_llm.rtl.chip import RtlChip
from neuromorphic_llm.rtl.synapse import Epilogue, RegionLoad, synapse_writes

PERIOD, PHASES, FLITS = 120, 6, 3
"""Of the tile's trains: cycles from one to the next, phases, flits of each."""


def main() -> None:
    """Build, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--cycles", type=int, default=1_000_000)
    arguments = parser.parse_args()
    table = Table("RTL", "cycles", "cycles/s of processor time", "tokens/s of processor time", "tokens/s of wall time")
    for checked in (False, True):
        table.add_row(f"nano, {'with' if checked else 'without'} assertions and observers", *nano(arguments.tokens, checked))
    table.add_row("tile with a 64 x 64 crossbar, assertions on", f"{arguments.cycles:,}", f"{tile(arguments.cycles):,.0f}", "", "")
    Console().print(table)


def nano(tokens: int, checked: bool) -> list[str]:
    """Cycles of the decoded tokens, and the speeds of decoding them."""
    checkpoint = load_checkpoint("nano")
    tokenizer = checkpoint.tokenizer()
    network = convert(checkpoint, ConvertConfig(), calibration_windows(tokenizer))
    chip = RtlChip(compile_network(network.weights, load_spec("nano")), checked=checked)
    marks: list[tuple[float, float]] = []
    prompt = text_ids(tokenizer, "Once upon a time")
    result = chip.run([prompt], tokens, (), lambda *_: marks.append((time.process_time(), time.perf_counter())))
    decoded, cycles = tokens - 1, result.cycles - result.round_end(0)
    processor, wall = (last - first for first, last in zip(marks[0], marks[-1], strict=True))
    return [f"{cycles:,}", f"{cycles / processor:,.0f}", f"{decoded / processor:.2f}", f"{decoded / wall:.2f}"]


def tile(cycles: int) -> float:
    """Cycles per second of a busy synapse tile."""
    spec = load_spec("nano").with_fields({"synapse.crossbars": 2})
    generator = np.random.default_rng(0)
    weight, multiplier = (
        generator.integers(-127, 128, (spec.synapse.rows, spec.synapse.columns)),
        generator.integers(1, 1 << 15, spec.synapse.columns),
    )
    bench = Bench("nmllm_synapse_tile", spec=spec)
    writes = synapse_writes(spec, RegionLoad(weight, multiplier, None, 14, 1, Epilogue.VALUES, route=0))
    configuration = dict(zip(("cfg_unit", "cfg_address", "cfg_data"), writes.T, strict=True))
    bench.run({"rst": np.ones(len(writes), np.uint64), "cfg_valid": 1} | configuration, outputs=())
    step = np.arange(cycles) % PERIOD
    valid = (step < PHASES * FLITS).astype(np.uint64)
    inputs = np.stack([generator.permuted(np.tile(np.arange(spec.synapse.rows), (1, 1)), axis=1)[0][: 4 * FLITS] for _ in range(PHASES)])
    payload = np.zeros(PERIOD, np.uint64)
    for number in range(PHASES * FLITS):
        phase, flit = divmod(number, FLITS)
        events = [1 << 15 | int(inputs[phase, 4 * flit + e]) for e in range(4)]
        payload[number] = sum(event << 16 * e for e, event in enumerate(events))
    last, final = step % FLITS == FLITS - 1, step // FLITS == PHASES - 1
    bits = bench.ports["in_flit"].bits - 81
    tag = 2 | final.astype(np.uint64) << np.uint64(5)
    flits = pack([(np.zeros(cycles), bits), (last, 1), (tag, 16), (payload[step], 64)])
    begin = time.process_time()
    seen = bench.run({"in_valid": valid, "in_flit": flits, "out_ready": 1}, outputs=("crossbar_reads",))
    seconds = time.process_time() - begin
    assert int(seen["crossbar_reads"][-1]) > cycles // PERIOD * PHASES  # it worked
    return cycles / seconds


if __name__ == "__main__":
    main()
