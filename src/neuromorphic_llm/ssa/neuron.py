"""Leaky integrate-and-fire neurons with surrogate gradients (docs/reference/ssa.md, Neuron)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


def _sigmoid(x: Tensor, slope: float) -> Tensor:
    gate = torch.sigmoid(slope * x)
    return slope * gate * (1 - gate)


def _atan(x: Tensor, slope: float) -> Tensor:
    return 0.5 * slope / (1 + (0.5 * math.pi * slope * x).square())


def _fast_sigmoid(x: Tensor, slope: float) -> Tensor:
    return (1 + slope * x.abs()).square().reciprocal()


SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {"sigmoid": _sigmoid, "atan": _atan, "fast-sigmoid": _fast_sigmoid}
"""Name -> derivative that takes the place of the step's, of the distance to the threshold and a slope."""

RESETS = ("soft", "hard")


@dataclass(frozen=True)
class NeuronConfig:
    """Constants of a neuron; raises ValueError naming the field."""

    leak: float = 1.0  # share of the membrane that is left after a step
    threshold: float = 1.0
    reset: str = "soft"
    surrogate: str = "atan"
    slope: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.leak <= 1:
            raise ValueError(f"leak must lie in (0, 1], got {self.leak}")
        for name in ("threshold", "slope"):
            if not 0 < getattr(self, name) < 1e6:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.reset not in RESETS:
            raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {self.reset!r}")
        if self.surrogate not in SURROGATES:
            raise ValueError(f"surrogate must be one of {', '.join(SURROGATES)}, got {self.surrogate!r}")

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self)


class _Spike(torch.autograd.Function):
    """1 where the distance to the threshold is not negative; its derivative is the surrogate's."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, surrogate: str, slope: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.surrogate, ctx.slope = surrogate, slope
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (distance,) = ctx.saved_tensors
        return gradients[0] * SURROGATES[ctx.surrogate](distance, ctx.slope), None, None


def spike(distance: Tensor, config: NeuronConfig) -> Tensor:
    """Spikes (0 or 1) of the membrane's distance to the threshold, with the surrogate's gradient."""
    spikes: Tensor = _Spike.apply(distance, config.surrogate, config.slope)  # type: ignore[no-untyped-call]
    return spikes


def lif(current: Tensor, config: NeuronConfig, steps: int | None = None) -> Tensor:
    """Spike trains [steps, ..] of currents [steps, ..], or of one current [..] that is the same in each of `steps` steps."""
    constant = steps is not None
    count = current.shape[0] if steps is None else steps
    membrane = torch.zeros_like(current if constant else current[0])
    trains = []
    for step in range(count):
        membrane = config.leak * membrane + (current if constant else current[step])
        fired = spike(membrane - config.threshold, config)
        membrane = membrane - config.threshold * fired if config.reset == "soft" else membrane * (1 - fired)
        trains.append(fired)
    return torch.stack(trains)
