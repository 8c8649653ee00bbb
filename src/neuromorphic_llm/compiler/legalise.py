"""Legalise: only what the chip can execute; every crossbar site gets its spike encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuromorphic_llm.chip.codes import CHIP_CODES
from neuromorphic_llm.chip.fusion import with_encoders
from neuromorphic_llm.chip.units import missing_units, other_readout
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.shortage import ShortageError
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.ir import Graph


@dataclass(frozen=True)
class Legalise:
    """Refuse what the chip has no unit for and put an `encode` before every matrix product."""

    name: str = "legalise"

    def apply(self, module: Module) -> Module:
        """CompileError for parts, codes and readouts that the chip lacks, hybrids, and more phases than the chip's counters hold."""
        code, spec = module.weights.code, module.spec
        refuse_missing_units(module.graph)
        if code.name not in CHIP_CODES:
            raise CompileError(
                f"the network's spike code is {code.name}, and the chip's encoders have {', '.join(CHIP_CODES[:-1])} and {CHIP_CODES[-1]}; "
                "convert with one of these, or run this network on the functional backend"
            )
        _refuse_hybrids(module)
        if needed := other_readout(module.weights, spec):
            raise CompileError(f"{needed}; compile for a chip with that readout, or convert for the chip's")
        if code.phases > spec.synapse.max_phases:
            raise ShortageError(
                f"the network's {code.name} code has {code.phases} phases, chip {spec.name} counts to {spec.synapse.max_phases}; "
                f"convert with at most {spec.synapse.max_phases} phases or raise synapse.max_phases",
                {"synapse.max_phases": code.phases},
            )
        return replace(module, graph=with_encoders(module.graph, code))


def refuse_missing_units(graph: Graph) -> None:
    """CompileError naming what the chip has no unit for."""
    if missing := missing_units(graph):
        raise CompileError(
            f"the chip has no unit for {' and '.join(missing)}; run this network in the functional simulation (nmllm eval, "
            "SpikingNetwork.functional), or convert a model of the Llama, Mistral or Qwen2 family"
        )


def _refuse_hybrids(module: Module) -> None:
    weights = module.weights
    dense = [site.name for site in weights.config.sites if not weights.site(site.name).spiking]
    dense += [f"layers.{number}.attention" for number, layer in enumerate(weights.layers) if layer.get("attention_spiking") is False]
    if dense:
        raise CompileError(
            f"{len(dense)} parts of the network do not spike (first: {dense[0]}) and the chip runs spiking parts only; "
            "convert with all parts spiking, or run this network on the functional backend"
        )
