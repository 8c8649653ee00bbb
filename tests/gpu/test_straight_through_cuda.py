"""The kernels of the differentiable code equal the loops on the CPU, and a compiled decoder has the gradients of the eager one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neuromorphic_llm.conversion.emulation import EmulatedDecoder, EmulationConfig, Prices
from neuromorphic_llm.conversion.fine_tune_config import FineTuneConfig
from neuromorphic_llm.conversion.straight_through import Surrogate, coded
from neuromorphic_llm.conversion.straight_through_log import coded_levels
from neuromorphic_llm.conversion.training_run import fine_tune
from neuromorphic_llm.models.checkpoint import load_checkpoint

pytestmark = pytest.mark.gpu


def code_on(device: str, x: torch.Tensor, price: torch.Tensor, phases: int, surrogate: Surrogate) -> list[torch.Tensor]:
    """Coded x, spikes, and the gradients of a fixed combination of both for x and price."""
    leaf, prices = x.to(device).requires_grad_(True), price.to(device).requires_grad_(True)
    result, spikes = coded(leaf, prices, phases, surrogate)
    direction = torch.sin(torch.arange(x.numel(), device=device, dtype=torch.float64)).float().view_as(x)
    ((result * direction).sum() + 0.3 * spikes).backward()
    assert leaf.grad is not None and prices.grad is not None
    return [result.detach().cpu(), spikes.detach().cpu(), leaf.grad.cpu(), prices.grad.cpu()]


@pytest.mark.parametrize("surrogate", [Surrogate(masked, activity) for masked in (False, True) for activity in (False, True)])
@pytest.mark.parametrize(("shape", "tables", "phases"), [((3, 100, 70), 1, 14), ((1, 4096, 576), 1, 14), ((2, 33, 9, 64), 9, 10)])
def test_kernels_equal_the_loops(shape: tuple[int, ...], tables: int, phases: int, surrogate: Surrogate) -> None:
    generator = torch.Generator().manual_seed(len(shape))
    x = torch.randn(shape, generator=generator) * torch.exp(torch.randn(*shape[:-1], 1, generator=generator))
    price = torch.exp(torch.randn(tables, shape[-1], generator=generator) - 2)
    ours, theirs = (code_on(device, x, price, phases, surrogate) for device in ("cuda", "cpu"))
    assert torch.equal(ours[0], theirs[0]) and ours[1] == theirs[1] and torch.equal(ours[2], theirs[2])
    if tables == 1:
        assert torch.allclose(ours[3], theirs[3], rtol=1e-3, atol=1e-3 * float(theirs[3].abs().max()))


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_levels_equal_those_on_the_cpu(steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    x = torch.randn(3, 700, 96, generator=generator) * torch.exp(torch.randn(3, 700, 1, generator=generator))
    price = torch.exp(torch.randn(1, 96, generator=generator) - 2)
    found = []
    for device, function in (("cpu", coded_levels), ("cuda", coded_levels), ("cuda", torch.compile(coded_levels, dynamic=False))):
        leaf, prices = (tensor.to(device).detach().requires_grad_(True) for tensor in (x, price))
        result, spikes = function(leaf, prices, 8, steps, Surrogate())
        (result.sum() + 0.3 * spikes).backward()
        assert leaf.grad is not None and prices.grad is not None
        found.append([result.detach().cpu(), spikes.detach().cpu(), leaf.grad.cpu(), prices.grad.cpu()])
    for other in found[1:]:
        assert torch.equal(other[0], found[0][0]) and other[1] == found[0][1]
        # A gradient may be the small difference of numbers around 1, so its error is theirs.
        assert torch.allclose(other[2], found[0][2], rtol=1e-5, atol=1e-6) and torch.allclose(other[3], found[0][3], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("emulation", [EmulationConfig(14, 10, Surrogate()), EmulationConfig(8, 10, Surrogate(), steps=8)])
def test_compiled_layers_have_the_gradients_of_eager_ones(emulation: EmulationConfig) -> None:
    nano = load_checkpoint("nano").canonical
    sites = tuple(torch.full((nano.config.sites[site].shape[0],), 1e-3) for site in range(len(nano.config.sites)))
    queries = tuple(torch.full((nano.config.heads, nano.config.head_dim), 1e-4) for _ in range(nano.config.layers))
    ids = torch.randint(nano.config.vocab_size, (4, 64), generator=torch.Generator().manual_seed(0)).cuda()
    found = []
    for compiled in (False, True):
        decoder = EmulatedDecoder(nano, Prices(sites, queries), emulation).cuda()
        if compiled:
            decoder.compile_layers()
        hidden, spikes = decoder(ids)
        (hidden.square().mean() + spikes).backward()
        found.append([spikes.detach(), *(parameter.grad for parameter in decoder.parameters() if parameter.grad is not None)])
    for eager, other in zip(*found, strict=True):
        # A rounding may move a spike across its threshold.
        assert (eager - other).norm() <= 0.02 * eager.norm()


def test_a_whole_fine_tuning(tmp_path: Path) -> None:
    recipe = FineTuneConfig(spikes=1.0, tokens=40 * 16 * 128, batch=16, window=128, learning_rate=1e-3, warmup=5, save_every=20)
    text = (Path(__file__).parents[1] / "models" / "story.txt").read_text() * 40
    network = fine_tune(load_checkpoint("nano"), [text], recipe, tmp_path, own_tokens=20_000, device=torch.device("cuda"))
    assert network is not None and 0.998 < network.provenance["spikes_per_activation"] <= 1.0
