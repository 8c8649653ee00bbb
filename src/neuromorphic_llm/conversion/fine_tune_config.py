"""Recipe of a fine-tuning."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.options import described, option, same_option

OPTIMIZERS = ("adamw", "muon")
_LARGEST, _LARGEST_STEP = 1e6, 2**24
"""Bounds of the recipe's numbers, and of the tokens per step."""


@described
@dataclass(frozen=True)
class FineTuneConfig:
    """Recipe of a fine-tuning; raises ValueError naming the field.

    `spikes` is the mean per activation to hold on the held-out text, reached from `start_spikes` (None: from the start) over the first
    fifth. The run ends after `tokens`, or after `seconds` of wall time if they are given and come first. The learning rate rises over
    `warmup` steps and falls to a fiftieth as a half cosine of what of the run has passed; prices learn at `price_rate`, 0 keeps their
    ratios. `optimizer` is that of the matrices of the layers; "muon" scales its steps as large as AdamW's, which takes the rest.
    A step takes `batch` sequences of `window` tokens. `masked` and `activity`: see straight_through.Surrogate.
    `code`, `phases` and `code_parameters` are those of ConvertConfig. `bos`: how windows of text begin (models/text_tokens.py).
    """

    code: str = option("signed-digit", "Spike code: signed-digit or first-spike-log.")
    code_parameters: tuple[tuple[str, int | bool | str], ...] = same_option(ConvertConfig, "code_parameters")
    phases: int | None = same_option(ConvertConfig, "phases")
    spikes: float = option(1.0, "Mean spikes per activation to hold.")
    start_spikes: float | None = option(None, "Spikes to begin with; they fall to --spikes in the first fifth.")
    tokens: int = option(50_000_000, "Tokens to train on, such as 500k or 50M.", written="50M")
    seconds: float | None = option(None, "End after about so long, text writing included; the schedule is fitted to it.")
    optimizer: str = option("adamw", "Of the matrices of the layers: adamw or muon.", choices=OPTIMIZERS)
    learning_rate: float = option(3e-4, "Of the weights, at its highest.")
    price_rate: float = option(1e-2, "Learning rate of the logarithms of the stop prices; 0 keeps their ratios.")
    batch: int = option(16, "Windows per step, of all processes together.", least=1)
    window: int = option(1024, "Tokens per window (default 1024, less if the model holds less).", least=2, optional=True)
    masked: bool = option(True, "Pass gradients only to inputs that fire or almost do.")
    activity: bool = option(True, "Charge the weights for spikes too, not the prices alone.")
    save_every: int = option(200, "Steps between states.", least=1)
    evaluate_every: int = 100
    warmup: int = 30
    clip: float = 1.0
    seed: int = 0
    bos: str = "auto"

    def __post_init__(self) -> None:
        for name in ("tokens", "batch", "warmup", "save_every", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.window < 2:
            raise ValueError(f"window must be at least 2, got {self.window}")
        if self.batch * self.window > _LARGEST_STEP:
            raise ValueError(f"batch must be at most {_LARGEST_STEP // self.window} with a window of {self.window}, got {self.batch}")
        for name in ("spikes", "start_spikes", "seconds", "learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < _LARGEST:
                bounds = f"positive and below {_LARGEST:g}" if value > 0 else "positive"
                raise ValueError(f"{name} must be {bounds}, got {value}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be {' or '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if not 0 <= self.price_rate < 1:
            raise ValueError(f"price_rate must be at least 0 and below 1, got {self.price_rate}")

    @property
    def steps(self) -> int:
        """Steps that take `tokens`."""
        return math.ceil(self.tokens / (self.batch * self.window))

    @property
    def first_spikes(self) -> float:
        """Spikes per activation at the start."""
        return self.spikes if self.start_spikes is None else self.start_spikes

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return {**asdict(self), "code_parameters": [list(pair) for pair in self.code_parameters]}
