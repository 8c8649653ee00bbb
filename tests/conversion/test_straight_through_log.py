"""The differentiable first-spike-log code is the code, and its gradients are those of the page."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuromorphic_llm.conversion.emulation import emulation_of
from neuromorphic_llm.conversion.straight_through import STRAIGHT, Surrogate
from neuromorphic_llm.conversion.straight_through_log import coded_levels
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.registry import get_code


def integers(shape: tuple[int, ...], seed: int = 0, spread: float = 50_000.0) -> torch.Tensor:
    return torch.from_numpy(np.rint(np.random.default_rng(seed).laplace(0, spread, shape))).float()


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("phases", [4, 8])
def test_the_emulated_code_is_the_code(steps: int, phases: int) -> None:
    """Every value, wherever the least level is an integer; powers of two and the values between two levels are among the inputs."""
    generator = np.random.default_rng(steps)
    x = integers((60, 33), steps)
    x[0, :20] = 2.0 ** torch.arange(20)
    x[1, :16] = torch.tensor([w << 12 for w in (32, 35, 38, 41, 45, 49, 54, 59)] + [w << 11 for w in (67, 73, 79, 86, 94, 103, 113, 123)])
    stop = np.rint(generator.lognormal(0, 3, 33) * 1e4).astype(np.int64)
    code = get_code("first-spike-log", phases, steps=steps)
    train = code.encode(x.numpy().astype(np.int64), stop)
    result, spikes = coded_levels(x, torch.from_numpy(stop).float()[None], phases, steps)
    expected = code.decode(train)
    fits = train.exponent > 0  # below, the chip's integers end where the float's do not
    assert fits.mean() > 0.9
    assert np.array_equal(result.numpy()[fits], expected[fits])
    assert 0 < float(spikes) == int((result != 0).sum())


def test_zeros_and_half_precision() -> None:
    result, spikes = coded_levels(torch.zeros(3, 5), torch.zeros(1, 5), 8, 8)
    assert float(spikes) == 0 and torch.equal(result, torch.zeros(3, 5))
    x = integers((40, 16))
    whole, _ = coded_levels(x, torch.full((1, 16), 1e8), 8, 8)
    half, _ = coded_levels(x, torch.full((1, 16), 1e8), 8, 8, half=True)
    assert half.dtype == torch.bfloat16 and torch.equal(half.float(), whole)


def test_the_gradient_for_the_inputs() -> None:
    x, price = integers((20, 16), 1), torch.full((1, 16), 30_000.0**2)
    magnitude = x.abs()
    near = (magnitude - 30_000).abs() < 15_000
    for surrogate in (STRAIGHT, Surrogate(masked=True, activity=False), Surrogate(masked=False, activity=True)):
        leaf = x.clone().requires_grad_(True)
        result, spikes = coded_levels(leaf, price, 12, 8, surrogate)
        (result.sum() + 100 * spikes).backward()
        expected = ((magnitude > 30_000) | near).float() if surrogate.masked else torch.ones_like(x)
        expected += torch.where(near, 100 * torch.sign(x) / 30_000, 0.0) if surrogate.activity else 0.0
        assert leaf.grad is not None and torch.allclose(leaf.grad, expected)


def test_the_gradient_for_the_prices_by_hand() -> None:
    # With the threshold z = sqrt(R): d x^ / d R = - sign(x) / (2 z), d spikes / d R = - 1 / (2 R), of inputs within half of z from it.
    price = torch.tensor([[4.0, 4.0, 4.0, 0.0]], requires_grad=True)
    x = torch.tensor([[2.5, -1.5, 3.5, 1.0], [-2.9, 0.5, 64.0, 2.0]])
    result, spikes = coded_levels(x, price, 12, 8)
    ((result * torch.tensor([5.0, 7.0, 1.0, 1.0])).sum() + 3 * spikes).backward()
    assert price.grad is not None
    assert price.grad[0].tolist() == pytest.approx([-(5 / 4 + 3 / 8) - (-5 / 4 + 3 / 8), -(-7 / 4 + 3 / 8), 0.0, 0.0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_gradients_are_the_eager_ones() -> None:
    def both(x: torch.Tensor, price: torch.Tensor) -> torch.Tensor:
        result, spikes = coded_levels(x, price, 8, 8, Surrogate())
        return (result * torch.cos(x)).sum() + 0.1 * spikes

    gradients = []
    for function in (both, torch.compile(both, dynamic=False)):
        x, price = integers((12, 8), 3).requires_grad_(True), torch.full((1, 8), 3e9, requires_grad=True)
        function(x, price).backward()
        assert x.grad is not None and price.grad is not None
        gradients.append((x.grad, price.grad))
    assert torch.allclose(gradients[0][0], gradients[1][0], rtol=1e-4) and torch.allclose(gradients[0][1], gradients[1][1], rtol=1e-4)


def test_codes_that_cannot_be_trained() -> None:
    assert emulation_of(get_code("first-spike-log", 8, steps=8), 10, STRAIGHT, half=False).steps == 8
    assert emulation_of(get_code("signed-digit"), 10, STRAIGHT, half=True).steps == 0
    with pytest.raises(UsageError, match="signed-digit and first-spike-log, not burst"):
        emulation_of(get_code("burst"), 10, STRAIGHT, half=False)
    with pytest.raises(UsageError, match="unclipped"):
        emulation_of(get_code("first-spike-log", 8, clip_per_mille=1), 10, STRAIGHT, half=False)
