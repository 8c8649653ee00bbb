"""Conversion of a checkpoint into a spiking network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuromorphic_llm import __version__
from neuromorphic_llm.convert.budget import meet_budget
from neuromorphic_llm.convert.calibrate import Calibration, Progress, calibrate
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.convert.float_decoder import FloatDecoder
from neuromorphic_llm.convert.integers import integer_decoder
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.spikes.registry import get_code

if TYPE_CHECKING:
    from neuromorphic_llm.models.checkpoint import Checkpoint

_BUDGET_WINDOWS = 4


def calibrate_checkpoint(
    checkpoint: Checkpoint, windows: Sequence[Sequence[int]], *, device: str = "cpu", seed: int = 0, progress: Progress | None = None
) -> Calibration:
    """Calibration of a checkpoint on token windows."""
    decoder = FloatDecoder(checkpoint.canonical, device=device)
    return calibrate(decoder, windows, checkpoint_hash=checkpoint.content_hash, seed=seed, progress=progress)


def convert(
    checkpoint: Checkpoint,
    options: ConvertConfig,
    windows: Sequence[Sequence[int]],
    *,
    calibration: Calibration | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> SpikingNetwork:
    """Convert a checkpoint into a new spiking network.

    windows: token windows of the calibration text, for ranges, sensitivities (unless `calibration` is given) and the spike budget.
    Raises ConversionError if the calibration is of another checkpoint, the spike target cannot be met, or an accumulator could overflow.
    """
    code = get_code(options.code, options.phases, **dict(options.code_parameters))
    if calibration is None:
        calibration = calibrate_checkpoint(checkpoint, windows, device=device, seed=options.seed, progress=progress)
    elif calibration.checkpoint_hash != checkpoint.content_hash:
        raise ConversionError("the calibration was made for another checkpoint; calibrate this one")
    integers = integer_decoder(checkpoint.config, checkpoint.tensors, calibration, options, code)
    budget = meet_budget(integers, calibration, options, list(windows)[:_BUDGET_WINDOWS], device, progress)
    provenance = {
        "model": checkpoint.name,
        "checkpoint_hash": checkpoint.content_hash,
        "calibration_tokens": calibration.tokens,
        "options": options.to_json(),
        "price": budget.price,
        "query_price": budget.query_price,
        "spikes_per_activation": budget.spikes,
        "package_version": __version__,
    }
    return SpikingNetwork(budget.weights, parts=options.parts, provenance=provenance, tokenizer_files=checkpoint.tokenizer_files)
