"""Energy of reading a pair of cells: V^2 G t of what is stored, and what rails and integration make of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from membrane.design import Floats
from membrane.workload import ColumnSums

PULSE = 10e-9
"""Length of a read, s."""


@dataclass(frozen=True)
class Device:
    """Memristive device: conductance of the largest level and voltage of a read."""

    name: str
    conductance: float  # S
    voltage: float  # V
    source: str


DEVICES = (
    Device("PCM", 25e-6, 0.2, "25 uS: Joshi et al., Nature Communications 11, 2473, 2020 (docs/reference/devices.md)"),
    Device("RRAM", 40e-6, 0.2, "at most 40 uS: Wan et al., Nature 608, 504, 2022 (docs/reference/devices.md)"),
    Device("SONOS", 16e-6, 0.1, "0 to 16 uS: Agrawal et al., IEDM 2022, as read in CrossSim's device model; 1.6 uA make 0.1 V"),
    Device("high-ohmic", 1e-6, 0.2, "assumed, no device: a megohm at the largest level"),
)


@dataclass(frozen=True)
class ReadEnergy:
    """Energies of reading one pair of cells, J, mean over the stored weights and both slices."""

    cell: float  # V^2 G t
    rails: float  # rows driven from their own rails at V around the column, whose charge the supply replaces where it reaches a membrane
    supply: float  # all charge that does not cancel on a column from one supply
    apart: float  # all charge of every cell from one supply


def mean_conductance(device: Device, shares: Floats) -> float:
    """Mean conductance of a pair over both slices, S; shares [slices, levels]."""
    levels = np.arange(shares.shape[1]) / (shares.shape[1] - 1)
    return float((shares @ levels).mean() * device.conductance)


def read_energy(device: Device, shares: Floats, sums: ColumnSums, supply: float) -> ReadEnergy:
    """Energy of a read: charge of the mean pair, less what cancels on a column. Rails stand at V around half the supply."""
    charge = mean_conductance(device, shares) * device.voltage * PULSE
    up, down = sums.up.sum(), sums.down.sum()
    both = float(up + down)
    reaching_n = float(np.maximum(sums.down - sums.up, 0.0).sum())  # from the supply through the membrane
    rails = (supply / 2 + device.voltage) * up - (supply / 2 - device.voltage) * down + supply * reaching_n
    return ReadEnergy(
        cell=charge * device.voltage,
        rails=charge * float(rails) / both,
        supply=charge * supply * float(np.maximum(sums.up, sums.down).sum()) / both,
        apart=charge * supply,
    )
