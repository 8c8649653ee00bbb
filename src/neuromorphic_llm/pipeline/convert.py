"""Conversion of what a user names: a model and a calibration, as `nmllm convert` and `neuromorphic_llm.convert` do it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.conversion.allocation.methods import ALLOCATIONS
from neuromorphic_llm.conversion.calibrate import Calibration, Progress
from neuromorphic_llm.conversion.compensation.methods import split_names
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert, search_allocation
from neuromorphic_llm.conversion.text import calibration_windows, held_out_window
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.models.text_tokens import Bos, choose_bos
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.pipeline.spike_costs import costs_of_checkpoint
from neuromorphic_llm.text_file import LIMITS, read_text


def check_names(options: ConvertConfig) -> None:
    """UsageError for an allocation or a compensation that does not exist."""
    ALLOCATIONS.check(options.allocation)
    split_names(options.compensation)


def for_chip(options: ConvertConfig, spec: ChipSpec) -> ConvertConfig:
    """Options with the readout of a chip, unless they name one or the chip's is exact."""
    if spec.readout_circuit.exact or options.readout != "exact":
        return options
    return options.for_readout(spec.readout_circuit)


def calibration_source(argument: str | Path | None) -> tuple[Calibration | None, str | None]:
    """Stored calibration, or text, of a calibration folder, a text file or a task; (None, None) for the default text."""
    if argument is None:
        return None, None
    path = Path(argument)
    try:
        if path.is_dir():
            return Calibration.load(path), None
        there = path.exists()  # not is_file(): a pipe is a text, too
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--calibration {path} cannot be read ({reason}); give a text file, a task or a calibration folder") from error
    if there:
        return None, read_text(path, "--calibration", LIMITS["calibration"])
    if str(argument) not in TASKS:
        texts = ", ".join(name for name, task in TASKS.items() if task.kind == "language-model")
        raise UsageError(f"--calibration {argument}: no such file or folder, and no task of that name; tasks are {texts}")
    return None, load_text(TASKS[str(argument)])


@dataclass(frozen=True)
class Source:
    """Model with the tokens that it is calibrated and checked on."""

    checkpoint: Checkpoint
    tokenizer: Any
    windows: list[list[int]]
    held_out: list[int] | None


def open_source(model: str | Path | Checkpoint, text: str | None = None, bos: Bos | str = Bos.AUTO) -> Source:
    """Checkpoint that `model` names, with windows of the calibration text (None: conversion.text.default_text)."""
    checkpoint = model if isinstance(model, Checkpoint) else load_checkpoint(model)
    tokenizer = choose_bos(checkpoint.tokenizer(), bos)
    longest = checkpoint.config.max_positions
    windows, held_out = calibration_windows(tokenizer, text, longest=longest), held_out_window(tokenizer, text, longest)
    return Source(checkpoint, tokenizer, windows, held_out)


def convert_source(
    source: Source,
    options: ConvertConfig,
    *,
    calibration: Calibration | None = None,
    spec: ChipSpec | None = None,
    device: str = "cpu",
    search: bool = False,
    progress: Progress | None = None,
) -> tuple[SpikingNetwork, Calibration]:
    """Network, and the calibration that it was converted with, made unless it is given; raises as conversion.convert.convert does.

    spec: chip whose readout the network is for, and whose account says what a spike costs, for a budget in joules.
    search: keep the searched allocation in the calibration, for later conversions.
    """
    checkpoint, windows = source.checkpoint, source.windows
    options = options if spec is None else for_chip(options, spec)
    if calibration is None:
        calibration = calibrate_checkpoint(checkpoint, windows, device=device, seed=options.seed, progress=progress)
    costs = None
    if spec is not None and options.energy_j is not None:
        costs = costs_of_checkpoint(checkpoint, options, windows, calibration, spec, device, progress)
    if search:
        calibration = search_allocation(checkpoint, options, windows, calibration, costs=costs, device=device, progress=progress)
    network = convert(
        checkpoint, options, windows, calibration=calibration, held_out=source.held_out, costs=costs, device=device, progress=progress
    )
    return network, calibration
