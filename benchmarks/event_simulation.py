"""Speed of the chip simulation: wall tokens/s, synaptic operations/s, share of the timing simulation, peak memory.

python benchmarks/event_simulation.py                     random weights in the shape of SmolLM2-135M, compiled for nc1
python benchmarks/event_simulation.py programs/smollm2    a program folder
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.program_io import load_program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.reference.random_decoder import SMOLLM2_135M, random_decoder
from neuromorphic_llm.simulation.run import simulate


def random_program() -> Program:
    """SmolLM2-135M's shape at about 1.5 spikes per activation."""
    return compile_network(random_decoder(0, config=SMOLLM2_135M), load_spec("nc1"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, nargs="?")
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    program = load_program(arguments.program) if arguments.program else random_program()
    prompt = np.random.default_rng(0).integers(0, program.weights.config.vocab_size, arguments.prompt_tokens).tolist()
    simulate(program, prompt[:2], 2, stop=(), threads=arguments.threads)  # compiles the kernels
    begin = time.perf_counter()
    result = simulate(program, prompt, arguments.new_tokens, stop=(), threads=arguments.threads)
    wall_s = time.perf_counter() - begin
    assert result.decode is not None
    rows = result.trace.tokens
    decoded = result.decode.tokens
    timing_s = result.timing_s * decoded / rows
    print(f"tokens                        {rows} ({decoded} decoded)")
    print(f"wall tokens/s                 {rows / wall_s:.1f}")
    print(f"decoded tokens/s              {decoded / (result.decode_event_s + timing_s):.1f}, timing simulation included")
    print(f"event execution               {1e3 * result.decode_event_s / decoded:.1f} ms per decoded token")
    print(f"timing simulation             {1e3 * result.timing_s / rows:.1f} ms per token, {result.timing_s / wall_s:.0%} of the time")
    operations = result.decode.synaptic_operations / decoded
    print(f"synaptic operations           {result.synaptic_operations_per_s / 1e9:.2f}e9 a second, {operations:.3g} a token")
    print(f"cycles                        {result.prefill_cycles} prefill, {result.cycles_per_token:.0f} a decoded token")
    print(f"flits, links crossed          {result.decode.flits // decoded}, {result.decode.flit_hops // decoded} a decoded token")
    print(f"peak memory                   {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
