"""Ideas that would need hardware of their own, in floating point at equal spikes: means of all inputs, noise shaping in the encoder.

    python benchmarks/ablation_inputs.py smollm2-135m --task wikitext2 --limit-tokens 2048 --spikes 1.0 --device cuda

All variants code the inputs of all sites with the signed-digit code and one price; weights, queries and attention stay in floating point.

plain        stop rule with the diagonal of the Fisher information F of the predictions, as conversion has it
means        the channel means of the calibration text are taken out before coding and added after it: a table and an adder in norm and gate
rank r       noise shaping: a spike also counts its effect on what other inputs must still send. The error v_i of an input is replaced by
             (F v)_i / F_ii, with F taken as its diagonal plus the r largest eigenvectors of the rest; a spike must not raise the error of
             its own input. Inputs decide in 16 groups, one after the other in each phase
outputs r    the same at the down projections only, with the r largest eigenvectors of W^T W, brought to the size of F

`lateral` is what noise shaping computes besides, multiplications for each synaptic operation: r an input and phase, r a spike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from neuromorphic_llm.conversion.budget import price_for_spikes
from neuromorphic_llm.conversion.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.models.checkpoint import load_checkpoint
from table_run import table_parser, text_of

PHASES, GROUPS = 14, 16
_LEAST_SHARE = 1e-9
"""Of the largest sensitivity of a site: what an input counts at least."""


class Statistics(Observer):
    """Mean input [inputs] and Fisher matrix [inputs, inputs] of every site, from predictions drawn by the decoder itself."""

    def __init__(self, decoder: FloatDecoder) -> None:
        self.decoder, self.tokens = decoder, 0
        self.inputs: dict[int, Tensor] = {}
        sizes = [decoder.config.sites[site].shape[0] for site in range(len(decoder.config.sites))]
        self.mean = [torch.zeros(size, device=decoder.device) for size in sizes]
        self.fisher = [torch.zeros(size, size, device=decoder.device) for size in sizes]

    def site(self, index: int, x: Tensor) -> Tensor:
        self.inputs[index] = x if x.requires_grad else x.requires_grad_(True)
        return self.inputs[index]

    def add(self, window: Sequence[int], generator: torch.Generator) -> None:
        """Run forward and backward over a window."""
        log_p = self.decoder(torch.tensor([list(window)]), self)[0].log_softmax(-1)
        drawn = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
        gradients = torch.autograd.grad(log_p.gather(1, drawn).sum(), list(self.inputs.values()))
        for (site, x), gradient in zip(self.inputs.items(), gradients, strict=True):
            self.mean[site] += x.detach().sum((0, 1))
            self.fisher[site] += gradient[0].T @ gradient[0]
        self.tokens += len(window)
        self.inputs.clear()


@dataclass
class Site:
    """What a variant codes a site with: offset, metric diag(own) + factor factor^T, factor [inputs, rank], and the cost of a spike."""

    mean: Tensor
    own: Tensor
    factor: Tensor
    outputs: int


def _factor(matrix: Tensor, rank: int) -> Tensor:
    """The `rank` largest eigenvectors [inputs, rank] of a symmetric matrix, times the roots of their eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix.double())
    first = max(len(values) - rank, 0)
    factor: Tensor = vectors[:, first:] * values[first:].clamp_min(0).sqrt()
    return factor.float()


def sites(statistics: Statistics, *, centred: bool = False, rank: int = 0, output_rank: int = 0) -> list[Site]:
    """Sites of a variant: `rank` of the Fisher matrix everywhere, or `output_rank` of W^T W at the down projections."""
    decoder, found = statistics.decoder, []
    for index, (total, matrix) in enumerate(zip(statistics.mean, statistics.fisher, strict=True)):
        fisher = matrix / statistics.tokens
        diagonal = fisher.diagonal().clamp_min(float(fisher.diagonal().max()) * _LEAST_SHARE)
        own, factor = diagonal, torch.zeros(len(diagonal), 0, device=diagonal.device)
        if rank:
            factor = _factor(fisher - torch.diag(fisher.diagonal()), rank)
        site = decoder.config.sites[index]
        if output_rank and site.role == "down":
            weight = decoder.weights[f"model.layers.{site.stage}.mlp.down_proj.weight"]
            gram = weight.T @ weight
            factor = _factor(gram * (fisher.trace() / gram.trace()), output_rank)
            own = (gram.diagonal() * (fisher.trace() / gram.trace()) - factor.square().sum(1)).clamp_min(0)
        mean = total / statistics.tokens if centred else torch.zeros_like(total)
        found.append(Site(mean, own, factor, site.outputs))
    return found


