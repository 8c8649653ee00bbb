"""Energy account: counts times constants, split by part (docs/reference/energy.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.actions import Actions, all_counts, load_actions
from neuromorphic_llm.energy.constants import Constant, Range, load_constants
from neuromorphic_llm.energy.leakage import all_off
from neuromorphic_llm.energy.memories import Memory
from neuromorphic_llm.energy.prices import chip_prices, chip_quantities
from neuromorphic_llm.simulation.counters import Counters

SCOPE = "chip and its DRAM accesses"


@dataclass(frozen=True)
class EnergyAccount:
    """Energy in J by part, for `tokens` tokens that left the chip in `seconds`."""

    parts: Mapping[str, Range]
    tokens: int
    scope: str
    seconds: float

    @property
    def chip_energy_j(self) -> Range:
        """Sum of all parts, J; its scope is `scope`."""
        return Range.total(list(self.parts.values()))

    @property
    def chip_energy_j_per_token(self) -> Range:
        """Mean over the tokens of the account, J."""
        return self.chip_energy_j * (1 / self.tokens)

    def to_json(self) -> dict[str, Any]:
        """Scope, tokens, total and breakdown per token, J."""
        return {
            "scope": self.scope,
            "tokens": self.tokens,
            "energy_j_per_token": self.chip_energy_j_per_token.to_json(),
            "energy_breakdown_j": {name: (part * (1 / self.tokens)).to_json() for name, part in self.parts.items()},
        }


def account(
    counters: Counters,
    spec: ChipSpec,
    memories: Mapping[str, Memory],
    seconds: float,
    *,
    tokens: int = 1,
    constants: Mapping[str, Constant] | None = None,
    actions: Actions | None = None,
) -> EnergyAccount:
    """Energy of the counted operations on a chip with `memories` (chip_memories) that was powered for `seconds`.

    counters: what happened (prefill or decode); tokens: how many tokens that was, for the figures per token; actions: those of another
    chip than the package's. Raises ValueError for a negative time, fewer than one token, or counted bits of a memory that is not there.
    """
    if seconds < 0 or tokens < 1:
        raise ValueError(f"an account needs seconds >= 0 and tokens >= 1, got {seconds} and {tokens}")
    working = all_off(spec) if spec.gated else None
    prices = chip_prices(spec, memories, load_constants() if constants is None else constants, working)
    parts = (actions or load_actions()).energy(all_counts(counters, seconds), prices, chip_quantities(spec))
    return EnergyAccount(parts, tokens, SCOPE, seconds)
