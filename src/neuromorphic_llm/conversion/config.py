"""Options of a conversion."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from neuromorphic_llm.network.parts import PARTS
from neuromorphic_llm.options import check_choices, check_numbers, described, option

if TYPE_CHECKING:
    from neuromorphic_llm.devices.readout import Readout

_LATER = ("energy_j", "allocation", "compensation", "code_parameters", "readout", "readout_parameters", "ranges", "weights")
WEIGHTS = ("8-bit", "4-bit-groups")

GRAINS = MappingProxyType({"column": (), "block": (1,), "site": (0, 1)})
"""Grain of the ranges of a readout -> axes of [row_blocks, outputs] that share one."""


@described
@dataclass(frozen=True)
class ConvertConfig:
    """Options of convert(); raises ValueError naming the field.

    Exactly one of `spikes` (asked mean spikes per activation), `energy_j` (asked joules per token of the crossbar sites, by the cost of a
    spike given to convert()) and `price` (the Lagrange multiplier lambda of numerics.md; larger means fewer spikes) is set. What is asked
    is met within the share `tolerance`, or within twice that with a note in the network's provenance (`budget_note`). The stop table can
    only lower the spikes of a code, so a target above what the code emits without it cannot be met.
    `allocation` and `compensation` are names of docs/reference/conversion.md.
    """

    code: str = option("signed-digit", "Spike code; nmllm codes lists them.", choices="neuromorphic_llm.spikes.registry:SPIKE_CODES")
    code_parameters: tuple[tuple[str, int | bool | str], ...] = option(  # names and values (codes.md)
        (), "Parameter of the code, repeatable.", name="code-option", metavar="NAME=VALUE"
    )
    phases: int | None = option(None, "Phases of the code (default: the code's own).")
    spikes: float | None = option(1.5, "Mean spikes per activation to meet (default 1.5).", optional=True)
    query_spikes: float = option(
        1.8,
        "Mean spikes per query value of attention to meet; a model whose queries spike less keeps all (default 1.8).",
        optional=True,
    )
    price: float | None = option(None, "Price of a spike instead of a target; 0 keeps all spikes.", name="lambda")
    energy_j: float | None = option(None, "Joules per token to meet on --chip instead of spikes.", name="energy", metavar="JOULES")
    tolerance: float = option(
        0.01, "How far what is reached may lie from the target (0.01: 1 %); up to twice that, with a note.", metavar="SHARE"
    )
    allocation: str = option(
        "fisher",
        "Spikes among sites: fisher, greedy, teal or knunyants.",
        choices="neuromorphic_llm.conversion.allocation.methods:ALLOCATIONS",
    )
    compensation: tuple[str, ...] = option(
        (),
        "gptq, bias, means, rotation-hadamard or rotation-pca, repeatable.",
        name="compensate",
        metavar="NAME",
        choices="neuromorphic_llm.conversion.compensation.methods:COMPENSATIONS",
    )
    parts: str = option("all", "What spikes: all, feed-forward or attention.", choices=PARTS)
    weights: str = option(  # numerics.md, Group-scaled weights
        "8-bit", "Weights of the crossbars: 8-bit or 4-bit-groups.", choices=WEIGHTS
    )
    probability_bits: int = 10
    query_phases: int = 10
    seed: int = 0
    readout: str = "exact"  # that the network is for, and names and values of its parameters (devices.md)
    readout_parameters: tuple[tuple[str, int], ...] = ()
    ranges: str = option(
        "column", "What has a converter range of its own, where a readout has ranges: column, block or site.", choices=GRAINS
    )

    def __post_init__(self) -> None:
        check_choices(self)
        check_numbers(self)
        for name in ("code_parameters", "readout_parameters"):
            if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in getattr(self, name)):
                raise TypeError(f"{name} must be pairs of a name and a value, got {getattr(self, name)!r}")
        if sum(target is not None for target in (self.spikes, self.price, self.energy_j)) != 1:
            raise ValueError("exactly one of spikes, energy_j and price must be given")
        if self.weights != "8-bit" and "gptq" in self.compensation:
            raise ValueError(f"compensation gptq rounds to 8-bit weights and weights are {self.weights}; leave one out")
        if self.energy_j is not None and not 0.0 < self.energy_j < 1e3:
            raise ValueError(f"energy_j must be positive and below 1000 joules per token, got {self.energy_j}")
        if self.spikes is not None and not 0.0 < self.spikes < 1000.0:
            raise ValueError(f"spikes must be positive and below 1000, got {self.spikes}")
        if self.price is not None and not 0.0 <= self.price < 1e30:
            raise ValueError(f"price (lambda) must not be negative and must be below 1e30, got {self.price}")
        if not 0.0 < self.query_spikes < 1000.0:
            raise ValueError(f"query_spikes must be positive and below 1000, got {self.query_spikes}")
        if not 0.0 < self.tolerance < 1.0:
            raise ValueError(f"tolerance must lie between 0 and 1, got {self.tolerance}")
        if not isinstance(self.compensation, tuple):
            raise TypeError(f"compensation must be a tuple of names, got {self.compensation!r}")
        if len(set(self.compensation)) != len(self.compensation):
            raise ValueError(f"compensation names one method twice: {', '.join(self.compensation)}")

    def for_readout(self, readout: Readout) -> ConvertConfig:
        """Options of the same conversion for another readout."""
        parameters = readout.to_json()
        return replace(self, readout=parameters.pop("name"), readout_parameters=tuple(parameters.items()))

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields; options that conversion did not always have are left out at their defaults."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        later = {field.name: field.default for field in fields(self) if field.name in _LATER}
        return {name: value for name, value in values.items() if name not in later or getattr(self, name) != later[name]}


def default_target(code: str) -> dict[str, float | None]:
    """Target where none is asked for: the signed-digit code meets 1.5 spikes, the others keep all of theirs."""
    return {"spikes": 1.5, "price": None} if code == "signed-digit" else {"spikes": None, "price": 0.0}
