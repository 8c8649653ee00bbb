"""Legalise: only what the chip can execute; every crossbar site gets its spike encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuromorphic_llm.chip.codes import CHIP_CODES, MOST_SLOTS, STAMPED_CODE
from neuromorphic_llm.chip.fusion import with_encoders
from neuromorphic_llm.chip.units import missing_units, other_readout
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.shortage import ShortageError
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.ir import Graph
from neuromorphic_llm.reference.weights import unfit_code
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog


@dataclass(frozen=True)
class Legalise:
    """Refuse what the chip has no unit for and put an `encode` before every matrix product."""

    name: str = "legalise"

    def apply(self, module: Module) -> Module:
        """CompileError for parts, codes and readouts that the chip lacks, hybrids, and more phases than the chip's counters hold."""
        code, spec = module.weights.code, module.spec
        refuse_missing_units(module.graph)
        _refuse_codes(module)
        _refuse_hybrids(module)
        if needed := other_readout(module.weights, spec):
            raise CompileError(f"{needed}; compile for a chip with that readout, or convert for the chip's")
        if not spec.stamped and code.phases > spec.synapse.max_phases:
            raise ShortageError(
                f"the network's {code.name} code has {code.phases} phases, chip {spec.name} counts to {spec.synapse.max_phases}; "
                f"convert with at most {spec.synapse.max_phases} phases or raise synapse.max_phases",
                {"synapse.max_phases": code.phases},
            )
        return replace(module, graph=with_encoders(module.graph, code))


def _refuse_codes(module: Module) -> None:
    """CompileError for a code that the chip's encoders lack, or whose trains its readout cannot take."""
    code, spec = module.weights.code, module.spec
    if not spec.stamped and code.name == STAMPED_CODE:
        raise CompileError(
            f"the network's spike code is {code.name}, for membranes that decay, and chip {spec.name} has {spec.readout.kind}; convert and "
            "compile for a chip with readout.kind membrane-decay, convert with another code, or run this network on the functional backend"
        )
    if not spec.stamped and code.name not in CHIP_CODES:
        raise CompileError(
            f"the network's spike code is {code.name}, and the chip's encoders have {', '.join(CHIP_CODES[:-1])} and {CHIP_CODES[-1]}; "
            "convert with one of these, or run this network on the functional backend"
        )
    spike_code = code.spike_code()
    if reason := unfit_code(spike_code, spec.readout_circuit):
        raise CompileError(f"chip {spec.name}: {reason}")
    if isinstance(spike_code, FirstSpikeLog) and len(spike_code.levels) > MOST_SLOTS:
        raise CompileError(
            f"the network's {code.name} code has {len(spike_code.levels)} time slots, an event tells {MOST_SLOTS} apart; "
            f"convert with at most {MOST_SLOTS // spike_code.steps} phases"
        )


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
