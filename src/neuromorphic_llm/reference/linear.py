"""Linear layer of a crossbar site, as an integer product and as spike events."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.devices.readout import Drive, Reading, Readout
from neuromorphic_llm.reference.fixed_point import Integers, check_int32, exact_product, rsh, saturate
from neuromorphic_llm.reference.weights import LinearWeights
from neuromorphic_llm.spikes.code import Coded, SpikeTrain


def fold_scale(scale: NDArray[np.float64], input_fraction: int, output_fraction: int) -> tuple[NDArray[np.int32], int]:
    """Multipliers M [outputs] and shift S with M * 2^-S ~ scale * 2^(f_out - f_in), the largest M in [2^15, 2^16)."""
    factor = scale * 2.0 ** (output_fraction - input_fraction)
    shift = 16 - math.frexp(float(factor.max()))[1]
    multiplier = np.rint(factor * 2.0**shift)
    if multiplier.max() >= 1 << 16:
        shift -= 1
        multiplier = np.rint(factor * 2.0**shift)
    return multiplier.astype(np.int32), shift


def accumulate(coded: Coded, site: LinearWeights, where: str = "a linear layer") -> Integers:
    """Accumulators W a, [tokens, outputs]; SimulationError naming `where` beyond int32."""
    return check_int32(exact_product(coded.a, site.weight), where)


def read_out(train: SpikeTrain, site: LinearWeights, readout: Readout, where: str) -> Reading:
    """Reading of a spike train; SimulationError naming `where` for accumulators beyond int32."""
    levels = readout.cell.levels(site.weight.T)
    drive = Drive(train.phases, train.horner_shift, site.ranges)
    reading = readout.accumulate(train.digits, levels, drive, np)
    check_int32(reading.accumulators, where)
    return reading


def linear_events(train: SpikeTrain, site: LinearWeights) -> Integers:
    """The same accumulators as the chip forms them: one weight column added or subtracted per spike, Horner between phases."""
    columns = site.weight.T.astype(np.int64)
    accumulators = np.zeros((train.digits.shape[1], site.weight.shape[0]), np.int64)
    for phase in train.digits:
        accumulators <<= train.horner_shift
        for token, neuron in np.argwhere(phase):
            accumulators[token] += phase[token, neuron] * columns[neuron]
    return accumulators


def scaled(accumulators: Integers, exponent: NDArray[np.int32], site: LinearWeights) -> Integers:
    """rsh(acc * M, S - k_min) [tokens, outputs], not yet saturated where it shifts to the right; exponent is k_min [tokens]."""
    shift = (site.shift - exponent.astype(np.int64))[:, None]
    product = accumulators * site.multiplier.astype(np.int64)
    shifted = rsh(product, np.maximum(shift, -16))
    return np.where(shift < 0, saturate(shifted, 32), shifted)


def with_bias(wide: Integers, site: LinearWeights) -> Integers:
    """Scaled sums [tokens, outputs] with the site's bias, if it has one, saturated to 32 bits."""
    return saturate(wide if site.bias is None else wide + site.bias.astype(np.int64), 32)


def scale_output(accumulators: Integers, exponent: NDArray[np.int32], site: LinearWeights) -> Integers:
    """sat_32(rsh(acc * M, S - k_min) + bias), [tokens, outputs]; exponent is k_min [tokens]."""
    return with_bias(scaled(accumulators, exponent, site), site)
