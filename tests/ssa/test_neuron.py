"""Leaky integrate-and-fire neurons against hand computations."""

from __future__ import annotations

import math

import pytest
import torch

from neuromorphic_llm.ssa.config import SURROGATES, NeuronConfig
from neuromorphic_llm.ssa.neuron import lif


def test_soft_reset_by_hand() -> None:
    # u: 0.6, 0.3 + 0.6 = 0.9, 0.45 + 0.6 = 1.05 (spike, 0.05 left), 0.025 + 0.6 = 0.625
    train = lif(torch.full((4, 1), 0.6), NeuronConfig(leak=0.5))
    assert train.flatten().tolist() == [0, 0, 1, 0]
    # without leak: 0.625, 1.25 (0.25 left), 0.875, 1.5 (0.5 left), 1.125
    assert lif(torch.full((5, 1), 0.625), NeuronConfig()).flatten().tolist() == [0, 1, 0, 1, 1]
    # a membrane at the threshold fires
    assert lif(torch.full((4, 1), 0.5), NeuronConfig()).flatten().tolist() == [0, 1, 0, 1]


def test_hard_reset_by_hand() -> None:
    # u: 0.75, 1.5 (spike, nothing left), 0.75, 1.5
    assert lif(torch.full((4, 1), 0.75), NeuronConfig(reset="hard")).flatten().tolist() == [0, 1, 0, 1]
    # a soft reset leaves 0.5 and fires again at once
    assert lif(torch.full((4, 1), 0.75), NeuronConfig()).flatten().tolist() == [0, 1, 1, 1]


def test_a_constant_current_is_the_same_as_its_copies() -> None:
    current = torch.linspace(-0.5, 1.5, 9)
    config = NeuronConfig(leak=0.9, threshold=0.7)
    torch.testing.assert_close(lif(current, config, 5), lif(current.expand(5, 9), config), rtol=0, atol=0)


def test_spikes_without_leak_count_the_input() -> None:
    """Integrate-and-fire with a soft reset emits floor(T I) spikes in T steps of 0 <= I <= 1."""
    current = torch.arange(17, dtype=torch.float64) / 16
    for steps in (1, 4, 8):
        assert lif(current, NeuronConfig(), steps).sum(0).tolist() == torch.floor(current * steps).tolist()


@pytest.mark.parametrize(
    ("name", "derivative"),
    [
        ("sigmoid", lambda x: 4 * (1 / (1 + math.exp(-4 * x))) * (1 - 1 / (1 + math.exp(-4 * x)))),
        ("atan", lambda x: 2 / (1 + (math.pi / 2 * 4 * x) ** 2)),
        ("fast-sigmoid", lambda x: 1 / (1 + 4 * abs(x)) ** 2),
    ],
)
def test_surrogate_gradients(name: str, derivative: object) -> None:
    assert callable(derivative)
    current = torch.tensor([0.2, 0.9, 1.0, 1.7], dtype=torch.float64, requires_grad=True)
    lif(current, NeuronConfig(surrogate=name), 1).sum().backward()  # type: ignore[no-untyped-call]
    assert current.grad is not None
    assert current.grad.tolist() == pytest.approx([derivative(x - 1.0) for x in (0.2, 0.9, 1.0, 1.7)])


def test_gradients_pass_through_time() -> None:
    """Two steps, no spike: the first current reaches the second membrane through the leak."""
    config = NeuronConfig(leak=0.5)
    current = torch.tensor([[0.4], [0.4]], dtype=torch.float64, requires_grad=True)
    lif(current, config)[1].sum().backward()  # type: ignore[no-untyped-call]
    slope = SURROGATES["atan"](torch.tensor(0.6 - 1.0, dtype=torch.float64), 4.0)
    # the soft reset of the first step subtracts its surrogate's share
    first = SURROGATES["atan"](torch.tensor(0.4 - 1.0, dtype=torch.float64), 4.0)
    assert current.grad is not None
    assert current.grad.flatten().tolist() == pytest.approx([float(slope * 0.5 * (1 - first)), float(slope)])


@pytest.mark.parametrize(
    ("change", "field"),
    [({"leak": 0.0}, "leak"), ({"leak": 1.1}, "leak"), ({"threshold": 0.0}, "threshold"), ({"reset": "none"}, "reset"),
     ({"surrogate": "step"}, "surrogate"), ({"slope": -1.0}, "slope")],
)  # fmt: skip
def test_refuses(change: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        NeuronConfig(**change)  # type: ignore[arg-type]
