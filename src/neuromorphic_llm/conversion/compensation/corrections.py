"""Corrections of integer weights against the coded inputs, site by site in one pass through the network.

The network runs all windows at once; at every site, when its coded inputs are there and all sites before it are corrected already, its
weights and bias are corrected, and the run goes on with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from neuromorphic_llm.conversion.calibrate import Progress
from neuromorphic_llm.conversion.compensation.gptq import rounded_against
from neuromorphic_llm.conversion.compensation.sites import output_factor, site_weight
from neuromorphic_llm.conversion.integers import check_accumulator
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import CodedRows
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

_HEAD_ROWS = 512
_BIAS_LIMIT = 2**30
"""A bias beyond a quarter of the range would leave the output no room."""


@dataclass(frozen=True)
class SiteInputs:
    """Input of a correction, in integers of the site's input fraction."""

    weight: Tensor  # float64 [outputs, inputs], of the decoder
    output_factor: Tensor  # float64 [outputs], W x times this are the integers of the output
    coded: Tensor  # float32 [rows, inputs], what the site gets
    mean: Tensor  # float64 [inputs], of the same inputs before they are coded


class Correction(Protocol):
    """New weights or bias of a site."""

    def __call__(self, site: LinearWeights, inputs: SiteInputs) -> LinearWeights:
        """The corrected site."""
        ...


def gptq(site: LinearWeights, inputs: SiteInputs) -> LinearWeights:
    """Weights rounded so that the error of one column is taken up by those after it (compensation/gptq.py)."""
    scale = inputs.weight.abs().amax(1, keepdim=True) / 127
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    coded = inputs.coded.double()
    rounded = rounded_against(inputs.weight / scale, coded.T @ coded)
    return replace(site, weight=rounded.to(torch.int8).cpu().numpy())


def bias(site: LinearWeights, inputs: SiteInputs) -> LinearWeights:
    """Bias raised by the mean error of the output, against the float weights on the same inputs before they are coded.

    Not on the inputs of a network without errors: later sites undo a part of what earlier ones lost, and would be held back from it.
    """
    exact = (inputs.weight @ inputs.mean) * inputs.output_factor
    got = torch.from_numpy(site.weight).to(exact) @ inputs.coded.double().mean(0)
    scale = torch.from_numpy(site.multiplier.astype(np.float64)).to(exact) * 2.0**-site.shift
    change = (exact - got * scale).round().cpu().numpy()
    total = change + (0 if site.bias is None else site.bias)
    if np.abs(total).max() >= _BIAS_LIMIT:
        raise ConversionError(f"bias correction: a bias of {np.abs(total).max():.3g} does not fit; leave the correction out")
    return replace(site, bias=total.astype(np.int32))


CORRECTIONS: dict[str, Correction] = {"gptq": gptq, "bias": bias}
"""Corrections by name, in the order in which they are applied at a site."""


class _Pass:
    """One run of the network over windows, and what becomes of its sites."""

    def __init__(self, canonical: CanonicalDecoder, weights: DecoderWeights, corrections: Sequence[Correction], device: str) -> None:
        self.canonical, self.weights, self.corrections = canonical, weights, corrections
        self.decoder = FunctionalDecoder(weights, device)
        self.largest = weights.code.spike_code().largest_value
        self.corrected: dict[int, LinearWeights] = {}

    def site(self, index: int, coded: Tensor, mean: Tensor) -> LinearWeights:
        """The corrected site for its coded inputs [rows, inputs] and their mean [inputs] before they were coded."""
        weight = site_weight(self.canonical, index).to(coded.device)
        factor = output_factor(self.weights, index).to(coded.device)
        site, inputs = self.weights.site(index), SiteInputs(weight, factor, coded, mean)
        for correction in self.corrections:
            site = correction(site, inputs)
        # Rounding against the inputs may round more weights away from zero than rounding to nearest, whose bound held.
        check_accumulator(site.weight, self.largest, self.weights.config.sites[index].name, "leave gptq out, or use fewer phases")
        self.corrected[index] = site
        return site

    def run(self, ids: Tensor, progress: Progress | None) -> None:
        """Correct all sites that spike, the head last: it gets rows in parts, because its outputs are many."""
        head = self.weights.config.head.index
        parts: list[Tensor] = []
        sums: list[Tensor] = []

        def at_site(index: int, x: Tensor, coded: CodedRows) -> None:
            if self.weights.site(index).spiking:
                values = coded.integers().float() * torch.exp2(coded.exponent.float())[:, None]
                if index == head:
                    parts.append(values)
                    sums.append(x.double().sum(0))
                    return
                site, tensors = self.site(index, values, x.double().mean(0)), self.decoder.site_tensors(index)
                tensors.weight = torch.from_numpy(site.weight).to(self.decoder.device)
                tensors.bias = None if site.bias is None else torch.from_numpy(site.bias).to(self.decoder.device)
            if progress:
                progress("correct the sites", index + 1, head + 1)

        self.decoder.observer = at_site
        _run(self.decoder, ids)
        if parts:
            self.site(head, torch.cat(parts), torch.stack(sums).sum(0) / ids.numel())
        if progress:
            progress("correct the sites", head + 1, head + 1)


def _run(decoder: FunctionalDecoder, ids: Tensor) -> None:
    """Run every window at once, the head a few rows at a time."""
    hidden = decoder.hidden(ids, decoder.new_cache(*ids.shape), [ids.shape[1]] * len(ids)).flatten(0, 1)
    for first in range(0, len(hidden), _HEAD_ROWS):
        decoder.head(hidden[first : first + _HEAD_ROWS])


def correct(
    canonical: CanonicalDecoder,
    weights: DecoderWeights,
    corrections: Sequence[Correction],
    windows: Sequence[Sequence[int]],
    device: str,
    progress: Progress | None = None,
) -> DecoderWeights:
    """The decoder with corrected sites. Windows of the first one's length are used.

    Raises ConversionError if a corrected site leaves its integers.
    """
    ids = torch.tensor([list(window) for window in windows if len(window) == len(windows[0])])
    steps = _Pass(canonical, weights, corrections, device)
    steps.run(ids, progress)
    corrected = steps.corrected
    return weights.with_sites(lambda site, linear: corrected.get(site.index, linear))