def coded(x: Tensor, site: Site, price: float) -> tuple[Tensor, Tensor]:
    """(coded x [rows, inputs], number of spikes) by the stop rule with lateral effects; without them numerics.md's code."""
    rest = x.clone()
    weight = torch.exp2(torch.ceil(torch.log2(x.abs().amax(-1, keepdim=True).clamp_min(1e-20) * (2 / 3))))
    lateral = rest @ site.factor  # [rows, rank]
    diagonal = site.own + site.factor.square().sum(1)
    stop = price * site.outputs / diagonal
    spikes = torch.zeros((), device=x.device)
    groups = GROUPS if site.factor.shape[1] else 1
    for _ in range(PHASES):
        for group in range(groups):
            part = slice(group, None, groups)
            wanted = (site.own[part] * rest[:, part] + lateral @ site.factor[part].T) / diagonal[part]
            size = wanted.abs()
            fires = (size >= 0.75 * weight) & (2 * size > weight + stop[part] / weight)
            fires &= wanted.sign() * rest[:, part] >= 0.5 * weight
            digits = torch.where(fires, torch.sign(wanted), 0.0)
            rest[:, part] -= digits * weight
            lateral -= (digits * weight) @ site.factor[part]
            spikes += digits.abs().sum()
        weight = weight / 2
    return x - rest, spikes


class Coder(Observer):
    """Codes the inputs of all sites; `spikes` [sites] of the last run."""

    def __init__(self, found: Sequence[Site], price: float) -> None:
        self.found, self.price = found, price
        self.spikes: dict[int, Tensor] = {}

    def site(self, index: int, x: Tensor) -> Tensor:
        site = self.found[index]
        result, spikes = coded((x - site.mean).flatten(0, 1), site, self.price)
        self.spikes[index] = self.spikes.get(index, torch.zeros_like(spikes)) + spikes
        return result.view(x.shape) + site.mean


@torch.no_grad()
def measure(decoder: FloatDecoder, text: Sequence[Sequence[int]], found: Sequence[Site], price: float) -> tuple[float, float, float]:
    """(spikes per activation, KL from the dense decoder in nats per token, lateral multiplications per synaptic operation)."""
    coder, divergence = Coder(found, price), 0.0
    for window in text:
        ids = torch.tensor([list(window)])
        dense = decoder(ids).log_softmax(-1)
        divergence += float((dense.exp() * (dense - decoder(ids, coder).log_softmax(-1))).sum())
    tokens = sum(map(len, text))
    spikes = [float(coder.spikes[site]) / tokens for site in range(len(decoder.config.sites))]
    shapes = [decoder.config.sites[site].shape for site in range(len(decoder.config.sites))]
    operations = sum(count * outputs for count, (_, outputs) in zip(spikes, shapes, strict=True))
    work = [(PHASES * inputs + count) * site.factor.shape[1] for count, (inputs, _), site in zip(spikes, shapes, found, strict=True)]
    return operations / sum(inputs * outputs for inputs, outputs in shapes), divergence / tokens, sum(work) / operations


def main() -> None:
    """Calibrate, code, compare and print."""
    parser = table_parser(__doc__, limit_tokens=2048, window=512)
    parser.add_argument("--spikes", type=float, default=1.0)
    arguments = parser.parse_args()
    device = checked_device(arguments.device)
    checkpoint = load_checkpoint(arguments.model)
    tokenizer = checkpoint.tokenizer()
    text = text_of(arguments, tokenizer).windows(arguments.window)
    decoder = FloatDecoder(checkpoint.canonical, device=device)
    statistics, generator = Statistics(decoder), torch.Generator(device=device).manual_seed(0)
    for window in calibration_windows(tokenizer):
        statistics.add(window, generator)
    variants: dict[str, Callable[[], list[Site]]] = {
        "plain": lambda: sites(statistics),
        "means": lambda: sites(statistics, centred=True),
        "rank 8": lambda: sites(statistics, rank=8),
        "rank 32": lambda: sites(statistics, rank=32),
        "outputs 32": lambda: sites(statistics, output_rank=32),
        "outputs all": lambda: sites(statistics, output_rank=checkpoint.config.hidden_size),
    }
    table = Table("variant", "spikes per activation", "KL to dense, nats", "lateral", title=f"{checkpoint.name}, {arguments.task}")
    for name, make in variants.items():
        found = make()

        def spikes(price: float, found: list[Site] = found) -> float:
            return measure(decoder, text, found, price)[0]

        price, _ = price_for_spikes(spikes, arguments.spikes, 0.003, 1e-9)
        reached, divergence, lateral = measure(decoder, text, found, price)
        print(name, f"{reached:.4f}", f"{divergence:.5f}", f"{lateral:.2f}", sep=", ", flush=True)
        table.add_row(name, f"{reached:.3f}", f"{divergence:.4f}", f"{lateral:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
