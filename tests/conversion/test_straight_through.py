"""The differentiable code is the code, and its gradients are those of the page."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuromorphic_llm.conversion.straight_through import STRAIGHT, Surrogate, coded, top_weight
from neuromorphic_llm.spikes.registry import get_code


def integers(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.rint(np.random.default_rng(seed).laplace(0, 2000, shape))).float()


def test_the_emulated_code_is_the_code() -> None:
    generator = np.random.default_rng(0)
    x = integers((50, 33))
    stop = np.rint(generator.lognormal(0, 2, 33) * 1e4).astype(np.int64)
    train = get_code("signed-digit").encode(x.numpy().astype(np.int64), stop)
    result, spikes = coded(x, torch.from_numpy(stop).float()[None], 14)
    # The chip floors R / w; it matters where 2 |v| - w lies between.
    same = (result.numpy() == get_code("signed-digit").decode(train)).mean()
    assert same > 0.999 and abs(float(spikes) / np.count_nonzero(train.digits) - 1) < 1e-3


@pytest.mark.parametrize("largest", [1.0, 1.5, 1.5000001, 2.0, 3.0, 3.0000002, 0.7499999, 0.75, 0.75000006, 1e-8, 123456.0])
def test_the_first_phase_is_the_smallest_that_is_enough(largest: float) -> None:
    x = torch.tensor([[0.0, -largest, largest / 3]])
    weight = float(top_weight(x))
    assert np.log2(weight) == np.round(np.log2(weight))
    exact = float(x.abs().max())
    assert 3 * weight >= 2 * exact > 3 * weight / 2


def test_zeros_have_no_spikes() -> None:
    result, spikes = coded(torch.zeros(3, 5), torch.zeros(1, 5), 14)
    assert float(spikes) == 0 and torch.equal(result, torch.zeros(3, 5))


def test_rows_take_the_prices_of_their_table() -> None:
    x, price = integers((4, 6, 3, 8)), torch.exp(torch.arange(24.0).view(3, 8) / 2)
    result, spikes = coded(x, price, 10)
    single = [coded(x[:, :, table], price[table : table + 1], 10) for table in range(3)]
    assert torch.equal(result, torch.stack([values for values, _ in single], 2))
    assert spikes == sum(count for _, count in single)


def test_the_gradient_for_the_inputs() -> None:
    x, price = integers((20, 16), 1), torch.full((1, 16), 3e6)
    for surrogate in (STRAIGHT, Surrogate(masked=True, activity=False), Surrogate(masked=False, activity=True)):
        leaf = x.clone().requires_grad_(True)
        result, spikes = coded(leaf, price, 14, surrogate)
        (result.sum() + 100 * spikes).backward()
        assert leaf.grad is not None
        if surrogate.masked:
            assert bool((leaf.grad[result != 0] == 1).all()) and set(leaf.grad.unique().tolist()) == {0.0, 1.0}
            silent = (result == 0) & (leaf.grad == 1)  # but close to firing
            assert 0 < int(silent.sum()) < 0.3 * x.numel()
            assert x[silent].abs().min() > x[leaf.grad == 0].abs().median()
        elif not surrogate.activity:
            assert torch.equal(leaf.grad, torch.ones_like(x))
        else:
            # Only inputs near a threshold have a say in the number of spikes, and shrinking them saves spikes.
            slope = (leaf.grad - 1) * torch.sign(x)
            assert bool((slope != 0).any()) and bool((slope == 0).any())
            fewer, _ = coded(x - 0.2 * torch.sign(x) * x.abs() * (slope > 0), price, 14)
            assert (fewer != 0).sum() < (result != 0).sum()


def test_the_gradient_for_the_prices_by_hand() -> None:
    # One phase of weight 1 at v = 0.9: z = 1.8 - 1 - R = 0.8 - R, near its threshold for 0.3 < R < 1.3.
    for price, near in ((0.2, False), (0.4, True), (0.7, True), (1.2, True), (1.4, False)):
        leaf = torch.tensor([[price, 0.0]], requires_grad=True)
        x = torch.tensor([[0.9, 1.4]])
        result, spikes = coded(x, leaf, 1)
        assert float(spikes.detach()) == (2 if price < 0.8 else 1)
        (5 * result[0, 0] + 3 * spikes).backward()
        assert leaf.grad is not None
        assert float(leaf.grad[0, 0]) == pytest.approx(-(5 + 3) if near else 0)


def test_gradients_of_prices_point_to_fewer_spikes_and_less_error() -> None:
    x = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    for sign in (-1.0, 1.0):
        log_price = torch.full((16,), -5.0, requires_grad=True)
        result, spikes = coded(x, log_price.exp()[None], 14)
        (sign * spikes + 1e4 * (1 - sign) * (result - x).square().sum()).backward()
        assert log_price.grad is not None
        moved = (log_price - 0.3 * log_price.grad.sign()).detach()
        after, fewer = coded(x, moved.exp()[None], 14)
        if sign > 0:
            assert fewer < spikes
        else:
            assert (after - x).square().sum() < (result - x).square().sum()
