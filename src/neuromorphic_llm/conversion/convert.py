"""Conversion of a checkpoint into a spiking network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neuromorphic_llm import __version__
from neuromorphic_llm.conversion.allocation.methods import ALLOCATIONS, DEFAULT, allocate
from neuromorphic_llm.conversion.allocation.prices import Allocation, SpikeCosts
from neuromorphic_llm.conversion.balance import converted_decoder
from neuromorphic_llm.conversion.budget import Budget, Target, meet_budget
from neuromorphic_llm.conversion.calibrate import Calibration, Progress, calibrate
from neuromorphic_llm.conversion.compensation.methods import changed_decoder, corrected_weights, split_names
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.divergence import measure as measure_divergence
from neuromorphic_llm.conversion.divergence import usual_divergence, warning
from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.conversion.integers import integer_decoder
from neuromorphic_llm.conversion.ranges import for_readout
from neuromorphic_llm.conversion.text import fitting_windows
from neuromorphic_llm.devices.readout import get_readout
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.weights import unfit_code
from neuromorphic_llm.spikes.registry import get_code

if TYPE_CHECKING:
    from neuromorphic_llm.models.checkpoint import Checkpoint

_BUDGET_WINDOWS = 4


def calibrate_checkpoint(
    checkpoint: Checkpoint, windows: Sequence[Sequence[int]], *, device: str = "cpu", seed: int = 0, progress: Progress | None = None
) -> Calibration:
    """Calibration of a checkpoint on token windows; longer ones than the model's context are cut."""
    converted = converted_decoder(checkpoint)
    decoder = FloatDecoder(converted.canonical, device=device)
    windows = fitting_windows(windows, checkpoint.config.max_positions)
    return calibrate(decoder, windows, checkpoint_hash=converted.content_hash, seed=seed, progress=progress)


def search_allocation(
    checkpoint: Checkpoint,
    options: ConvertConfig,
    windows: Sequence[Sequence[int]],
    calibration: Calibration,
    *,
    costs: SpikeCosts | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Calibration:
    """The calibration with the allocation that `options` asks for, searched unless it is there, to be kept for later conversions.

    Without one where a compensation changes the decoder: convert() calibrates that decoder anew, and searches for it. Raises as convert().
    """
    ALLOCATIONS.check(options.allocation)
    changes, _ = split_names(options.compensation)
    if options.allocation == DEFAULT or changes:
        return calibration
    converted = converted_decoder(checkpoint)
    canonical = converted.canonical
    calibration.check_checkpoint(canonical.config, converted.content_hash)
    code = get_code(options.code, options.phases, **dict(options.code_parameters))
    integers = integer_decoder(canonical.config, canonical.tensors, calibration, options, code)
    windows = fitting_windows(windows, canonical.config.max_positions)
    found = allocate(canonical, integers, calibration, options, windows, device, costs, progress)
    return replace(calibration, allocations={**calibration.allocations, found.method: found})


def convert(
    checkpoint: Checkpoint,
    options: ConvertConfig,
    windows: Sequence[Sequence[int]],
    *,
    calibration: Calibration | None = None,
    held_out: Sequence[int] | None = None,
    costs: SpikeCosts | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> SpikingNetwork:
    """Convert a checkpoint into a new spiking network.

    windows: token windows of the calibration text, for ranges, sensitivities (unless `calibration` is given), searches and the budget;
    longer ones than the model's context are cut.
    held_out: other tokens, on which the divergence from the model is measured (None: the longest window); provenance has it, and a
    warning where it is much.
    costs: what a spike costs, for a budget in joules. A compensation that changes the decoder itself calibrates that decoder anew.
    Raises ConversionError if the calibration is of another checkpoint, the target cannot be met, or an accumulator could overflow.
    """
    code = get_code(options.code, options.phases, **dict(options.code_parameters))
    readout = get_readout(options.readout, **dict(options.readout_parameters))  # a wrong one is refused before the work begins
    if reason := unfit_code(code, readout):
        raise ConversionError(reason)
    ALLOCATIONS.check(options.allocation)
    changes, corrections = split_names(options.compensation)
    converted = converted_decoder(checkpoint)
    canonical = converted.canonical
    if calibration is not None:
        calibration.check_checkpoint(canonical.config, converted.content_hash)
    short = fitting_windows(windows[:_BUDGET_WINDOWS], canonical.config.max_positions)
    windows = fitting_windows(windows, canonical.config.max_positions)
    if changes:
        canonical = changed_decoder(canonical, changes, windows, device, options.seed, progress)
    if calibration is None or changes:
        decoder = FloatDecoder(canonical, device=device)
        calibration = calibrate(decoder, windows, checkpoint_hash=converted.content_hash, seed=options.seed, progress=progress)
    integers = integer_decoder(canonical.config, canonical.tensors, calibration, options, code)
    target = Target.of(options, costs)
    allocation = allocate(canonical, integers, calibration, options, windows, device, costs, progress)
    budget = meet_budget(integers, calibration, allocation, options, short, device, target=target, progress=progress)
    if corrections:
        corrected = corrected_weights(canonical, budget.weights, corrections, windows, device, progress)
        budget = meet_budget(corrected, calibration, allocation, options, short, device, target=target, start=budget, progress=progress)
    weights = for_readout(budget.weights, options, short, device)
    window = max(windows, key=len) if held_out is None else held_out
    found = measure_divergence(canonical, weights, calibration, window, device)
    provenance = _provenance(checkpoint, options, calibration, allocation, budget)
    provenance["divergence"] = found.to_json() | {"held_out": held_out is not None}
    if text := warning(found, usual=usual_divergence(options)):
        provenance["warning"] = text
    return SpikingNetwork(weights, parts=options.parts, provenance=provenance, tokenizer_files=checkpoint.tokenizer_files)


def _provenance(
    checkpoint: Checkpoint, options: ConvertConfig, calibration: Calibration, allocation: Allocation, budget: Budget
) -> dict[str, Any]:
    """Provenance of a network; with the costs of a searched allocation, reached joules and a note on the budget where there are any."""
    provenance: dict[str, Any] = {
        "model": checkpoint.name,
        "checkpoint_hash": checkpoint.content_hash,
        "calibration_tokens": calibration.tokens,
        "options": options.to_json(),
        "price": budget.price,
        "query_price": budget.query_price,
        "spikes_per_activation": budget.spikes,
        "package_version": __version__,
    }
    if allocation.method != DEFAULT:
        provenance["allocation_costs"] = allocation.costs.tolist()
    if budget.energy_j is not None:
        provenance["energy_j"] = budget.energy_j
    if budget.note is not None:
        provenance["budget_note"] = budget.note
    return provenance
