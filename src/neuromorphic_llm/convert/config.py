"""What a conversion is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from neuromorphic_llm.network.format import PARTS


@dataclass(frozen=True)
class ConvertConfig:
    """Options of convert(); raises ValueError naming the field.

    Exactly one of `spikes` (asked mean spikes per activation, met within `tolerance`) and `price` (the Lagrange multiplier lambda of
    numerics.md; larger means fewer spikes) is set. The stop table can only lower the spikes of a code, so a target above what the
    code emits without it cannot be met. `query_spikes` is the mean per query value; a model whose queries spike less keeps all of them.
    """

    code: str = "signed-digit"
    phases: int | None = None
    spikes: float | None = 1.5
    price: float | None = None
    parts: str = "all"
    query_spikes: float = 1.8
    probability_bits: int = 10
    query_phases: int = 10
    tolerance: float = 0.01
    seed: int = 0
    code_parameters: tuple[tuple[str, int | bool | str], ...] = ()  # names and values (codes.md)

    def __post_init__(self) -> None:
        if self.parts not in PARTS:
            raise ValueError(f"parts must be one of {', '.join(PARTS)}, got {self.parts!r}")
        if (self.spikes is None) == (self.price is None):
            raise ValueError("exactly one of spikes and price must be given")
        if self.spikes is not None and not 0.0 < self.spikes < 1000.0:
            raise ValueError(f"spikes must be positive and below 1000, got {self.spikes}")
        if self.price is not None and not 0.0 <= self.price < 1e30:
            raise ValueError(f"price (lambda) must not be negative and must be below 1e30, got {self.price}")
        if not 0.0 < self.query_spikes < 1000.0:
            raise ValueError(f"query_spikes must be positive, got {self.query_spikes}")
        if not 0.0 < self.tolerance < 1.0:
            raise ValueError(f"tolerance must lie between 0 and 1, got {self.tolerance}")

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields, without the code's parameters if there are none."""
        values = asdict(self)
        return values if self.code_parameters else {name: value for name, value in values.items() if name != "code_parameters"}
