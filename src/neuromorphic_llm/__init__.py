"""Pretrained language models as spiking networks on a simulated neuromorphic chip.

The names below are imported on first use, so that importing the package loads neither torch nor numba.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes long to import, and nmllm handles Ctrl-C only once this package is imported
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

# Public name -> where it is defined. A name must differ from the packages' names, or importing one would hide the other:
# so packages are nouns and functions verbs.
_EXPORTS = {
    "Checkpoint": "models.checkpoint:Checkpoint",
    "load_checkpoint": "models.checkpoint:load_checkpoint",
    "random_checkpoint": "models.checkpoint:random_checkpoint",
    "fetch_checkpoint": "models.fetch:fetch_checkpoint",
    "DecoderConfig": "reference.config:DecoderConfig",
    "DecoderWeights": "reference.weights:DecoderWeights",
    "SpikeCode": "spikes.code:SpikeCode",
    "get_code": "spikes.registry:get_code",
    "register_code": "spikes.registry:register_code",
    "ConvertConfig": "conversion.config:ConvertConfig",
    "convert_checkpoint": "conversion.convert:convert",
    "SpikingNetwork": "network.spiking:SpikingNetwork",
    "FunctionalDecoder": "network.functional:FunctionalDecoder",
    "ChipSpec": "chip.spec:ChipSpec",
    "load_spec": "chip.load:load_spec",
    "Program": "chip.program:Program",
    "load_program": "chip.program_io:load_program",
    "save_program": "chip.program_io:save_program",
    "compile_network": "compiler.pipeline:compile_network",
    "simulate_program": "simulation.run:simulate",
    "evaluate_text": "evaluation.language_model:evaluate_text",
    "NeuromorphicLLMError": "errors:NeuromorphicLLMError",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'neuromorphic_llm' has no attribute {name!r}")
    module, attribute = _EXPORTS[name].split(":")
    return getattr(import_module(f"neuromorphic_llm.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
