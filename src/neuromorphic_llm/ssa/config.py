"""Options of spiking self-attention and of its fine-tuning."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from neuromorphic_llm.options import check_choices, described, option
from neuromorphic_llm.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_NEURON = "neuromorphic_llm.ssa.neuron"

SURROGATES: Registry[Callable[[Tensor, float], Tensor]] = Registry(
    "surrogate", (("sigmoid", f"{_NEURON}:sigmoid"), ("atan", f"{_NEURON}:atan"), ("fast-sigmoid", f"{_NEURON}:fast_sigmoid"))
)
"""Name -> derivative that takes the place of the step's, of the distance to the threshold and a slope."""

RESETS = ("soft", "hard")


@described
@dataclass(frozen=True)
class NeuronConfig:
    """Constants of a neuron; raises ValueError naming the field."""

    leak: float = option(1.0, "Share of the membrane that is left after a step.")
    threshold: float = 1.0
    reset: str = option("soft", "soft or hard.", choices=RESETS)
    surrogate: str = option("atan", "Gradient of a spike: sigmoid, atan or fast-sigmoid.", choices=SURROGATES)
    slope: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.leak <= 1:
            raise ValueError(f"leak must lie in (0, 1], got {self.leak}")
        for name in ("threshold", "slope"):
            if not 0 < getattr(self, name) < 1e6:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        check_choices(self)

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self)


@described
@dataclass(frozen=True)
class SsaConfig:
    """Spiking self-attention that replaces attention; raises ValueError naming the field."""

    time_steps: int = option(4, "Steps T of the spike trains.")
    score_spikes: bool = option(False, "Scores pass a spiking neuron before they meet the values.")
    neuron: NeuronConfig = field(default_factory=NeuronConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.time_steps <= 1024:
            raise ValueError(f"time_steps must lie in 1..1024, got {self.time_steps}")

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return {"time_steps": self.time_steps, "score_spikes": self.score_spikes, "neuron": self.neuron.to_json()}


@described
@dataclass(frozen=True)
class SsaTuneConfig:
    """Recipe of a fine-tuning; raises ValueError naming the field. A step takes `batch` sequences."""

    layer_steps: int = option(100, "Fine-tuning steps layer by layer.", least=0)
    steps: int = option(200, "Fine-tuning steps end to end.", least=0)
    batch: int = option(8, "Windows a fine-tuning step.", name="train-batch", least=1)
    layer_learning_rate: float = 1e-3
    learning_rate: float = 3e-4
    warmup: int = 10
    clip: float = 1.0
    save_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("layer_steps", "steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("batch", "warmup", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("layer_learning_rate", "learning_rate", "clip"):
            if not 0 < getattr(self, name) < 1e6:
                raise ValueError(f"{name} must be positive and below 1e6, got {getattr(self, name)}")

    @property
    def total(self) -> int:
        """Steps of both stages."""
        return self.layer_steps + self.steps

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self)
