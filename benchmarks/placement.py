"""How long does compiling SmolLM2-135M's shape take, and what does the placement's local search bring?

Random weights; prints seconds per pass, and wire hops of all routes and cycles of a decoded token with and without swaps.
"""

from __future__ import annotations

import time

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.compiler.generate import generate_program
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.pipeline import default_pipeline, run_passes
from neuromorphic_llm.compiler.place import Place
from neuromorphic_llm.compiler.report import mapping_report
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.random_decoder import SMOLLM2_135M, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.simulation.run import simulate


def compile_with(weights: DecoderWeights, place: Place) -> Program:
    """Compile for nc1 with another placement, printing seconds per pass."""
    passes = tuple(place if isinstance(step, Place) else step for step in default_pipeline())
    seconds: dict[str, float] = {}
    module = Module(build_graph(weights), weights, load_spec("nc1"))
    module = run_passes(module, passes, lambda name, _module, elapsed_s: seconds.update({name: elapsed_s}))
    start_s = time.perf_counter()
    program = generate_program(module, mapping_report(module), network_hash="", tokenizer_files={})
    seconds["generate"] = time.perf_counter() - start_s
    print("  " + ", ".join(f"{name} {elapsed_s:.2f} s" for name, elapsed_s in seconds.items()))
    return program


def main() -> None:
    """Print both placements."""
    weights = random_decoder(0, config=SMOLLM2_135M)
    for swaps in (0, Place().swaps):
        print(f"{swaps} swaps proposed per tile")
        program = compile_with(weights, Place(swaps=swaps))
        result = simulate(program, [1, 2, 3, 4], 5)
        decode = result.decode
        assert decode is not None
        print(f"  wire hops of all routes {program.report['wire_hops']}, cycles per decoded token {result.cycles_per_token:.0f},")
        print(f"  flit-hops per decoded token {decode.flit_hops / decode.tokens:.0f}, flits {decode.flits / decode.tokens:.0f}")


if __name__ == "__main__":
    main()
