"""Allocation by the Fisher information: every error costs what it adds to the divergence of the predictions, to second order."""

from __future__ import annotations

import numpy as np

from neuromorphic_llm.conversion.allocation.prices import Allocation, SpikeCosts, operation_costs
from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.reference.config import DecoderConfig


def fisher(config: DecoderConfig, calibration: Calibration, costs: SpikeCosts | None = None) -> Allocation:
    """R_i = price * cost / F_i; a spike costs its synaptic operations, or its joules where `costs` are given.

    Joules are brought to the size of synaptic operations, so that prices are of the same size too.
    """
    operations = operation_costs(config)
    if costs is None:
        return Allocation("fisher", operations, calibration.sensitivity)
    return Allocation("fisher", costs.spike_j * float(operations.sum() / np.sum(costs.spike_j)), calibration.sensitivity)
