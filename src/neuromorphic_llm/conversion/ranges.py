"""Calibration of a readout's ranges: the least squared error of its converters on a text (docs/reference/devices.md, Membrane)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.conversion.config import GRAINS, ConvertConfig
from neuromorphic_llm.devices.readout import LARGEST_RANGE, BlockReadout, Drive, get_readout
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import CodedRows, energies, row_blocks
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

_WINDOWS = 2
"""Windows that ranges are calibrated on for a readout."""

_RANGES = np.arange(-LARGEST_RANGE, LARGEST_RANGE + 1)
_PART = 1 << 22  # sums looked at together


class _Recorder:
    """Number of sums of every column that need each range, of tokens as they pass."""

    def __init__(self, decoder: FunctionalDecoder, readout: BlockReadout) -> None:
        self._decoder, self._readout = decoder, readout
        self.needs: dict[int, torch.Tensor] = {}  # site -> int64 [blocks, outputs, ranges]

    def __call__(self, site: int, x: torch.Tensor, coded: CodedRows) -> None:
        weights = self._decoder.weights.site(site)
        if not weights.spiking:
            return
        drive = Drive(self._decoder.phases(x), self._decoder.horner_shift, energies=energies(coded, self._readout))
        exponents = self._readout.exponents(drive, torch).expand(self._readout.blocks(weights.weight.shape[1]), -1)
        outputs, inputs = weights.weight.shape
        shape = self._readout.blocks(inputs), outputs, len(_RANGES)
        found = self.needs.setdefault(site, torch.zeros(shape, dtype=torch.int64))
        blocks = row_blocks(self._decoder.site_tensors(site).weight, self._readout.block_rows)
        for needs, products, own in zip(found, self._decoder.operations.block_products(coded.planes, blocks), exponents, strict=True):
            for some in torch.split(torch.arange(len(x)), max(_PART // outputs, 1)):
                high, low = products[:, some].long()
                sums = 128 * high + low
                need = self._readout.needed_ranges(sums, own[some], torch).clamp(-LARGEST_RANGE, LARGEST_RANGE) + LARGEST_RANGE
                need += len(_RANGES) * torch.arange(outputs, device=need.device)
                needs += torch.bincount(need.flatten(), minlength=needs.numel()).view(needs.shape).cpu()


def calibrate_ranges(
    weights: DecoderWeights, readout: BlockReadout, windows: Sequence[Sequence[int]], device: str, grain: str = "column"
) -> DecoderWeights:
    """Return the decoder, whose readout is exact, for another one, with ranges of the least squared error on these token windows.

    Every token counts alike: errors are in units of the readout's exponents, of a membrane the first phase of its train.
    grain: what has a range of its own, a name in GRAINS.
    """
    decoder = FunctionalDecoder(weights, device)
    decoder.observer = recorder = _Recorder(decoder, readout)
    for window in windows:
        decoder.forward(torch.tensor([list(window)]), last_only=False)

    def ranged(site: Site, linear: LinearWeights) -> LinearWeights:
        needs = recorder.needs.get(site.index)
        return linear if needs is None else replace(linear, ranges=_least(needs.numpy(), readout, grain))

    return replace(weights.with_sites(ranged), readout=readout)


def for_readout(weights: DecoderWeights, options: ConvertConfig, windows: Sequence[Sequence[int]], device: str) -> DecoderWeights:
    """Return the decoder for the readout of the options, its ranges, if it has any, calibrated on the first of these token windows."""
    readout = get_readout(options.readout, **dict(options.readout_parameters))
    return calibrate_ranges(weights, readout, windows[:_WINDOWS], device, options.ranges) if isinstance(readout, BlockReadout) else weights


def _least(needs: NDArray[np.int64], readout: BlockReadout, grain: str) -> NDArray[np.int8]:
    """Ranges [blocks, outputs] of the least error, no two further apart than the readout can hold."""
    errors = needs @ readout.range_errors(_RANGES[:, None], _RANGES)
    if axes := GRAINS[grain]:
        errors = np.broadcast_to(errors.sum(axes, keepdims=True), errors.shape)
    span = min(readout.largest_range + 1, len(_RANGES))
    windows = np.lib.stride_tricks.sliding_window_view(errors, span, axis=2)  # [blocks, outputs, first range, span]
    first = int(windows.min(-1).sum((0, 1)).argmin())
    chosen: NDArray[np.int8] = _RANGES[first + windows[:, :, first].argmin(-1)].astype(np.int8)
    return chosen
