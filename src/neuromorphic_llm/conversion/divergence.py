"""Divergence of a network's predictions from its model's: measured after every conversion, with a warning if it is large.

The divergence is the mean Kullback-Leibler divergence of a prediction, float model to integer network, in nats per token. With all
spikes it is what fractions, 8-bit weights, keys and values cost. What the budget adds is compared with the second-order estimate that
the budget was chosen by: half the sensitivity times the squared coding error, summed over all coded values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.generation.choice import log_probabilities
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import CodedRows
from neuromorphic_llm.reference.weights import DecoderWeights

TOKENS = 256
"""Tokens that are measured at most."""

USUAL = 0.03
"""Nats per token with all spikes of the signed-digit code and 8-bit weights; SmolLM2-135M has a quarter of it."""

ESTIMATE_FACTOR = 3.0
"""Largest usual ratio of the budget's divergence, USUAL apart, to its estimate."""

_BEHIND = {
    "qkv": "the feed-forward part of the layer before",
    "output": "attention: its projections, keys and values",
    "gate_up": "the output projection of attention",
    "down": "the gate and up projections",
}
"""Part that has just run when a site's inputs are wrong."""

_LOGITS = "the logits"


@dataclass(frozen=True)
class Divergence:
    """Nats per token, and the sites in front of which errors grow most and where the budget costs most."""

    tokens: int
    all_spikes: float
    budget: float
    estimate: float  # of what the budget adds
    worst_site: str
    dearest_site: str

    def to_json(self) -> dict[str, Any]:
        """Figures that a network's provenance keeps."""
        nats = {"all_spikes": self.all_spikes, "budget": self.budget, "budget_estimate": self.all_spikes + self.estimate}
        return {"tokens": self.tokens} | {name: float(f"{value:.3g}") for name, value in nats.items()}


def warning(found: Divergence, *, usual: float = USUAL) -> str | None:
    """One line on a divergence that is out of the ordinary, or None; `usual`: nats per token with all spikes that need no explanation."""
    nats = "nats per token from its model"
    if not found.all_spikes <= usual:
        place = f"{found.worst_site}, behind {_behind(found.worst_site)}"
        return (
            f"with all spikes the network is {found.all_spikes:.2g} {nats}, where {usual:g} would be much; errors grow most "
            f"before {place}; look there for weights of very different scales or for outliers, or try --compensate rotation-hadamard"
        )
    expected = found.all_spikes + found.estimate
    if not found.budget <= ESTIMATE_FACTOR * expected + usual:
        return (
            f"at this budget the network is {found.budget:.2g} {nats}, where {expected:.2g} was expected; most is lost at "
            f"{found.dearest_site}; ask for more spikes, or calibrate on text that is more like what the model will see"
        )
    return None


def _behind(site: str) -> str:
    ends = {"layers.0.qkv": "the embedding", "head": "the last layer", _LOGITS: "the head"}
    return ends.get(site) or _BEHIND.get(site.rpartition(".")[2], "the site before it")


class _Inputs(Observer):
    """Inputs [tokens, inputs] of the sites of a float run, on the CPU."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def site(self, index: int, x: Tensor) -> Tensor:  # noqa: ARG002 - they come in order
        self.seen.append(x[0].cpu())
        return x


@torch.no_grad()
def measure(
    canonical: CanonicalDecoder, weights: DecoderWeights, calibration: Calibration, window: Sequence[int], device: str
) -> Divergence:
    """Divergence of integer `weights` from the decoder on the first TOKENS tokens of a window; calibration: of that decoder."""
    ids = torch.tensor([list(window[: min(TOKENS, canonical.config.max_positions)])])
    inputs = _Inputs()
    dense = FloatDecoder(canonical, device=device)(ids, inputs)[0].double().log_softmax(-1)
    every = FunctionalDecoder(_without_stops(weights), device)
    errors = np.zeros(len(weights.config.sites))

    def compare(index: int, x: Tensor, _: CodedRows) -> None:
        wanted = inputs.seen[index].double()
        wrong = x.cpu().double() * 2.0 ** -weights.input_fraction(index) - wanted
        share = wrong.square().sum(-1) / wanted.square().sum(-1).clamp_min(1e-30)
        errors[index] = float(share.median())

    every.observer = compare
    all_spikes = _divergence(dense, every, every.forward(ids)[0])
    spent = np.zeros(len(weights.config.sites) + 1)  # the last one: queries
    coded = FunctionalDecoder(weights, device)
    squares = [2.0 ** (-2 * weights.input_fraction(site)) * calibration.sensitivity[site] / 2 for site in range(len(weights.config.sites))]

    def cost(index: int, x: Tensor, code: CodedRows) -> None:
        wrong = x.double() - code.integers().double() * (2.0 ** code.exponent.double())[:, None]
        spent[index] = float(wrong.square().mean(0).cpu() @ torch.from_numpy(squares[index]))

    coded.observer = cost
    coded.query_observer = lambda layer, q: spent.__setitem__(-1, spent[-1] + _query_cost(coded, calibration, layer, q))
    budget = _divergence(dense, coded, coded.forward(ids)[0])
    names = [site.name for site in weights.config.sites]
    dearest = [*names, "the queries of attention"][int(np.nanargmax(spent))]
    return Divergence(ids.shape[1], all_spikes, budget, float(spent.sum()), _worst_site(errors, names), dearest)


def usual_divergence(options: ConvertConfig) -> float:
    """Nats per token with all spikes that need no explanation; codes and weights that round more coarsely explain more themselves."""
    return USUAL if options.code == "signed-digit" and options.phases is None and options.weights == "8-bit" else 10 * USUAL


def _divergence(dense: Tensor, decoder: FunctionalDecoder, logits: Tensor) -> float:
    spiking = log_probabilities(decoder.weights, logits)
    return float((dense.exp() * (dense - spiking)).sum(-1).mean())


def _without_stops(weights: DecoderWeights) -> DecoderWeights:
    """The same integers with all their spikes."""
    free = weights.with_sites(lambda _, linear: replace(linear, stop=np.zeros_like(linear.stop)))
    return free.with_query_stops(lambda _, stop: np.zeros_like(stop))


def _query_cost(decoder: FunctionalDecoder, calibration: Calibration, layer: int, q: Tensor) -> float:
    """Half the sensitivity times the squared coding error of rotated queries int32 [rows, heads, D]."""
    weights = decoder.weights
    if not weights.layers[layer].attention_spiking:
        return 0.0
    total = 0.0
    for head in range(weights.config.heads):
        stop = torch.from_numpy(weights.layers[layer].query_stop[head]).to(q.device)
        x = q[:, head].contiguous()
        coded = decoder.operations.encode(x, stop, weights.code.query_phases)
        wrong = (x.double() - coded.integers().double() * (2.0 ** coded.exponent.double())[:, None]) * 2.0**-weights.formats.qkv
        total += float(wrong.square().mean(0).cpu() @ torch.from_numpy(calibration.query_sensitivity[layer, head])) / 2
    return total


def _worst_site(errors: np.ndarray, names: Sequence[str]) -> str:
    """The site whose inputs are wrong by most more than any before it; what is behind the last one if all inputs are nearly right."""
    most = np.maximum.accumulate(np.concatenate(([0.0], errors)))[:-1]
    growth = np.sqrt(errors) - np.sqrt(most)
    site = int(np.argmax(growth))
    return names[site] if growth[site] > _SMALL_ERROR else _LOGITS


_SMALL_ERROR = 0.03
