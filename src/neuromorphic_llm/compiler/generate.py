"""Generate: the chip program of a placed, routed, scheduled and allocated module."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuromorphic_llm.chip.program import Program, route_ranges
from neuromorphic_llm.compiler.module import Module, stages_of
from neuromorphic_llm.errors import CompileError


def generate_program(module: Module, report: dict[str, Any], *, network_hash: str, tokenizer_files: dict[str, bytes]) -> Program:
    """The program, with every site's weights transposed so that a row is what one spike adds."""
    if module.routes is None or module.memory is None or not module.programs:
        raise CompileError("a program needs routes, vector programs and memory; run the whole pipeline")
    weights, stages = module.weights, stages_of(module)
    if [site for stage in stages for site in stage.sites] != list(range(len(weights.config.sites))):
        raise CompileError("the graph does not run every crossbar site of the network once and in order; nothing was generated")
    return Program(
        spec=module.spec,
        weights=weights,
        weights_t=tuple(np.ascontiguousarray(weights.site(site.name).weight.T) for site in weights.config.sites),
        stages=stages,
        routes=route_ranges(stages),
        route_masks=module.routes.masks,
        route_sources=np.array([route.source for route in module.routes.routes], dtype=np.int32),
        max_context=module.memory.max_context,
        network_hash=network_hash,
        report=report,
        tokenizer_files=tokenizer_files,
    )
