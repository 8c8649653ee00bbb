"""The compiler: from a network's integer weights to a chip program, one pass after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.allocate import Allocate
from neuromorphic_llm.compiler.choose_slices import ChooseSlices
from neuromorphic_llm.compiler.fold import Fold
from neuromorphic_llm.compiler.generate import generate_program
from neuromorphic_llm.compiler.legalise import Legalise
from neuromorphic_llm.compiler.module import CompilerPass, Module
from neuromorphic_llm.compiler.partition import Partition
from neuromorphic_llm.compiler.place import Place
from neuromorphic_llm.compiler.report import mapping_report
from neuromorphic_llm.compiler.route import RoutePass
from neuromorphic_llm.compiler.schedule import Schedule
from neuromorphic_llm.compiler.shortage import ShortageError, all_shortages
from neuromorphic_llm.graph.verify import verify_graph, verify_sites
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.weights import DecoderWeights

PassObserver = Callable[[str, Module | None, float], None]
"""Called after each step with its name, the module (None for `generate`) and the seconds it took."""


def default_pipeline(seed: int = 0) -> tuple[CompilerPass, ...]:
    """The passes in their order."""
    return (Legalise(), Fold(), ChooseSlices(), Partition(), Place(seed), RoutePass(), Schedule(), Allocate())


def run_passes(module: Module, passes: tuple[CompilerPass, ...], observer: PassObserver | None = None) -> Module:
    """Apply passes, verifying the graph before the first and after each; CompileError naming the pass that broke it."""
    _verify(module, "before the first pass")
    for step in passes:
        start_s = time.perf_counter()
        module = step.apply(module)
        _verify(module, f"after {step.name}")
        if observer is not None:
            observer(step.name, module, time.perf_counter() - start_s)
    return module


def _attempt(module: Module) -> Module:
    """The passes that a chip can be too small for, without the search for good places."""
    return run_passes(module, (Legalise(), Fold(), ChooseSlices(), Partition(), Schedule(), Allocate()))


def _verify(module: Module, when: str) -> None:
    verify_graph(module.graph, when)
    verify_sites(module.graph, {site.name: site.shape for site in module.weights.config.sites}, when)


def compile_network(
    network: SpikingNetwork | DecoderWeights,
    spec: ChipSpec,
    *,
    seed: int = 0,
    network_hash: str | None = None,
    tokenizer_files: Mapping[str, bytes] | None = None,
    observer: PassObserver | None = None,
) -> Program:
    """Program of a network, or of integer weights alone, on a chip. CompileError if it does not fit.

    Hash and tokenizer default to those of the network; weights alone have none.
    """
    weights = network.weights if isinstance(network, SpikingNetwork) else network
    start_s = time.perf_counter()
    module = Module(build_graph(weights), weights, spec)
    if observer is not None:
        observer("build", module, time.perf_counter() - start_s)
    try:
        module = run_passes(module, default_pipeline(seed), observer)
    except ShortageError as error:
        raise all_shortages(module, error, _attempt) from error
    start_s = time.perf_counter()
    if isinstance(network, SpikingNetwork):
        network_hash = network.content_hash if network_hash is None else network_hash
        tokenizer_files = network.tokenizer_files if tokenizer_files is None else tokenizer_files
    report = mapping_report(module)
    program = generate_program(module, report, network_hash=network_hash or "", tokenizer_files=dict(tokenizer_files or {}))
    if observer is not None:
        observer("generate", None, time.perf_counter() - start_s)
    return program
