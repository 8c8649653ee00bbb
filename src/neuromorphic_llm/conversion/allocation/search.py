"""Common parts of the searches: the float decoder run layer by layer, and site inputs as the network codes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromorphic_llm.conversion.allocation.prices import Allocation
from neuromorphic_llm.conversion.allocation.recorded import RecordedInputs
from neuromorphic_llm.conversion.budget import Target, site_price
from neuromorphic_llm.conversion.calibrate import Calibration, Progress
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights

SEARCH_WINDOWS, SEARCH_TOKENS = 2, 128
"""Text of a search: what is measured on it is compared on the same tokens, so little is enough."""

_PRICE_TOLERANCE = 1e-3

LEAST_ZEROED = 0.01
"""Share of the smallest inputs that thresholds zero at every site, so that every site has a price."""

_SILENT_THRESHOLD = 2.0**-16
"""Threshold of a site without any input but zero: the finest step that inputs have."""

Replace = Callable[[Tensor], Tensor]
"""Replacement of a site's input."""


@dataclass(frozen=True)
class SearchInput:
    """Input of an allocation method; `base` holds the prices that it starts from."""

    canonical: CanonicalDecoder
    integers: DecoderWeights
    calibration: Calibration
    base: Allocation
    options: ConvertConfig
    target: Target
    windows: Sequence[Sequence[int]]
    device: str
    progress: Progress | None = None

    def report(self, what: str, done: int, total: int) -> None:
        """Tell the progress, if someone wants to know."""
        if self.progress:
            self.progress(what, done, total)

    def recorded(self) -> RecordedInputs:
        """Inputs of the network without a stop rule on the text of the search."""
        length = min(len(self.windows[0]), 4 * SEARCH_TOKENS)
        return RecordedInputs(self.integers, [window[:length] for window in self.windows[:SEARCH_WINDOWS]], self.device)

    def price(self, run: RecordedInputs, allocation: Allocation) -> float:
        """Price of an allocation that meets the target on recorded inputs, or the one that was asked for."""
        if self.target.asked is None:
            assert self.options.price is not None
            return self.options.price
        return site_price(run, self.integers, allocation, self.target, _PRICE_TOLERANCE)


class ReplacedInputs(Observer):
    """Replaces the inputs of some sites."""

    def __init__(self, replacements: dict[int, Replace]) -> None:
        self.replacements = replacements

    def site(self, index: int, x: Tensor) -> Tensor:
        """The input [batch, tokens, inputs] that the decoder goes on with."""
        return self.replacements[index](x) if index in self.replacements else x


class _Inputs(Observer):
    """Keeps the residual stream in front of every layer and the inputs of all sites."""

    def __init__(self) -> None:
        self.residual: list[Tensor] = []
        self.sites: dict[int, Tensor] = {}

    def site(self, index: int, x: Tensor) -> Tensor:
        self.sites[index] = x
        return x

    def value(self, name: str, layer: int, x: Tensor) -> None:  # noqa: ARG002 - the decoder's signature
        if name == "residual":
            self.residual.append(x)


class LayerwiseDecoder:
    """The float decoder on one batch of windows, able to go on from any layer.

    `residual` [layers + 1] is the stream [batch, tokens, hidden] in front of every layer and of the last norm, `sites` the input of every
    site, and `log_probabilities` [batch, tokens, vocab] the prediction of the dense decoder.
    """

    @torch.no_grad()
    def __init__(self, canonical: CanonicalDecoder, windows: Sequence[Sequence[int]], device: str) -> None:
        length = min(SEARCH_TOKENS, len(windows[0]))
        self.ids = torch.tensor([list(window[:length]) for window in windows[:SEARCH_WINDOWS] if len(window) >= length], device=device)
        self.decoder = FloatDecoder(canonical, device=device)
        self.config = canonical.config
        inputs = _Inputs()
        self.log_probabilities = self.decoder(self.ids, inputs).log_softmax(-1)
        self.residual, self.sites = inputs.residual, inputs.sites
        self._tables = {number: self.decoder.tables(number, length) for number in range(self.config.layers)}

    @torch.no_grad()
    def layer(self, number: int, x: Tensor, replacements: dict[int, Replace]) -> Tensor:
        """Residual stream after one layer with some site inputs replaced."""
        return self.decoder.layer(number, x, self._tables[number], ReplacedInputs(replacements))

    @torch.no_grad()
    def logits_from(self, number: int, x: Tensor, replacements: dict[int, Replace]) -> Tensor:
        """Logits [batch, tokens, vocab] when the stream in front of layer `number` is x [batch, tokens, hidden]."""
        for layer in range(number, self.config.layers):
            x = self.layer(layer, x, replacements)
        return self.decoder.head(self.decoder.norm("model.norm", x), ReplacedInputs(replacements))

    def divergence(self, logits: Tensor) -> float:
        """Mean KL(dense || logits) in nats per token."""
        other = logits.log_softmax(-1)
        return float((self.log_probabilities.exp() * (self.log_probabilities - other)).sum(-1).mean())

    def loss(self, logits: Tensor) -> float:
        """Mean negative log-likelihood of the text in nats per token."""
        predictions = logits[:, :-1].flatten(0, 1).log_softmax(-1)
        return float(-predictions.gather(1, self.ids[:, 1:].reshape(-1, 1)).mean())


def coded_as(run: RecordedInputs, site: int, stop: NDArray[np.int32]) -> Replace:
    """The input of a site as the network codes it with a stop table [inputs]."""
    weights = run.decoder.weights
    scale = 2.0 ** weights.input_fraction(site)

    def replace_input(x: Tensor) -> Tensor:
        table = torch.from_numpy(stop).to(x.device)
        integers = (x.flatten(0, -2) * scale).round().clamp(-(2.0**31), 2.0**31 - 256).int()
        coded = run.decoder.encode(integers, table)
        real = coded.integers().double() * torch.exp2(coded.exponent.double())[:, None] / scale
        return real.to(x.dtype).view(x.shape)

    return replace_input


def above(threshold: float) -> Replace:
    """Inputs no larger than the threshold become zero (hard shrinkage)."""
    return lambda x: torch.where(x.abs() > threshold, x, torch.zeros_like(x))


def ordered_magnitudes(x: Tensor) -> Tensor:
    """Magnitudes of all values of x, rising."""
    return x.abs().flatten().sort().values


def magnitude(ordered: Tensor, share: float) -> float:
    """Magnitude that `share` of the rising magnitudes do not exceed, but at least LEAST_ZEROED of those that are not zero: never zero.

    Most inputs behind a ReLU are zero, and a threshold of zero would make spikes of the others free at every price.
    """
    zeros = int((ordered == 0).sum())
    others = len(ordered) - zeros
    if others == 0:
        return _SILENT_THRESHOLD
    rank = min(int(share * len(ordered)), len(ordered) - 1)
    return float(ordered[max(rank, zeros + int(LEAST_ZEROED * others))])


def dead_zones(base: Allocation, thresholds: Sequence[float], method: str, history: list[dict[str, Any]]) -> Allocation:
    """Stop tables R = threshold^2, the same for all inputs of a site: no input up to the threshold fires at price 1."""
    even = tuple(np.ones_like(sensitivity) for sensitivity in base.sensitivity)
    return Allocation(method, np.square(np.asarray(thresholds, np.float64)), even, tuple(history), start_price=1.0)
