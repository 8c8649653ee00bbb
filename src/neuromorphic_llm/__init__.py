"""Pretrained language models as spiking networks on a simulated neuromorphic chip.

The names below are imported on first use, so that importing the package loads neither torch nor numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it.
_EXPORTS = {
    "load_checkpoint": "models.checkpoint",
    "random_checkpoint": "models.checkpoint",
    "Checkpoint": "models.checkpoint",
    "fetch_checkpoint": "models.fetch",
    "DecoderConfig": "reference.weights",
    "DecoderWeights": "reference.weights",
    "ChipSpec": "chip.spec",
    "Program": "chip.program",
    "load_spec": "chip.load",
    "load_program": "chip.program_io",
    "save_program": "chip.program_io",
    "compile_network": "compiler.pipeline",
    "NeuromorphicLLMError": "errors",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'neuromorphic_llm' has no attribute {name!r}")
    return getattr(import_module(f"neuromorphic_llm.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
