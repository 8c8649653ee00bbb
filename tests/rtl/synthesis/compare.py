"""Energy of an operation by synthesis, brought to the node of the energy account, beside what the account charges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from neuromorphic_llm.energy.constants import Range, load_constants
from neuromorphic_llm.energy.rtl_units import RtlUnit
from neuromorphic_llm.rtl.synthesis.energy import UnitEnergy
from neuromorphic_llm.rtl.synthesis.measure import Measurement
from synthesis import stimuli

ACCOUNT_NM, ACCOUNT_VOLT = 22, 0.8
FROM_NM, FROM_VOLT = 130, 1.2

_STILLMAKER = {130: (7.171, -6.709, 2.904), 32: (0.8367, -0.4341, 0.1701), 20: (0.373, -0.1582, 0.04104)}
"""Energy factor a V^2 + b V + c of Stillmaker and Baas, Integration 58 (2017), table 5, high-performance below 45 nm."""


@dataclass(frozen=True)
class Comparison:
    """J for one operation."""

    unit: str
    operation: str
    measured: dict[str, float]  # by library: lasting transitions and glitches
    with_clock: dict[str, float]
    scaled: Range
    account: Range

    @property
    def verdict(self) -> str:
        """Whether the account's bounds and those of synthesis meet."""
        if self.account.high == 0:
            return "not charged"
        if self.account.high < self.scaled.low:
            return f"too low by {self.scaled.low / self.account.high:.1f}"
        if self.account.low > self.scaled.high:
            return f"too high by {self.account.low / self.scaled.high:.1f}"
        return "within bounds"


def stillmaker_factor() -> float:
    """Energy at the account's node and voltage for 1 at 130 nm and 1.2 V; between 32 and 20 nm a power law in the node."""

    def factor(node: int, volt: float) -> float:
        a, b, c = _STILLMAKER[node]
        return a * volt**2 + b * volt + c

    share = math.log(32 / ACCOUNT_NM) / math.log(32 / 20)
    return factor(32, ACCOUNT_VOLT) ** (1 - share) * factor(20, ACCOUNT_VOLT) ** share / factor(FROM_NM, FROM_VOLT)


def capacitance_factor() -> float:
    """C V^2 with C in proportion to the node, as the account's own rule."""
    return ACCOUNT_NM / FROM_NM * (ACCOUNT_VOLT / FROM_VOLT) ** 2


def scaled(lasting: float, logic: float, clocked: float, floor: float) -> Range:
    """From 130 nm: low without glitches by Stillmaker and Baas, but no less than the 2 nm library takes (`floor`); high with the clock pins
    by C V^2; nominal with glitches, midway between the rules.
    """
    low, high = stillmaker_factor(), capacitance_factor()
    nominal = logic * math.sqrt(low * high)
    return Range(min(max(lasting * low, floor), nominal), nominal, clocked * high)


def compare(measurements: dict[str, Measurement], charged: RtlUnit, base: str, other: str) -> Comparison | None:
    """From the measurements of one unit by library; None where the base has none."""
    main = measurements.get(base)
    if main is None or main.energy is None:
        return None
    ran = {name: m for name, m in measurements.items() if m.energy}

    def each(energy: Callable[[UnitEnergy], float]) -> dict[str, float]:
        return {name: energy(m.energy) / m.operations[charged.per] for name, m in ran.items() if m.energy}

    lasting, measured = each(lambda e: e.lasting), each(lambda e: e.logic)
    clocked = each(lambda e: e.logic + e.clock)
    return Comparison(
        unit=main.unit,
        operation=charged.per,
        measured=measured,
        with_clock=clocked,
        scaled=scaled(lasting[base], measured[base], clocked[base], lasting.get(other, 0.0)),
        account=charged.energy(main.operations, stimuli.NANO, load_constants()),
    )
