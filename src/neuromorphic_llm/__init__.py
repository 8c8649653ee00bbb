"""Pretrained language models as spiking networks on a simulated neuromorphic chip.

The names below are imported on first use, so that importing the package loads neither torch nor numba.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes long to import, and nmllm handles Ctrl-C only once this package is imported
if TYPE_CHECKING:
    from typing import Any

    from neuromorphic_llm.api import compile as compile
    from neuromorphic_llm.api import convert as convert
    from neuromorphic_llm.api import evaluate as evaluate
    from neuromorphic_llm.api import generate as generate
    from neuromorphic_llm.api import load as load
    from neuromorphic_llm.api import load_chip as load_chip
    from neuromorphic_llm.api import simulate as simulate
    from neuromorphic_llm.chip.program import Program as Program
    from neuromorphic_llm.chip.spec import ChipSpec as ChipSpec
    from neuromorphic_llm.conversion.config import ConvertConfig as ConvertConfig
    from neuromorphic_llm.errors import NeuromorphicLLMError as NeuromorphicLLMError
    from neuromorphic_llm.evaluation.evaluate import Evaluation as Evaluation
    from neuromorphic_llm.evaluation.simulated import ChipText as ChipText
    from neuromorphic_llm.models.checkpoint import Checkpoint as Checkpoint
    from neuromorphic_llm.models.checkpoint import load_checkpoint as load_checkpoint
    from neuromorphic_llm.models.checkpoint import random_checkpoint as random_checkpoint
    from neuromorphic_llm.models.fetch import fetch_checkpoint as fetch_checkpoint
    from neuromorphic_llm.network.functional import FunctionalDecoder as FunctionalDecoder
    from neuromorphic_llm.network.spiking import SpikingNetwork as SpikingNetwork
    from neuromorphic_llm.reference.config import DecoderConfig as DecoderConfig
    from neuromorphic_llm.reference.weights import DecoderWeights as DecoderWeights
    from neuromorphic_llm.spikes.code import SpikeCode as SpikeCode
    from neuromorphic_llm.spikes.registry import get_code as get_code
    from neuromorphic_llm.spikes.registry import register_code as register_code

__version__ = "0.1.0"

# Public name -> where it is defined. A name must differ from the packages' names, or importing one would hide the other:
# so packages are nouns and functions verbs.
_EXPORTS = {
    **{name: f"api:{name}" for name in ("convert", "compile", "simulate", "generate", "evaluate", "load", "load_chip")},
    "ChipSpec": "chip.spec:ChipSpec",
    "ChipText": "evaluation.simulated:ChipText",
    "Checkpoint": "models.checkpoint:Checkpoint",
    "ConvertConfig": "conversion.config:ConvertConfig",
    "DecoderConfig": "reference.config:DecoderConfig",
    "DecoderWeights": "reference.weights:DecoderWeights",
    "Evaluation": "evaluation.evaluate:Evaluation",
    "FunctionalDecoder": "network.functional:FunctionalDecoder",
    "NeuromorphicLLMError": "errors:NeuromorphicLLMError",
    "Program": "chip.program:Program",
    "SpikeCode": "spikes.code:SpikeCode",
    "SpikingNetwork": "network.spiking:SpikingNetwork",
    "fetch_checkpoint": "models.fetch:fetch_checkpoint",
    "get_code": "spikes.registry:get_code",
    "load_checkpoint": "models.checkpoint:load_checkpoint",
    "random_checkpoint": "models.checkpoint:random_checkpoint",
    "register_code": "spikes.registry:register_code",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'neuromorphic_llm' has no attribute {name!r}")
    module, attribute = _EXPORTS[name].split(":")
    return getattr(import_module(f"neuromorphic_llm.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
