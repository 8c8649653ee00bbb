"""Figures of a code on normally distributed inputs: spikes, error and phases, for lists of codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.parameters import ParameterValue
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

TOKENS, INPUTS, DEVIATION = 64, 576, 1 << 12
"""Vectors, inputs of each (as many as SmolLM2-135M's sites have), and standard deviation of the integers."""


@dataclass(frozen=True)
class Figures:
    """Means over the inputs; errors in units of their standard deviation."""

    spikes: float  # per input
    phases: float  # per vector
    inputs_that_fire: float  # share
    rms_error: float
    worst_case_error: float  # the largest bound that the code states


def gaussian(seed: int) -> NDArray[np.int32]:
    """Normally distributed integers [TOKENS, INPUTS]."""
    return np.rint(np.random.default_rng(seed).normal(0.0, DEVIATION, (TOKENS, INPUTS))).astype(np.int32)


def figures(code: SpikeCode, x: NDArray[np.int32]) -> Figures:
    """Figures of a code on x [tokens, inputs], without prices. The errors of an unsigned code are those of the inputs above 0."""
    free = np.zeros(x.shape[1], np.int32)
    result = code.quantise(x, free)
    shown = x > 0 if not getattr(code, "signed", True) else np.full(x.shape, True)
    error = (result.a.astype(np.int64) << result.exponent.astype(np.int64)[:, None]) - x
    return Figures(
        spikes=float(result.spikes.mean()),
        phases=float(result.phases.mean()),
        inputs_that_fire=float((result.spikes > 0).mean()),
        rms_error=float(np.sqrt(np.mean(error[shown].astype(np.float64) ** 2))) / DEVIATION,
        worst_case_error=float(code.worst_case_error(x, free)[shown].max()) / DEVIATION,
    )


def at_most(name: str, phases: int, parameters: dict[str, ParameterValue]) -> SpikeCode:
    """The code with `phases` phases, or with the most it takes with these parameters. UsageError if it takes none up to `phases`."""
    for attempt in range(min(phases, SPIKE_CODES[name].largest_phases), 0, -1):
        try:
            return get_code(name, attempt, **parameters)
        except UsageError:
            if attempt == 1:
                raise
    raise UsageError(f"a code takes at least one phase, not {phases}; ask for more")
